"""Which contexts came, and how often: a bounded picture of traffic that forgets.

    seen = Reservoir()
    seen.add(samples, now_s)
    seen.samples(now_s)       # contexts with what they stand for, the heaviest first

Counts fade by half every `HALF_LIFE_S`. When there are more contexts than may be kept, those of
least priority go: weight over a chance that is fixed for each context (Duffield, Lund, Thorup,
"Priority sampling for estimation of arbitrary subset sums", J. ACM 2007). What stays then counts
for at least the highest priority that went, so that sums stay about right: heavy contexts count as
what they are, light ones for those that are gone as well.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from holdfast.core.errors import Damaged
from holdfast.core.model import JSON, Subject
from holdfast.core.reports import Sample

HALF_LIFE_S: Final = 86_400.0
CONTEXTS_MAX: Final = 20_000
"""Contexts kept of one subject."""
TOTAL_MAX: Final = 200_000
"""Contexts kept of all subjects; beyond that the largest is halved."""
SUBJECTS_MAX: Final = 2_000
_SLACK: Final = 1.25
"""Contexts over the bound that may gather until they are looked through."""
_SHIFT_MAX: Final = 512.0
"""Half-lives after which weights are written anew, before floats run out."""
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Kept(msgspec.Struct, frozen=True):
    """A reservoir at rest; weights as of `at_s`."""

    at_s: float
    threshold: float
    contexts: tuple[tuple[float, dict[str, JSON]], ...]


_KEPT: Final = msgspec.json.Decoder(Kept)


class Reservoir:
    """The contexts of one subject. Not thread-safe. `dropped` counts those that went."""

    def __init__(self, contexts_max: int = CONTEXTS_MAX) -> None:
        self.contexts_max = contexts_max
        self.dropped = 0
        self._begin_s: float | None = None
        self._threshold = 0.0
        self._weights: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._weights)

    def add(self, samples: Iterable[Sample], now_s: float) -> None:
        """Take contexts in; those without a count are passed over."""
        if self._begin_s is None:
            self._begin_s = now_s
        grown = self._grown(now_s)
        for sample in samples:
            if sample.count > 0:
                key = _encode(sample.context)
                self._weights[key] = self._weights.get(key, 0.0) + sample.count * grown
        if len(self._weights) > self.contexts_max * _SLACK:
            self.shrink(self.contexts_max)

    def samples(self, now_s: float, most: int | None = None) -> list[Sample]:
        """What stands for the traffic now, the heaviest first; counts are whole, and at least 1.

        With `most` only so many, chosen as if there were no room for more.
        """
        shown = self._weights
        threshold = self._threshold
        if most is not None and len(shown) > most:
            shown, cut = _heaviest(shown, most)
            threshold = max(threshold, cut)
        scale = self._left(now_s)
        ordered = sorted(shown.items(), key=lambda item: (-item[1], item[0]))
        return [
            Sample(msgspec.json.decode(key), max(1, round(max(weight, threshold) * scale)))
            for key, weight in ordered
        ]

    def shrink(self, most: int) -> None:
        """Keep so many contexts at most."""
        if len(self._weights) <= most:
            return
        kept, cut = _heaviest(self._weights, most)
        self.dropped += len(self._weights) - len(kept)
        self._weights = dict(kept)
        self._threshold = max(self._threshold, cut)

    def kept(self, now_s: float) -> Kept:
        """To be written down; what has faded to nothing is left out."""
        scale = self._left(now_s)
        return Kept(
            at_s=now_s,
            threshold=self._threshold * scale,
            contexts=tuple(
                (weight * scale, msgspec.json.decode(key))
                for key, weight in sorted(self._weights.items())
                if weight * scale >= 2.0**-10
            ),
        )

    @classmethod
    def of(cls, kept: Kept, contexts_max: int = CONTEXTS_MAX) -> Reservoir:
        made = cls(contexts_max)
        made._begin_s = kept.at_s
        made._threshold = kept.threshold
        made._weights = {_encode(context): weight for weight, context in kept.contexts}
        made.shrink(contexts_max)
        return made

    def _left(self, now_s: float) -> float:
        """What is left of a count of the beginning."""
        return math.exp2(-max(0.0, now_s - (self._begin_s or 0.0)) / HALF_LIFE_S)

    def _grown(self, now_s: float) -> float:
        """What a count of now weighs beside one of the beginning; time never goes back."""
        if self._begin_s is None:
            return 1.0
        half_lives = max(0.0, now_s - self._begin_s) / HALF_LIFE_S
        if half_lives > _SHIFT_MAX:
            shrunk = math.ldexp(1.0, -int(half_lives))
            self._weights = {key: each * shrunk for key, each in self._weights.items()}
            self._threshold *= shrunk
            self._begin_s += int(half_lives) * HALF_LIFE_S
            half_lives -= int(half_lives)
        return math.exp2(half_lives)


class Reservoirs:
    """The contexts of all subjects within one bound. Not thread-safe.

    `forgotten` counts subjects that went: those fed longest ago.
    """

    def __init__(self, contexts_max: int = CONTEXTS_MAX, total_max: int = TOTAL_MAX) -> None:
        self._contexts_max = contexts_max
        self._total_max = total_max
        self._by_subject: OrderedDict[Subject, Reservoir] = OrderedDict()
        self.forgotten = 0

    def add(self, subject: Subject, samples: Sequence[Sample], now_s: float) -> None:
        known = self._by_subject.get(subject)
        if known is None:
            known = self._by_subject[subject] = Reservoir(self._contexts_max)
        known.add(samples, now_s)
        self._by_subject.move_to_end(subject)
        if len(self._by_subject) > SUBJECTS_MAX:
            self._by_subject.popitem(last=False)
            self.forgotten += 1
        while sum(map(len, self._by_subject.values())) > self._total_max:
            largest = max(self._by_subject.values(), key=len)
            largest.shrink(max(1, len(largest) // 2))

    def samples(self, subject: Subject, now_s: float, most: int | None = None) -> list[Sample]:
        known = self._by_subject.get(subject)
        return known.samples(now_s, most) if known else []

    def subjects(self) -> list[Subject]:
        return sorted(self._by_subject)

    def encoded(self, subject: Subject, now_s: float) -> bytes:
        """One subject's contexts, for a store."""
        known = self._by_subject.get(subject) or Reservoir()
        return msgspec.json.encode(known.kept(now_s))

    def restore(self, subject: Subject, body: bytes) -> None:
        """Raises `Damaged`."""
        try:
            kept = _KEPT.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Damaged(f"the samples of {subject} can't be read: {error}") from None
        self._by_subject[subject] = Reservoir.of(kept, self._contexts_max)


def _heaviest(weights: dict[bytes, float], most: int) -> tuple[dict[bytes, float], float]:
    """Those of highest priority, and the highest priority left out."""
    ordered = sorted(
        ((weight / _chance(key), key, weight) for key, weight in weights.items()), reverse=True
    )
    cut = ordered[most][0] if len(ordered) > most else 0.0
    return {key: weight for _, key, weight in ordered[:most]}, cut


def _chance(key: bytes) -> float:
    """Evenly from (0, 1], always the same one for a context."""
    return (int.from_bytes(blake2b(key, digest_size=6).digest()) + 1) / 2**48
