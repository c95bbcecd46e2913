"""Sampled contexts in memory: the public twin of the store, for tests and where no disk is."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from holdfast.core.model import Subject
from holdfast.core.reports import Sample
from holdfast.core.reservoir import CONTEXTS_MAX, TOTAL_MAX, Reservoirs


class MemorySamples:
    """The `Samples` port."""

    def __init__(self, contexts_max: int = CONTEXTS_MAX, total_max: int = TOTAL_MAX) -> None:
        self._lock = threading.Lock()
        self._reservoirs = Reservoirs(contexts_max, total_max)

    def add(self, subject: Subject, samples: Sequence[Sample], now_s: float) -> None:
        with self._lock:
            self._reservoirs.add(subject, samples, now_s)

    def samples(self, subject: Subject, now_s: float, most: int | None = None) -> Sequence[Sample]:
        with self._lock:
            return self._reservoirs.samples(subject, now_s, most)

    def subjects(self) -> Sequence[Subject]:
        with self._lock:
            return self._reservoirs.subjects()

    def close(self) -> None:
        """Nothing is held."""
