"""Questions about what stands and what was: search, history, an entry, a past state, undoing.

Everything here is bounded: a page, the entries looked through for one page, the states kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from holdfast.core.difference import Difference, diff
from holdfast.core.errors import NotFound
from holdfast.core.fold import fold
from holdfast.core.lineage import Standing
from holdfast.core.model import (
    DeleteService,
    DeleteSetting,
    Edit,
    Entry,
    PutSetting,
    Subject,
)
from holdfast.core.revert import Undo, restore, revert
from holdfast.core.state import EMPTY, SettingState, State
from holdfast.engine.views import View
from holdfast.ports import Journal

STATES_MAX: Final = 64
"""Past states kept; they share all that did not change between them."""
_ANCHOR_ENTRIES: Final = 4_096
LOOKED_THROUGH_MAX: Final = 20_000
"""Entries looked through for one page of history, about a fifth of a second."""
_BATCH: Final = 500


class FoundSetting(msgspec.Struct, frozen=True):
    service: str
    key: str
    state: SettingState


class Settings(msgspec.Struct, frozen=True):
    """A page in the order of service and key. `cursor` continues after it; empty at the end."""

    settings: tuple[FoundSetting, ...]
    cursor: str = ""


class History(msgspec.Struct, frozen=True):
    """A page, newest first. `before` continues it; 0 at the end.

    A page may be short, or empty, and not be the last: it ends where too much was looked through.
    """

    entries: tuple[Entry, ...]
    before: int = 0


class Records:
    """Reads over a view and its journal. Thread-safe."""

    def __init__(self, view: View, journal: Journal) -> None:
        self._view = view
        self._journal = journal
        self._lock = threading.Lock()
        self._states: OrderedDict[int, State] = OrderedDict()
        view.subscribe(self._keep_standing)

    def settings(
        self,
        query: str = "",
        *,
        service: str = "",
        environment: str = "",
        limit: int = 100,
        cursor: str = "",
    ) -> Settings:
        """Settings whose key, service or description holds every word of `query`, in any case."""
        found: list[FoundSetting] = []
        words = query.casefold().split()
        for one in self._in_order(service, cursor):
            if environment and environment not in one.state.setting.environments:
                continue
            text = f"{one.service}/{one.key}\n{one.state.setting.description}".casefold()
            if all(word in text for word in words):
                if len(found) == limit:
                    last = found[-1]
                    return Settings(tuple(found), f"{last.service}/{last.key}")
                found.append(one)
        return Settings(tuple(found))

    def history(
        self, *, service: str = "", key: str = "", before: int = 0, limit: int = 100
    ) -> History:
        """Entries below revision `before` (0: from the newest), newest first.

        With `service` only those that edit it, with `key` only those that edit that setting.
        """
        above = min(before or self._head() + 1, self._head() + 1)
        floor = max(0, above - 1 - LOOKED_THROUGH_MAX)
        found: list[Entry] = []
        for entry in self._backwards(above, floor):
            if any(_edits(edit, service, key) for edit in entry.edits):
                if len(found) == limit:
                    return History(tuple(found), found[-1].revision)
                found.append(entry)
        return History(tuple(found), floor + 1 if floor else 0)

    def knows(self, service: str) -> bool:
        """Whether a service stands, or once did."""
        state = self._view.state
        return service in state.services or service in state.gone

    def entry(self, revision: int) -> Entry:
        """One entry. Raises `NotFound` when there is none of that revision."""
        if revision > 0:
            for entry in self._journal.read(revision - 1, 1):
                return entry
        raise _no_revision(revision, self._head())

    def changes(self, revision: int) -> tuple[Difference, ...]:
        """What the entry of that revision changed."""
        entry, before = self.entry(revision), self.state_at(revision - 1)
        return diff(before, fold(before, entry))

    def differences(self, old_revision: int, new_revision: int) -> tuple[Difference, ...]:
        """All that differs between two revisions."""
        return diff(self.state_at(old_revision), self.state_at(new_revision))

    def state_at(self, revision: int) -> State:
        """The state as of a revision: at once near the head, else folded from the last one kept.

        About 15 us an entry between them. Raises `NotFound` for a revision that isn't there yet.
        """
        head = self._view.state
        if revision == head.head.revision:
            return head
        if not 0 <= revision <= head.head.revision:
            raise _no_revision(revision, head.head.revision)
        with self._lock:
            state = self._states.get(revision)
            if state is not None:
                self._states.move_to_end(revision)
                return state
            below = max((kept for kept in self._states if kept < revision), default=0)
            state = self._states.get(below, EMPTY)
        for entry in self._journal.read(below, revision - below):
            state = fold(state, entry)
            if entry.revision % _ANCHOR_ENTRIES == 0:
                self._keep(state)
        self._keep(state)
        return state

    def revert(self, first_revision: int, last_revision: int) -> Undo:
        """Edits that undo the revisions from the first to the last on today's head."""
        after, before = self.state_at(last_revision), self.state_at(first_revision - 1)
        return revert(before, after, self._view.state)

    def restore(self, service: str, key: str = "", revision: int = 0) -> Undo:
        """Edits that bring back a setting, or with no key the whole service.

        As of `revision`; with 0 as it stood before its removal. Raises `NotFound` when there is no
        trace of a removal.
        """
        head = self._view.state
        at = revision or _stands_at(head, service, key) or _removed_at(head, service, key) - 1
        if at < 0:
            what = f"{service}/{key}" if key else f"the service {service}"
            raise NotFound(f"nothing shows that {what} was removed")
        return restore(self.state_at(at), head, service, key)

    def _head(self) -> int:
        return self._view.state.head.revision

    def _in_order(self, service: str, cursor: str) -> Iterator[FoundSetting]:
        after = tuple(cursor.split("/", 1))
        services = self._view.state.services
        for name in (service,) if service else sorted(services):
            if name in services and (name,) >= after[:1]:
                settings = services[name].settings
                for key in sorted(settings):
                    if (name, key) > after:
                        yield FoundSetting(name, key, settings[key])

    def _backwards(self, above: int, floor: int) -> Iterator[Entry]:
        while above - 1 > floor:
            after = max(floor, above - 1 - _BATCH)
            yield from reversed(tuple(self._journal.read(after, above - 1 - after)))
            above = after + 1

    def _keep_standing(self, standing: Standing, _: Mapping[Subject, bytes]) -> None:
        self._keep(standing.state)

    def _keep(self, state: State) -> None:
        with self._lock:
            self._states[state.head.revision] = state
            self._states.move_to_end(state.head.revision)
            while len(self._states) > STATES_MAX:
                self._states.popitem(last=False)


def _edits(edit: Edit, service: str, key: str) -> bool:
    if not service:
        return True
    if getattr(edit, "service", "") != service:  # environments, tokens and the like have none
        return False
    if not key:
        return True
    if isinstance(edit, PutSetting | DeleteSetting):
        return edit.key == key
    return isinstance(edit, DeleteService)


def _stands_at(head: State, service: str, key: str) -> int:
    """The head's revision when the setting, or with no key the service, stands there; else 0."""
    owner = head.services.get(service)
    return head.head.revision if owner and (not key or key in owner.settings) else 0


def _removed_at(head: State, service: str, key: str) -> int:
    """The newest revision that took the setting, or with no key the service, away; 0 for none."""
    kept = head.services.get(service) or head.gone.get(service)
    if kept is None:
        return 0
    if not key:
        return max(kept.touched.values(), default=0)
    return max((keys.get(key, 0) for keys in kept.removed.values()), default=0)


def _no_revision(revision: int, head: int) -> NotFound:
    return NotFound(f"there is no revision {revision}: the journal has 1 to {head}")
