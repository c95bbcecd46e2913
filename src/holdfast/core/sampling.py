"""Which contexts a consumer tells of: few, allow-listed, their targetingKey hashed.

    sampler = Sampler(subject, draw)
    sampler.allow(names)          # the attributes that the service declares
    sampler.offer(context)        # on the way of requests: nearly always a subtraction
    sampler.take()                # what came since the last time, for a report

Of all contexts offered between two reports an even choice is kept (Li, "Reservoir-sampling
algorithms of time complexity O(n(1 + log(N/n)))", 1994: algorithm L), and their counts are scaled
to all that were offered.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec

from holdfast.core.model import JSON, TARGETING_KEY, Subject
from holdfast.core.reports import CONTEXTS_MAX, Sample

TEXT_CHARS_MAX: Final = 128
"""Of one text; longer ones are cut."""
ITEMS_MAX: Final = 32
"""Of one list or map; more are left out."""
CONTEXT_BYTES_MAX: Final = 2_048
"""Of one context as JSON; larger ones are not told."""
ATTRIBUTES_MAX: Final = 64
HASH_CHARS: Final = 16
"""Of a hashed targetingKey, in hex: 64 bits tell two billion users apart."""
HASH_MARK: Final = "~"
"""Begins a hashed targetingKey."""
_HASHED: Final = re.compile(f"{HASH_MARK}[0-9a-f]{{{HASH_CHARS}}}")


def hashed(service: str, targeting_key: str) -> str:
    """The same text for the same key of one service, another one for another service.

    Not anonymous: who can guess a key can check the guess.
    """
    if _HASHED.fullmatch(targeting_key):
        return targeting_key
    body = f"holdfast sample\0{service}\0{targeting_key}".encode("utf-8", "surrogatepass")
    return HASH_MARK + sha256(body).hexdigest()[:HASH_CHARS]


def told(context: Mapping[str, Any], allowed: Collection[str], service: str) -> dict[str, JSON]:
    """What may be told of a context: bounded JSON of allowed attributes, and the hashed key.

    Empty when nothing is left, or when it is too large.
    """
    found: dict[str, JSON] = {}
    for name in sorted(allowed)[:ATTRIBUTES_MAX]:
        if name in context and name != TARGETING_KEY:
            value = _bounded(context[name])
            if value is not None:
                found[name] = value
    key = context.get(TARGETING_KEY)
    if isinstance(key, str) and key:
        found[TARGETING_KEY] = hashed(service, key)
    try:
        return found if len(msgspec.json.encode(found)) <= CONTEXT_BYTES_MAX else {}
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        return {}


def filtered(samples: Iterable[Sample], allowed: Collection[str], service: str) -> list[Sample]:
    """Samples as they came from a consumer, held to what may be told, once more."""
    kept = ((told(each.context, allowed, service), each.count) for each in samples)
    return [Sample(context, count) for context, count in kept if context and count > 0]


def _bounded(value: Any, depth: int = 0) -> JSON:
    """A copy within the bounds; none for what is no JSON, or lies too deep."""
    if isinstance(value, str):
        return value[:TEXT_CHARS_MAX]
    if value is None or isinstance(value, bool | int | float):
        finite = not isinstance(value, float) or math.isfinite(value)
        return value if finite else None
    if depth > 1:
        return None
    if isinstance(value, list | tuple):
        items = (_bounded(item, depth + 1) for item in value[:ITEMS_MAX])
        return [item for item in items if item is not None]
    if isinstance(value, Mapping):
        pairs = ((str(name), _bounded(inner, depth + 1)) for name, inner in value.items())
        kept = [(name, inner) for name, inner in pairs if inner is not None]
        return dict(kept[:ITEMS_MAX])
    return None


class Sampler:
    """Contexts of one subject between two reports. Offers may come from any thread.

    Two threads at once may lose an offer: it is an estimate anyway, and a lock would cost more
    than the whole. `failed` counts contexts that could not be read.
    """

    __slots__ = ("_allowed", "_draw", "_earlier", "_kept", "_next", "_offered", "_size", "_subject",
                 "_w", "failed")  # fmt: skip

    def __init__(
        self, subject: Subject, draw: Callable[[], float], size: int = CONTEXTS_MAX
    ) -> None:
        """`draw` gives chance, evenly from [0, 1)."""
        self._subject = subject
        self._draw = draw
        self._size = size
        self._allowed: frozenset[str] = frozenset()
        self.failed = 0
        self._earlier = self._offered = 0
        self._begin()

    @property
    def asked(self) -> int:
        """How many contexts were offered so far, about."""
        return self._earlier + self._offered

    def _begin(self) -> None:
        self._earlier += self._offered
        self._kept: list[dict[str, JSON]] = []
        self._offered = 0
        self._next = 1
        self._w = 1.0

    def allow(self, names: Iterable[str]) -> None:
        """Tell of these attributes from now on; what was kept under others is forgotten."""
        allowed = frozenset(names)
        if allowed != self._allowed:
            self._allowed = allowed
            self._begin()

    def offer(self, context: Mapping[str, Any]) -> None:
        """A request came with this context. Never raises."""
        self._offered += 1
        if self._offered >= self._next:
            self._take_in(context)

    def take(self) -> tuple[Sample, ...]:
        """The choice since the last time, alike ones together; counts sum to about all offered."""
        kept, offered = self._kept, self._offered
        self._begin()
        if not kept:
            return ()
        counts: dict[bytes, tuple[dict[str, JSON], int]] = {}
        for context in kept:
            if not context:
                continue  # nothing of it may be told
            key = msgspec.json.encode(context, order="deterministic")
            counts[key] = (context, counts.get(key, (context, 0))[1] + 1)
        scale = offered / len(kept)
        return tuple(
            Sample(context, max(1, round(count * scale))) for context, count in counts.values()
        )

    def _take_in(self, context: Mapping[str, Any]) -> None:
        try:
            kept = told(context, self._allowed, self._subject.service)
        except Exception:  # noqa: BLE001 - a context may be anything; the request goes on
            self.failed += 1
            kept = {}
        # A report taken by another thread begins anew: what is read twice might be two things.
        choice = self._kept
        if len(choice) < self._size:
            choice.append(kept)
            self._next = self._offered + 1
            if len(choice) == self._size:
                self._skip()
            return
        choice[int(self._draw() * self._size)] = kept
        self._skip()

    def _skip(self) -> None:
        """How many to pass over until the next one is kept."""
        w = self._w = self._w * math.exp(math.log(1.0 - self._draw()) / self._size)
        if 0.0 < w < 1.0:
            gap = math.log(1.0 - self._draw()) / math.log1p(-w)
            self._next = self._offered + 1 + int(min(gap, 2.0**53))
        else:
            self._next = self._offered + 1
