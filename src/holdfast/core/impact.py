"""Who a change would move: what stands against what would stand, over contexts really seen.

    impact(old, new, samples, tables=…, now_s=…) -> Impact

A request is one sampled context times its count; it is moved when the value of any setting that was
there before is another one in it. Tenants are told apart by their attribute `tenant`, users by the
`targetingKey`, which arrives hashed: what falls into a split by it falls into shares of the same
size, and not each user into the same one. All other attributes are exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from holdfast.core.model import JSON, TARGETING_KEY, Subject
from holdfast.core.preview import Side, attributes_read, place_of, side_of, suspects
from holdfast.core.reports import Sample
from holdfast.core.state import State, same
from holdfast.core.subjects import subjects
from holdfast.core.targeting.explain import shown
from holdfast.core.targeting.outcome import Outcome

TENANT: Final = "tenant"
MOVES_MAX: Final = 16
"""Moves of one setting that are listed, the largest first."""
EXAMPLES_MAX: Final = 3
SETTINGS_MAX: Final = 200
"""Settings of one subject that are listed; all are counted."""
HASHED: Final = (
    "Users are counted by a hash of their targetingKey. What splits by it moves as large a share "
    "of them as here, and not the same ones."
)

Tables: TypeAlias = Callable[[str], bytes | None]
Samples: TypeAlias = Mapping[Subject, Sequence[Sample]]
_Group: TypeAlias = tuple[Mapping[str, Any], Sequence[int]]
"""A context, and the numbers of all samples that say the same to a rule."""


class Reached(msgspec.Struct, frozen=True):
    """How many: requests as sampled, their percentage of those seen, distinct tenants and users."""

    requests: int = 0
    percent: float = 0.0
    tenants: int = 0
    users: int = 0


class Move(msgspec.Struct, frozen=True):
    """From one value to another. A variant that is none stands for the caller's own default.

    Values are cut to a readable size; `examples` are contexts that it happens to.
    """

    before: JSON
    after: JSON
    before_variant: str | None
    after_variant: str | None
    reached: Reached
    examples: tuple[dict[str, JSON], ...] = ()


class SettingImpact(msgspec.Struct, frozen=True):
    """One setting of a subject; `service` owns it. One that is `added` counts in no total."""

    key: str
    service: str
    reached: Reached
    moves: tuple[Move, ...] = ()
    added: bool = False
    removed: bool = False


class SubjectImpact(msgspec.Struct, frozen=True):
    """A service in an environment: what was seen of it, and what of that would move.

    `settings` are those that move, the widest first; `unmoved` counts others whose source differs.
    """

    environment: str
    service: str
    seen: Reached
    moved: Reached
    settings: tuple[SettingImpact, ...] = ()
    unmoved: int = 0


class Downstream(msgspec.Struct, frozen=True):
    """A service that depends on a moved one, over `way`, which ends there.

    `moved`: its own requests by tenants that move there; none are known without that attribute.
    """

    environment: str
    service: str
    way: tuple[str, ...]
    moved: Reached


class Impact(msgspec.Struct, frozen=True):
    """What a change would do to what was seen. `unseen` are changed subjects without samples."""

    subjects: tuple[SubjectImpact, ...] = ()
    downstream: tuple[Downstream, ...] = ()
    unseen: tuple[str, ...] = ()
    seen: Reached = Reached()
    moved: Reached = Reached()
    notes: tuple[str, ...] = ()


def impact(  # noqa: PLR0913 - two states, what was seen, and what evaluating takes
    old: State,
    new: State,
    samples: Samples,
    *,
    tables: Tables,
    now_s: float,
    environment: str = "",
) -> Impact:
    """What the change from `old` to `new` does in one environment, or in all.

    Rollouts are left out: it is the change's whole effect, once everybody has it. Raises `Invalid`
    for a state that can't be built.
    """
    found: list[tuple[SubjectImpact, _Tally]] = []
    unseen: list[str] = []
    for subject in sorted(subjects(old) | subjects(new)):
        if environment not in ("", subject.environment) or subject.service.startswith("_"):
            continue
        keys = suspects(old, new, subject)
        if not keys:
            continue
        sides = tuple(side_of(state, subject, keys, tables, now_s) for state in (old, new))
        differing = _differing(*sides)
        if not differing:
            continue
        seen = samples.get(subject, ())
        if not seen:
            unseen.append(str(subject))
            continue
        owners = {
            key: owner
            for state in (old, new)
            for key, (owner, _) in place_of(state, subject).items()
        }
        found.append(_subject(subject, sides, differing, owners, seen))
    return _whole(found, unseen, new, samples)


def traffic_percent(found: Impact) -> float | None:
    """The largest share of any one service's seen requests; none when nothing of it was seen."""
    if found.subjects:
        return max(each.moved.percent for each in found.subjects)
    return None if found.unseen else 0.0


