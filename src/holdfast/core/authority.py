"""Which rights a change takes, item by item; `core.access` says which rights a token gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from holdfast.core.access import Grant
from holdfast.core.difference import Difference
from holdfast.core.errors import Forbidden
from holdfast.core.model import (
    DeleteToken,
    Edit,
    MoveRollout,
    PutContexts,
    PutOverride,
    PutToken,
    Scope,
    TouchSubject,
    Verb,
)
from holdfast.core.state import State

EVERY: Final = "*"


class Rights(Protocol):
    """What the caller may do; `core.access.Grant` is one."""

    def allows(self, verb: Verb, environment: str, service: str) -> bool: ...

    def allows_somewhere(self, verb: Verb, service: str) -> bool: ...


def authorise(
    rights: Rights, edits: Sequence[Edit], differences: Sequence[Difference], state: State
) -> None:
    """Raise `Forbidden`, naming the first right that is missing. `state` is the one before.

    Write is needed in each environment whose answers an item may change; for an item that changes
    none, as a description, in any one. Who includes a service must be able to read it there: its
    settings are the other's own from then on. Environments, their policies and roots need admin, a
    token admin over all that it gives or gave. Who moves a rollout could have made its change.
    """
    for difference in differences:
        for verb, environment, service in _needed(difference):
            if environment:
                allowed = rights.allows(verb, environment, service)
            else:
                allowed = rights.allows_somewhere(verb, service)
            if not allowed:
                raise _forbidden(verb, environment, service)
    for scope in _scopes(edits, state):
        if not rights.allows("admin", scope.environment, scope.service):
            raise _forbidden("admin", scope.environment, scope.service)
    for environment, service in _moved(edits, state):
        if not rights.allows("write", environment, service):
            raise _forbidden("write", environment, service)


def may(
    rights: Rights, edits: Sequence[Edit], differences: Sequence[Difference], state: State
) -> bool:
    """Whether `authorise` lets these rights through."""
    try:
        authorise(rights, edits, differences, state)
    except Forbidden:
        return False
    return True


def grant_of(state: State, token: str, now_s: float) -> Grant | None:
    """What a token may do today; none when it is revoked or has expired."""
    found = state.tokens.get(token)
    if found is None or 0 < found.token.expires_s <= now_s:
        return None
    return Grant(token=token, name=found.token.name, scopes=found.token.scopes)


def _needed(difference: Difference) -> Iterator[tuple[Verb, str, str]]:
    if difference.kind == "root":
        yield "admin", EVERY, EVERY
    elif difference.kind == "environment":
        yield "admin", difference.name, EVERY
    elif difference.kind == "contract":  # it binds who publishes wherever it holds
        for contract in filter(None, (difference.before, difference.after)):
            for environment in contract.get("environments") or (EVERY,):
                yield "write", environment, difference.service
    elif difference.kind in ("setting", "segment", "service"):
        for environment in difference.environments or ("",):
            yield "write", environment, difference.service
            for name in _newly_included(difference):
                yield "read", environment, name


def _newly_included(difference: Difference) -> list[str]:
    """Services whose settings the service has from now on, and so whoever may read it."""
    if difference.kind != "service" or difference.after is None:
        return []
    before = (difference.before or {}).get("includes", ())
    return [name for name in difference.after.get("includes", ()) if name not in before]


def _scopes(edits: Sequence[Edit], state: State) -> Iterator[Scope]:
    for edit in edits:
        if isinstance(edit, PutToken | DeleteToken):
            old = state.tokens.get(edit.token)
            yield from old.token.scopes if old else ()
            yield from edit.to.scopes if isinstance(edit, PutToken) else ()


def _moved(edits: Sequence[Edit], state: State) -> Iterator[tuple[str, str]]:
    """(environment, service) of moved rollouts, put contexts and what stands over a subject."""
    for edit in edits:
        if isinstance(edit, PutContexts | PutOverride | TouchSubject):
            yield edit.environment, edit.service
        elif isinstance(edit, MoveRollout) and edit.rollout in state.rollouts:
            rollout = state.rollouts[edit.rollout]
            before = rollout.before
            for service in sorted({*before.settings, *before.segments, *before.services}):
                yield rollout.environment, service


def _forbidden(verb: Verb, environment: str, service: str) -> Forbidden:
    where = f"{environment or 'any environment'}/{service}"
    return Forbidden(f"this takes a token with the verb {verb} for {where}")
