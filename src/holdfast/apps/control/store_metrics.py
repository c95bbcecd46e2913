"""Metrics of the store beneath a control plane: the journal is measured where it is used.

What only the engine knows (size, members, round trip) is asked for now and then, not when
Prometheus comes: a store that does not answer must not hold up the metrics that say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast.core.errors import HoldfastError
from holdfast.core.model import JSON, Entry, Head
from holdfast.engine.collecting import Collecting
from holdfast.ports import Checkpoint, Clock, Journal

LOOK_S: Final = 30.0
"""Between two questions to the engine."""
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class MeasuredJournal:
    """The `Journal` port on another one, timed and counted. `lag_s`: how late the last entry of
    another node was seen here, by both nodes' clocks; `head_revision` is the newest one seen.
    """

    def __init__(self, journal: Journal, registry: CollectorRegistry, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._appends = Histogram(
            "holdfast_store_append_seconds",
            "How long appends took, refused ones too.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._failures = Counter(
            "holdfast_store_append_failures",
            "Appends that failed; conflict: another node was faster.",
            ["code"],
            registry=registry,
        )
        self.lag_s = 0.0
        self.head_revision = 0

    def head(self) -> Head:
        head = self._journal.head()
        self.head_revision = head.revision
        return head

    def append(self, entry: Entry, fence: int = 0) -> None:
        began_s = time.perf_counter()
        try:
            self._journal.append(entry, fence)
        except HoldfastError as error:
            self._failures.labels(error.code).inc()
            raise
        finally:
            self._appends.observe(time.perf_counter() - began_s)
        self.head_revision = entry.revision

    def append_all(self, entries: Sequence[Entry]) -> None:
        self._journal.append_all(entries)

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        return self._journal.read(after, limit)

    def watch(self, after: int, timeout_s: float) -> Sequence[Entry]:
        found = self._journal.watch(after, timeout_s)
        if found:
            self.lag_s = max(0.0, self._clock() - found[-1].at_ms / 1000)
            self.head_revision = max(self.head_revision, found[-1].revision)
        return found

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        self._journal.save_checkpoint(checkpoint)

    def checkpoint(self) -> Checkpoint | None:
        return self._journal.checkpoint()

    def close(self) -> None:
        self._journal.close()


class StoreMetrics(Collector):
    """`look` asks the engine; `collect` tells what the last look found."""

    def __init__(
        self,
        status: Callable[[], Mapping[str, JSON]],
        journal: MeasuredJournal,
        collecting: Collecting,
    ) -> None:
        self._status = status
        self._journal = journal
        self._collecting = collecting
        self._found: Mapping[str, JSON] = {}
        self._answers = True

    def look(self) -> None:
        """Ask once. Raises `Unavailable` as the store does, and any error, after that was noted."""
        try:
            self._found = self._status()
        except Exception:
            self._answers = False
            raise
        self._answers = bool(self._found["healthy"])

    def describe(self) -> list[Metric]:
        """Nothing before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        found, last = self._found, self._collecting.last
        members = found.get("members", ())
        for name, what, value in (
            ("store_healthy", "1 while the store answers and is whole.", self._answers),
            ("store_bytes", "What it takes on its engine.", found.get("bytes", 0)),
            ("store_members", "Servers of the engine.", len(members)),
            (
                "store_members_healthy",
                "Those of them that answer.",
                sum(bool(member["healthy"]) for member in members),
            ),
            ("store_head_revision", "The newest revision seen.", self._journal.head_revision),
            ("store_watch_lag_seconds", "Of the last entry of another node.", self._journal.lag_s),
            ("store_blobs", "Blobs at the last collection here.", last.blobs),
            ("store_blobs_unnamed", "Those of them that nothing names.", last.unnamed),
        ):
            yield GaugeMetricFamily(f"holdfast_{name}", what, value=float(value))
        if self._answers and found.get("round_trip_ms") is not None:
            yield GaugeMetricFamily(
                "holdfast_store_round_trip_seconds",
                "One question to it; missing while it, or a quorum of it, does not answer.",
                value=found["round_trip_ms"] / 1000,
            )
        for name, what, count in (
            ("store_blobs_collected", "Blobs deleted by this node.", self._collecting.deleted),
            (
                "store_collected_bytes",
                "Bytes of blobs deleted by this node.",
                self._collecting.deleted_bytes,
            ),
        ):
            yield CounterMetricFamily(f"holdfast_{name}", what, value=count)
