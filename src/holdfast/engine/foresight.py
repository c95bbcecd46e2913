"""What a change would do to the traffic that was seen; and that traffic, kept and handed on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from holdfast.core.errors import Invalid, Problem
from holdfast.core.fold import after
from holdfast.core.impact import HASHED, Impact, impact, traffic_percent
from holdfast.core.lint import Seen, day, lint, touched
from holdfast.core.model import Change, Edit, PutContexts, Subject
from holdfast.core.preview import place_of, side_of
from holdfast.core.reports import Sample
from holdfast.core.representative import representative
from holdfast.core.sampling import filtered
from holdfast.core.state import State, declared, same
from holdfast.core.subjects import subjects
from holdfast.ports import Clock, Samples

AT_THE_DOOR_MAX: Final = 2_000
"""Contexts of one subject by which the write door judges a share: it must not wait."""
CHOSEN_OF_MAX: Final = 1_000
"""Contexts of one subject from which those for probes are chosen."""
SUBJECTS_MAX: Final = 50
"""Subjects whose contexts one change refreshes."""


class Foresight:
    """Over the samples of one control plane. Thread-safe.

    `tables` gives a segment table's bytes by digest. `refused` counts samples of what there is not.
    """

    def __init__(
        self, samples: Samples, tables: Callable[[str], bytes | None], clock: Clock
    ) -> None:
        self._samples = samples
        self._tables = tables
        self._clock = clock
        self.refused = 0

    def take(self, state: State, subject: Subject, samples: Sequence[Sample]) -> None:
        """Keep what a consumer told, held once more to what its service declares."""
        if subject.service not in state.services:
            self.refused += len(samples)
            return
        allowed = declared(state.services, subject.service)
        kept = filtered(samples, allowed, subject.service)
        if kept:
            self._samples.add(subject, kept, self._clock())

    def impact(
        self,
        old: State,
        new: State,
        environment: str = "",
        given: Mapping[Subject, Sequence[Sample]] | None = None,
    ) -> Impact:
        """Over what was seen, or over what is `given`. Raises `Invalid`."""
        seen = _Lately(self._samples, self._clock()) if given is None else given
        found = impact(
            old, new, seen, tables=self._tables, now_s=self._clock(), environment=environment
        )
        if given is None:
            return found
        notes = tuple(note for note in found.notes if note != HASHED)  # keys are given plain
        return msgspec.structs.replace(found, notes=notes)

    def traffic_share(self, old: State, new: State, environment: str) -> float | None:
        """Percent of the seen requests of the service that is moved most; none: nothing is known.

        For the write door (`core.policy.TrafficShare`): over the heaviest contexts only.
        """
        seen = _Lately(self._samples, self._clock(), AT_THE_DOOR_MAX)
        try:
            found = impact(
                old, new, seen, tables=self._tables, now_s=self._clock(), environment=environment
            )
        except Invalid:
            return None  # what can't be built is refused as such
        return traffic_percent(found)

    def seen(self, subjects: Iterable[Subject] | None = None) -> dict[Subject, Seen]:
        """How many requests of subjects, or of all, were sampled; which attributes they carried."""
        found = {}
        for subject in self._samples.subjects() if subjects is None else subjects:
            samples = self._samples.samples(subject, self._clock())
            names = frozenset(name for each in samples for name in each.context)
            found[subject] = Seen(sum(each.count for each in samples), names)
        return found

    def advise(self, state: State, change: Change) -> list[Problem]:
        """What lint says of all that a change puts."""
        places = touched(change.edits)
        new = after(state, change.edits)
        concerned = [
            Subject(environment, service)
            for service in {service for service, _ in places}
            for environment in new.environments
        ]
        today = day(self._clock())
        return lint(new.services, today=today, only=places, seen=self.seen(concerned))

    def refreshed(self, state: State) -> Change | None:
        """The change that puts better contexts for probes, where traffic has answers that those
        kept have not; none when there is nothing to better."""
        edits: list[Edit] = []
        standing = subjects(state)
        for subject in self._samples.subjects():
            if subject in standing and len(edits) < SUBJECTS_MAX:
                before = state.contexts.get(str(subject), ())
                chosen = self._chosen(state, subject, before)
                if not same(before, chosen):
                    edits.append(PutContexts(subject.environment, subject.service, chosen))
        if not edits:
            return None
        return Change(tuple(edits), "contexts from traffic, for probes")

    def _chosen(
        self, state: State, subject: Subject, before: Sequence[dict[str, object]]
    ) -> tuple[dict[str, object], ...]:
        """Those kept come first: they go only when they tell nothing that others do not."""
        keys = place_of(state, subject).keys()
        side = side_of(state, subject, keys, self._tables, self._clock())
        seen = self._samples.samples(subject, self._clock(), CHOSEN_OF_MAX)
        return representative(side.evaluator, [*before, *(each.context for each in seen)])


class _Lately(Mapping[Subject, Sequence[Sample]]):
    """The samples of each subject, read when it is asked for."""

    def __init__(self, samples: Samples, now_s: float, most: int | None = None) -> None:
        self._samples = samples
        self._now_s = now_s
        self._most = most

    def __getitem__(self, subject: Subject) -> Sequence[Sample]:
        return self._samples.samples(subject, self._now_s, self._most)

    def __iter__(self) -> Iterator[Subject]:
        return iter(self._samples.subjects())

    def __len__(self) -> int:
        return len(self._samples.subjects())
