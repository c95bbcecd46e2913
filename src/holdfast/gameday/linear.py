"""Is a recorded history of a journal linearizable? And did watchers see all of it, in order?

The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993), with Lowe's
memoisation ("Testing for linearizability", 2017): an order of all operations is looked for that
respects real time and that a journal on one thread could have answered so. A configuration, which
is a set of operations done and the journal after them, is entered once at most. Four things keep
the search narrow:

- An operation that leaves the journal as it is, and fits now, is done now: doing it later can't
  help any other one.
- What is done is told as "all before the n-th, and these": a window, however long the history.
- An append whose outcome is unknown is done only where it takes effect. It need not be done ever.
- A journal only grows: what an answer says of a revision holds for that revision in every order.

Pure, and bounded: a history may be too hard, and then that is the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

CONFIGURATIONS_MAX: Final = 1_000_000


class Append(msgspec.Struct, frozen=True, tag=True):
    """Append the entry `name` if the journal's revision is `expected`; with none, in any case.

    Names of entries are unique in a history: a name that is read twice was appended twice.
    """

    name: str
    expected: int | None = None


class Look(msgspec.Struct, frozen=True, tag=True):
    """Read the head."""


class Read(msgspec.Struct, frozen=True, tag=True):
    """Read the entries above a revision, at most so many."""

    after: int = 0
    limit: int | None = None


class Appended(msgspec.Struct, frozen=True, tag=True):
    """Acknowledged, as this revision."""

    revision: int


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The journal's revision was not the expected one: nothing was appended."""


class Seen(msgspec.Struct, frozen=True, tag=True):
    """The head: its revision, and the name of its entry; 0 and "" for an empty journal."""

    revision: int
    name: str


class Names(msgspec.Struct, frozen=True, tag=True):
    """The names of the entries that were read, in order."""

    names: tuple[str, ...]


Call: TypeAlias = Append | Look | Read
Outcome: TypeAlias = Appended | Refused | Seen | Names


class Operation(msgspec.Struct, frozen=True):
    """What was asked when, and what came when, on one monotonic clock.

    `outcome` is none for an append that may or may not have taken effect, until the end of time.
    """

    who: str
    call: Call
    called_s: float
    outcome: Outcome | None = None
    returned_s: float = math.inf


class Verdict(msgspec.Struct, frozen=True):
    """`order`: indices into the history, one order that explains it.

    `stuck`: where none does, indices of operations of which one had to come next, and none could,
    at the point that the search got farthest to.
    """

    text: Literal["linearizable", "not linearizable", "too hard"]
    configurations: int
    order: tuple[int, ...] = ()
    stuck: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        return self.text == "linearizable"


def linearizable(
    history: Sequence[Operation],
    first: Sequence[str] = (),
    configurations_max: int = CONFIGURATIONS_MAX,
) -> Verdict:
    """Whether one journal, of the entries `first` at first, could have given these answers."""
    return _Search(history, first).run(configurations_max)


class _Place(msgspec.Struct, frozen=True):
    """A configuration. `window`: bits of the completed operations done from the `begin`-th on."""

    begin: int
    window: int
    effects: int
    journal: int


