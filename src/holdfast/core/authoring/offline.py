"""What the write door says of files that are together: what one file alone does not show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from holdfast.core.authoring.batch import Plan
from holdfast.core.authoring.compiling import Compiled
from holdfast.core.authoring.document import Document
from holdfast.core.authoring.tree import steps
from holdfast.core.errors import Problem
from holdfast.core.fold import after
from holdfast.core.lint import lint
from holdfast.core.model import (
    Edit,
    Environment,
    PutEnvironment,
    PutSegment,
    PutService,
    PutSetting,
)
from holdfast.core.pointer import pointer
from holdfast.core.state import EMPTY, SegmentState, ServiceState, SettingState, State
from holdfast.core.validate import validate

TOGETHER = frozenset({"key-collision", "include-cycle", "too-large", "too-many"})
"""Problems of files together; all others are those of one file, and found there."""


def check_together(plan: Plan) -> tuple[Problem, ...]:
    """Problems that the plan's services have with one another, each with its file and line.

    They are looked at as if nothing else stood; every environment that they name does.
    """
    documents = {document.service: document for document in plan.documents}
    known = {(problem.code, problem.file, problem.path) for problem in plan.problems}
    found = (
        _placed(problem, documents[_service(problem)])
        for problem in validate(EMPTY, tuple(_edits(plan.compiled)))
        if problem.code in TOGETHER and _service(problem) in documents
    )
    return tuple(
        problem for problem in found if (problem.code, problem.file, problem.path) not in known
    )


def standing(plan: Plan) -> State:
    """The state in which the plan's services stand, the environments that they name, and no more.

    The plan has no errors, nor do `check_together` and the like find any.
    """
    return after(EMPTY, tuple(_edits(plan.compiled)))


def lint_together(plan: Plan, today: str) -> tuple[Problem, ...]:
    """What `core.lint` finds in the plan's services, placed; those with errors are left out."""
    wrong = {problem.file for problem in plan.problems if problem.severity == "error"}
    services = {
        one.service: _standing(one)
        for document, one in zip(plan.documents, plan.compiled, strict=True)
        if document.file not in wrong
    }
    return placed(lint(services, today=today), plan.documents)


def placed(problems: Iterable[Problem], documents: Iterable[Document]) -> tuple[Problem, ...]:
    """Problems of the control plane's state, each in the file that speaks of it, if one does."""
    by_service = {document.service: document for document in documents}
    return tuple(
        _placed(problem, by_service[_service(problem)])
        if not problem.file
        and problem.path.startswith("/services/")
        and _service(problem) in by_service
        else problem
        for problem in problems
    )


def _standing(one: Compiled) -> ServiceState:
    return ServiceState(
        info=one.info,
        settings={key: SettingState(setting) for key, setting in one.settings.items()},
        segments={name: SegmentState(segment) for name, segment in one.segments.items()},
    )


def _edits(compiled: Iterable[Compiled]) -> Iterator[Edit]:
    services = tuple(compiled)
    for name in sorted({name for one in services for name in _environments(one)}):
        yield PutEnvironment(name, Environment())
    for one in services:
        yield PutService(one.service, one.info)
        for key, setting in one.settings.items():
            yield PutSetting(one.service, key, setting)
        for name, segment in one.segments.items():
            yield PutSegment(one.service, name, segment)


def _environments(one: Compiled) -> Iterator[str]:
    for setting in one.settings.values():
        yield from setting.environments
    for segment in one.segments.values():
        yield from segment.environments


def _service(problem: Problem) -> str:
    """The service of a path `/services/<name>/…`; names need no escape."""
    return (problem.path.split("/", maxsplit=3) + [""] * 3)[2]


def _placed(problem: Problem, document: Document) -> Problem:
    """The problem in its file, at the key of the setting, segment or field that it is about."""
    inside = problem.path.removeprefix(pointer(("services", document.service)))
    path = steps(inside, document.tree.root)
    place = document.tree.problem(problem.code, problem.message, path, problem.hint, at_key=True)
    return msgspec.structs.replace(place, severity=problem.severity)
