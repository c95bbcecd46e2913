"""What callers may know before they commit: who a change moves; and what lint says of what stands.

A draft is worked out on the writer thread; what takes time is done on a reader's.
"""

from __future__ import annotations

import msgspec

from holdfast.apps.control import impact_schemas as shapes
from holdfast.apps.control.desk import Desk
from holdfast.core.access import Grant
from holdfast.core.authority import authorise
from holdfast.core.difference import diff
from holdfast.core.errors import Invalid, Problem
from holdfast.core.fold import after
from holdfast.core.impact import Impact
from holdfast.core.lint import day, lint
from holdfast.core.reports import Sample
from holdfast.core.state import State
from holdfast.core.subjects import subjects
from holdfast.core.validate import validate
from holdfast.engine.foresight import Foresight
from holdfast.engine.members import settle
from holdfast.ports import Blobs, Clock


class Sketch(msgspec.Struct, frozen=True):
    """A change worked out: what stands, and what would."""

    old: State
    new: State


class Outlook:
    """One node's previews on behalf of callers."""

    def __init__(self, desk: Desk, foresight: Foresight, blobs: Blobs, clock: Clock) -> None:
        self._desk = desk
        self._foresight = foresight
        self._blobs = blobs
        self._clock = clock

    def sketch(self, caller: Grant, body: shapes.ImpactBody) -> Sketch:
        """On the writer thread. Raises `Forbidden` where the commit would be, and `Invalid` with
        all problems that keep the change from standing."""
        change, problems = self._desk.draft(body)
        old = self._desk.head(change.base_revision)
        edits, found = settle(change.edits, old, self._blobs)
        new = after(old, edits)
        wrong = [*problems, *found]
        if not _errors(wrong):
            wrong += validate(old, edits, new)
        if _errors(wrong):
            raise Invalid(_errors(wrong))
        authorise(caller, edits, diff(old, new), old)
        return Sketch(old, new)

    def impact(self, caller: Grant, sketch: Sketch, body: shapes.ImpactBody) -> Impact:
        """Who it moves, as far as the caller may read. Raises `Invalid`."""
        given = None
        if body.contexts is not None:
            samples = tuple(Sample(each.context, each.count) for each in body.contexts)
            given = dict.fromkeys(subjects(sketch.old) | subjects(sketch.new), samples)
        found = self._foresight.impact(sketch.old, sketch.new, body.environment or "", given)
        return _seen_by(caller, found)

    def lint(self, caller: Grant, state: State, environment: str, service: str) -> shapes.Linted:
        """Findings of what stands in an environment, with what was sampled."""
        today = day(self._clock())
        names = [
            name
            for name in state.services
            if service in ("", name) and caller.allows("read", environment, name)
        ]
        only = {(name, key) for name in names for key in ("", *state.services[name].settings)}
        seen = self._foresight.seen()
        found = lint(state.services, today=today, only=only, environment=environment, seen=seen)
        return shapes.Linted(tuple(found))


def _seen_by(caller: Grant, found: Impact) -> Impact:
    """Without services that the caller may not read; totals are of the whole."""

    def may(environment: str, service: str) -> bool:
        return caller.allows("read", environment, service)

    return msgspec.structs.replace(
        found,
        subjects=tuple(one for one in found.subjects if may(one.environment, one.service)),
        downstream=tuple(one for one in found.downstream if may(one.environment, one.service)),
        unseen=tuple(one for one in found.unseen if may(*_subject(one))),
    )


def _subject(text: str) -> tuple[str, str]:
    environment, _, service = text.partition("/")
    return environment, service


def _errors(problems: list[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity == "error"]