def _differing(old: Side, new: Side) -> list[str]:
    keys = old.sources.keys() | new.sources.keys()
    return sorted(key for key in keys if old.sources.get(key) != new.sources.get(key))


# One subject --------------------------------------------------------------------------------------


class _Tally:
    """Counts of samples, by their numbers."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self.moved: set[int] = set()
        self._counts = [each.count for each in samples]
        self._tenants = [_plain(each.context.get(TENANT)) for each in samples]
        self._users = [_plain(each.context.get(TARGETING_KEY)) for each in samples]
        self._requests = sum(self._counts)

    def reached(self, numbers: Collection[int]) -> Reached:
        requests = sum(map(self._counts.__getitem__, numbers))
        return Reached(
            requests=requests,
            percent=percent(requests, self._requests),
            tenants=len(set(map(self._tenants.__getitem__, numbers)) - {None}),
            users=len(set(map(self._users.__getitem__, numbers)) - {None}),
        )

    def tenants(self) -> set[Any]:
        """Those that move."""
        return set(map(self._tenants.__getitem__, self.moved)) - {None}

    def of_tenants(self, tenants: Collection[Any]) -> list[int]:
        """The samples of these tenants."""
        return [number for number, one in enumerate(self._tenants) if one in tenants]


def percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 4) if whole else 0.0


def _subject(
    subject: Subject,
    sides: tuple[Side, ...],
    keys: Sequence[str],
    owners: Mapping[str, str],
    samples: Sequence[Sample],
) -> tuple[SubjectImpact, _Tally]:
    old, new = sides
    tally, groups = _Tally(samples), _Groups(samples)
    settings: list[SettingImpact] = []
    for key in keys:
        read = [attributes_read(side, key) for side in sides]
        names = None if None in read else frozenset().union(*(each for each in read if each))
        moves = list(_moves(old, new, key, groups.by(names)))
        if not moves:
            continue
        numbers = [number for _, _, each in moves for number in each]
        added = key not in old.sources
        if not added:
            tally.moved.update(numbers)
        listed = sorted(
            (_move(was, now, each, tally) for was, now, each in moves),
            key=lambda one: -one.reached.requests,
        )
        settings.append(
            SettingImpact(
                key=key,
                service=owners[key],
                reached=tally.reached(numbers),
                moves=tuple(listed[:MOVES_MAX]),
                added=added,
                removed=key not in new.sources,
            )
        )
    settings.sort(key=lambda one: (one.added, -one.reached.requests, one.key))
    made = SubjectImpact(
        environment=subject.environment,
        service=subject.service,
        seen=tally.reached(range(len(samples))),
        moved=tally.reached(tally.moved),
        settings=tuple(settings[:SETTINGS_MAX]),
        unmoved=len(keys) - len(settings),
    )
    return made, tally


class _Groups:
    """Samples that are alike to rules which read the same attributes, found once for each set."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self._known: dict[frozenset[str] | None, list[_Group]] = {}

    def by(self, names: frozenset[str] | None) -> list[_Group]:
        known = self._known.get(names)
        if known is None:
            known = self._known[names] = list(self._grouped(names))
        return known

    def _grouped(self, names: frozenset[str] | None) -> Iterator[_Group]:
        if names is None:
            for number, sample in enumerate(self._samples):
                yield sample.context, (number,)
            return
        ordered = sorted(names)
        alike: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
        for number, sample in enumerate(self._samples):
            get = sample.context.get
            alike[tuple([_plain(get(name)) for name in ordered])].append(number)
        for numbers in alike.values():
            yield self._samples[numbers[0]].context, numbers


def _plain(value: JSON) -> Any:
    """Something that is equal for equal JSON only: to Python, true is 1."""
    return value if value is None or value.__class__ is str else msgspec.json.encode(value)


