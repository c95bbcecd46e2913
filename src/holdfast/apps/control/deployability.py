"""May this go out? Asked for a consumer, for a change, and for all that stands."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.apps.control.contract_schemas import CanDeploy, CanDeployBody, ReaderBody
from holdfast.apps.control.desk import Desk
from holdfast.apps.control.door import require_somewhere
from holdfast.core.access import Grant
from holdfast.core.contracts import Reader, World, can_deploy, environments_of
from holdfast.core.errors import CallerError, Invalid, NotFound, Problem
from holdfast.core.needs import check_contract
from holdfast.core.pointer import below
from holdfast.core.state import State


def ask(state: State, world: World, caller: Grant, body: CanDeployBody) -> CanDeploy:
    """The answer for a consumer, or for all contracts that the caller may see as things stand."""
    if body.reader is None:
        readers = [*_published(state, caller)]
    else:
        require_somewhere(caller, "read", body.reader.service)
        readers = [_reader(state, body.reader)]
    for environment in body.environments:
        if environment not in state.environments:
            raise NotFound(f"there is no environment {environment!r}")
    problems: list[Problem] = []
    asked: set[str] = set()
    for reader in readers:
        held = environments_of(state, reader.service, reader.contract)
        where = list(body.environments) or held
        asked.update(where)
        found = can_deploy(state, reader, where, world)
        prefix = f"/services/{reader.service}/contracts/{reader.consumer}"
        problems += found if body.reader else below(prefix, found)
    return CanDeploy(
        ok=not any(problem.severity == "error" for problem in problems),
        problems=tuple(problems),
        revision=state.head.revision,
        contracts=len(readers),
        environments=tuple(sorted(asked)),
    )


def ask_for_change(state: State, desk: Desk, caller: Grant, body: CanDeployBody) -> CanDeploy:
    """The answer for a change: all that would keep it back. Runs on the writer thread."""
    if body.change is None or body.reader is not None or body.environments:
        raise CallerError("ask for a `change` alone: it goes where its settings stand")
    checked = desk.check(caller, body.change)
    return CanDeploy(
        ok=checked.ok,
        problems=checked.problems,
        revision=checked.base_revision,
        contracts=sum(map(len, state.contracts.values())),
        environments=tuple(
            sorted({name for one in checked.differences for name in one.environments})
        ),
    )


def _published(state: State, caller: Grant) -> Iterator[Reader]:
    for service, contracts in sorted(state.contracts.items()):
        if caller.allows_somewhere("read", service):
            for consumer, kept in sorted(contracts.items()):
                yield Reader(service, consumer, kept.contract)


def _reader(state: State, body: ReaderBody) -> Reader:
    """Raises `NotFound`, and `Invalid` for a contract that is none."""
    if body.service not in state.services:
        raise NotFound(f"there is no service {body.service!r}")
    if body.contract is not None:
        problems = check_contract(body.consumer, body.contract)
        if problems:
            raise Invalid(list(below("/reader/contract", problems)))
        return Reader(body.service, body.consumer, body.contract)
    kept = state.contracts.get(body.service, {}).get(body.consumer)
    if kept is None:
        raise NotFound(f"{body.service} has no contract of {body.consumer!r}")
    return Reader(body.service, body.consumer, kept.contract)