class _Search:
    """One search. Journals are numbered: each is another one and one name more."""

    def __init__(self, history: Sequence[Operation], first: Sequence[str]) -> None:
        self._history = history
        by_call = sorted(range(len(history)), key=lambda index: history[index].called_s)
        self._done = [index for index in by_call if history[index].outcome is not None]
        unknown = [index for index in by_call if history[index].outcome is None]
        self._unknown = [index for index in unknown if isinstance(history[index].call, Append)]
        self._lasts = [""]
        self._parents = [-1]
        self._lengths = [0]
        self._grown: dict[tuple[int, str], int] = {}
        self._told = {
            revision: name for index in by_call for revision, name in _told(history[index])
        }
        self._begun = 0
        for name in first:
            grown = self._grow(self._begun, name)
            self._begun = self._begun if grown is None else grown

    def run(self, configurations_max: int) -> Verdict:
        """Depth first, on a stack of its own: histories are longer than Python's."""
        first = _Place(0, 0, 0, self._begun)
        seen = {first}
        order: list[int] = []
        stack = [self._next(first)]
        farthest, stuck_at = 0, first
        place = first
        while place.begin < len(self._done):
            found = next((step for step in stack[-1] if step[1] not in seen), None)
            if found is None:
                stack.pop()
                if not stack:
                    return Verdict("not linearizable", len(seen), stuck=self._open(stuck_at))
                order.pop()
                continue
            if len(seen) >= configurations_max:
                return Verdict("too hard", len(seen), stuck=self._open(stuck_at))
            index, place = found
            seen.add(place)
            order.append(index)
            stack.append(self._next(place))
            if place.begin >= farthest:
                farthest, stuck_at = place.begin, place
        return Verdict("linearizable", len(seen), order=tuple(order))

    def _next(self, place: _Place) -> Iterator[tuple[int, _Place]]:
        """(index, where it leads) of each operation that may be the next one."""
        ready, end_s = self._ready(place)
        grows: list[tuple[int, _Place]] = []
        for position in ready:
            index = self._done[position]
            journal = self._after(place.journal, self._history[index])
            if journal is not None:
                step = index, self._with(place, position, journal)
                if journal == place.journal:
                    yield step
                    return
                grows.append(step)
        yield from grows
        yield from self._effects(place, end_s)

    def _ready(self, place: _Place) -> tuple[list[int], float]:
        """Positions of completed operations called before any that is not done had returned."""
        end_s, ready = math.inf, []
        for position in range(place.begin, len(self._done)):
            one = self._history[self._done[position]]
            if one.called_s > end_s:
                break
            if not place.window >> (position - place.begin) & 1:
                end_s = min(end_s, one.returned_s)
                ready.append(position)
        return ready, end_s

    def _effects(self, place: _Place, end_s: float) -> Iterator[tuple[int, _Place]]:
        for position, index in enumerate(self._unknown):
            one = self._history[index]
            if one.called_s > end_s:
                return
            assert isinstance(one.call, Append)  # noqa: S101  so they were chosen
            if not place.effects >> position & 1 and self._fits(place.journal, one.call):
                journal = self._grow(place.journal, one.call.name)
                if journal is not None:
                    effects = place.effects | 1 << position
                    yield index, _Place(place.begin, place.window, effects, journal)

    def _with(self, place: _Place, position: int, journal: int) -> _Place:
        window = place.window | 1 << (position - place.begin)
        begin = place.begin
        while window & 1:
            window >>= 1
            begin += 1
        return _Place(begin, window, place.effects, journal)

    def _open(self, place: _Place) -> tuple[int, ...]:
        return tuple(self._done[position] for position in self._ready(place)[0])

    # -- the journal on one thread

    def _after(self, journal: int, one: Operation) -> int | None:
        """The journal after it; none where it would have answered otherwise."""
        call, outcome, length = one.call, one.outcome, self._lengths[journal]
        if isinstance(call, Append):
            if isinstance(outcome, Refused):
                return None if self._fits(journal, call) else journal
            fits = self._fits(journal, call) and outcome == Appended(length + 1)
            return self._grow(journal, call.name) if fits else None
        if isinstance(call, Look):
            return journal if outcome == Seen(length, self._lasts[journal]) else None
        return journal if outcome == Names(self._names(journal, call)) else None

    def _fits(self, journal: int, call: Append) -> bool:
        return call.expected in {None, self._lengths[journal]}

    def _grow(self, journal: int, name: str) -> int | None:
        """The journal with one entry more; none where an answer says that it was another one."""
        revision = self._lengths[journal] + 1
        if self._told.get(revision, name) != name:
            return None
        number = self._grown.get((journal, name))
        if number is None:
            number = self._grown[journal, name] = len(self._lasts)
            self._lasts.append(name)
            self._parents.append(journal)
            self._lengths.append(revision)
        return number

    def _names(self, journal: int, call: Read) -> tuple[str, ...]:
        end = math.inf if call.limit is None else call.after + call.limit
        found = []
        while self._lengths[journal] > call.after:
            if self._lengths[journal] <= end:
                found.append(self._lasts[journal])
            journal = self._parents[journal]
        return tuple(reversed(found))


def _told(one: Operation) -> Iterator[tuple[int, str]]:
    """(revision, name) of the entries that its answer tells of."""
    call, outcome = one.call, one.outcome
    if isinstance(call, Append) and isinstance(outcome, Appended):
        yield outcome.revision, call.name
    elif isinstance(outcome, Seen) and outcome.revision:
        yield outcome.revision, outcome.name
    elif isinstance(call, Read) and isinstance(outcome, Names):
        yield from enumerate(outcome.names, call.after + 1)


class Delivery(msgspec.Struct, frozen=True):
    """A watcher was given an entry. One watcher goes on where it was, whatever lines it loses."""

    watcher: str
    revision: int
    name: str


def watch_faults(
    deliveries: Sequence[Delivery], journal: Sequence[str], begins: Mapping[str, int]
) -> list[str]:
    """All that is wrong with what watchers were given, each in the order it came; empty when well.

    `journal`: the names of its entries in the end, from revision 1 on. `begins`: of each watcher
    the revision it began to watch after. Each has to be given every later entry once, in order.
    """
    found = []
    next_one = {watcher: after + 1 for watcher, after in begins.items()}
    for one in deliveries:
        wanted = next_one[one.watcher]
        if one.revision > wanted:
            found.append(f"{one.watcher}: gap: {wanted} to {one.revision - 1} never came")
        elif one.revision < wanted:
            found.append(f"{one.watcher}: {one.revision} came again, or after {wanted - 1}")
        right = journal[one.revision - 1] if 0 < one.revision <= len(journal) else "nothing"
        if one.name != right:
            found.append(f"{one.watcher}: {one.revision} was {one.name}, the journal has {right}")
        next_one[one.watcher] = max(wanted, one.revision + 1)
    found += [
        f"{watcher}: {wanted} to {len(journal)} never came"
        for watcher, wanted in next_one.items()
        if wanted <= len(journal)
    ]
    return found