def _moves(
    old: Side, new: Side, key: str, groups: Sequence[_Group]
) -> Iterator[tuple[Outcome, Outcome, list[int]]]:
    """(answer before, answer after, samples) of each pair of answers whose values differ."""
    was, now = old.evaluator.function(key), new.evaluator.function(key)
    pairs: defaultdict[tuple[Outcome, Outcome], list[int]] = defaultdict(list)
    for context, numbers in groups:
        pairs[was(context), now(context)] += numbers
    by_value: dict[tuple[Any, ...], tuple[Outcome, Outcome, list[int]]] = {}
    for (before, after), found in pairs.items():
        if _is_given(before) == _is_given(after) and same(before.value, after.value):
            continue
        _, _, numbers = by_value.setdefault(
            (before.variant, _plain(before.value), after.variant, _plain(after.value)),
            (before, after, []),
        )
        numbers += found
    yield from by_value.values()


def _is_given(outcome: Outcome) -> bool:
    """Whether there is a value at all, and not the caller's own default."""
    return outcome.variant is not None


def _move(before: Outcome, after: Outcome, numbers: Sequence[int], tally: _Tally) -> Move:
    examples = sorted(numbers, key=lambda number: -tally.samples[number].count)[:EXAMPLES_MAX]
    return Move(
        before=shown(before.value),
        after=shown(after.value),
        before_variant=before.variant,
        after_variant=after.variant,
        reached=tally.reached(numbers),
        examples=tuple(shown(tally.samples[number].context) for number in examples),
    )


# All of them --------------------------------------------------------------------------------------


def _whole(
    found: Sequence[tuple[SubjectImpact, _Tally]],
    unseen: Sequence[str],
    new: State,
    samples: Samples,
) -> Impact:
    seen_requests = sum(each.seen.requests for each, _ in found)
    moved_requests = sum(each.moved.requests for each, _ in found)
    tenants = {tenant for _, tally in found for tenant in tally.tenants()}
    notes = [HASHED] if any(each.moved.users for each, _ in found) else []
    if any(one.added for each, _ in found for one in each.settings):
        notes.append("Settings that are new count in no total: nobody reads them yet.")
    return Impact(
        subjects=tuple(each for each, _ in found),
        downstream=tuple(_downstream(found, new, samples)),
        unseen=tuple(unseen),
        seen=Reached(
            requests=seen_requests,
            percent=100.0 if seen_requests else 0.0,
            tenants=_distinct_tenants(found),
            users=sum(each.seen.users for each, _ in found),
        ),
        moved=Reached(
            requests=moved_requests,
            percent=percent(moved_requests, seen_requests),
            tenants=len(tenants),
            users=sum(each.moved.users for each, _ in found),
        ),
        notes=tuple(notes),
    )


def _distinct_tenants(found: Sequence[tuple[SubjectImpact, _Tally]]) -> int:
    seen = {_plain(each.context.get(TENANT)) for _, tally in found for each in tally.samples}
    return len(seen - {None})


def _downstream(
    found: Sequence[tuple[SubjectImpact, _Tally]], new: State, samples: Samples
) -> Iterator[Downstream]:
    """Services that depend on moved ones, directly or not, and are not among them."""
    moved: defaultdict[str, dict[str, set[Any]]] = defaultdict(dict)
    for each, tally in found:
        if each.moved.requests:
            moved[each.environment][each.service] = tally.tenants()
    for environment, services in sorted(moved.items()):
        for service, way in sorted(_ways(new, services).items()):
            if service in services:
                continue
            tally = _Tally(samples.get(Subject(environment, service), ()))
            numbers = tally.of_tenants(services[way[-1]])
            yield Downstream(environment, service, way, tally.reached(numbers))


def _ways(state: State, moved: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Service -> the shortest way over `depends_on` to a moved one, the service itself left out."""
    dependents: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(state.services):
        for other in state.services[name].info.depends_on:
            dependents[other].append(name)
    ways: dict[str, tuple[str, ...]] = dict.fromkeys(moved, ())
    waiting = sorted(ways)
    for name in waiting:  # grows as it goes: breadth first
        for dependent in dependents[name]:
            if dependent not in ways:
                ways[dependent] = (name, *ways[name])
                waiting.append(dependent)
    return {name: way for name, way in ways.items() if way}
