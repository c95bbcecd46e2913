"""Contexts that callers asked with before a generation came: they say whether it is a bad one.

What is asked after a change, anybody chooses who may ask at all. What was asked before it nobody
chose to make it look bad: an even choice of that, kept as it came, tells a setting that fails for
callers from one that fails where somebody wants it to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from holdfast.core.model import Subject
from holdfast.core.reports import CONTEXTS_MAX, Sample
from holdfast.core.sampling import CONTEXT_BYTES_MAX, Sampler

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class WitnessedSampler(Sampler):
    """A sampler that keeps its choice as it came, too: this one, and that of the last report."""

    __slots__ = ("_before", "_seen")

    def __init__(self, subject: Subject, draw: Callable[[], float]) -> None:
        super().__init__(subject, draw)
        self._seen: list[bytes] = []
        self._before: list[bytes] = []

    def witnesses(self) -> list[dict[str, Any]]:
        """At most `2 * CONTEXTS_MAX` contexts, each as large as may be told at most."""
        return [_decode(body) for body in (*self._before, *self._seen)]

    def take(self) -> tuple[Sample, ...]:
        if self._seen:
            self._before, self._seen = self._seen, []
        return super().take()

    def _take_in(self, context: Mapping[str, Any]) -> None:
        choice = self._seen
        super()._take_in(context)
        body = _kept(context)
        if body and len(choice) < CONTEXTS_MAX:
            choice.append(body)
        elif body:
            choice[int(self._draw() * CONTEXTS_MAX)] = body


def _kept(context: Mapping[str, Any]) -> bytes:
    """As JSON; nothing of one that is too large, or none."""
    try:
        body = msgspec.json.encode(context)
    except Exception:  # noqa: BLE001 - a context may be anything; the request goes on
        return b""
    return body if len(body) <= CONTEXT_BYTES_MAX else b""
