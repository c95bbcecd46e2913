"""Reports that the node which leads has not heard yet: the newest of each consumer, by its token.

A consumer's counters only grow, and each report repeats its refusals: whoever hears the newest one
has heard all. So a leader that is away costs a bounded heap, and no signal is lost.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

from holdfast.core.reports import ConsumerReport

OWED_MAX: Final = 20_000
"""Consumers whose reports wait; beyond that the longest waiting one goes."""
OWED_BYTES_MAX: Final = 64 * 1024 * 1024
"""And so many bytes of them, as JSON."""

_Key: TypeAlias = tuple[str, str, str]
_encode: Final = msgspec.json.Encoder().encode


class Owed:
    """Thread-safe. `dropped` counts reports that the bounds pushed out."""

    def __init__(self, owed_max: int = OWED_MAX, bytes_max: int = OWED_BYTES_MAX) -> None:
        self._owed_max = owed_max
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._waiting: OrderedDict[_Key, tuple[str, ConsumerReport, int]] = OrderedDict()
        self._bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, token: str, reports: Iterable[ConsumerReport]) -> None:
        """Keep them, unless newer ones of the same consumers are there."""
        with self._lock:
            for report in reports:
                key = (report.consumer, report.environment, report.service)
                known = self._waiting.get(key)
                if known is not None and known[1].sequence > report.sequence:
                    continue
                size = len(_encode(report))
                self._bytes += size - (known[2] if known else 0)
                self._waiting[key] = (token, report, size)
            while len(self._waiting) > self._owed_max or self._bytes > self._bytes_max:
                _, (_, _, size) = self._waiting.popitem(last=False)
                self._bytes -= size
                self.dropped += 1

    def take(self) -> list[tuple[str, Sequence[ConsumerReport]]]:
        """All that waits, by token; taken away by this."""
        with self._lock:
            waiting, self._waiting, self._bytes = self._waiting, OrderedDict(), 0
        found: dict[str, list[ConsumerReport]] = {}
        for token, report, _ in waiting.values():
            found.setdefault(token, []).append(report)
        return list(found.items())
