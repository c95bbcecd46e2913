"""An operator's eyes during a drill: asks health and metrics of processes all the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Final, Self

import msgspec

from holdfast.gameday.processes import ask

EVERY_S: Final = 0.25
PATIENCE_S: Final = 5.0
"""For one answer; a scrape of Prometheus takes ten."""


class Look(msgspec.Struct, frozen=True):
    """One question: `at_s` unix time, status 0 for no answer."""

    at_s: float
    status: int
    took_s: float


class Vitals:
    """Asks each URL four times a second, in a thread: `with Vitals({"edge": url}) as vitals`."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.looks: dict[str, list[Look]] = {name: [] for name in urls}
        self._urls = dict(urls)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=(name,), name=f"vitals {name}", daemon=True)
            for name in urls
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE_S)

    def _watch(self, name: str) -> None:
        while not self._stop.wait(EVERY_S):
            at_s, began = time.time(), time.monotonic()
            status = ask("GET", self._urls[name], timeout_s=PATIENCE_S).status
            self.looks[name].append(Look(at_s, status, time.monotonic() - began))

    def failed(self) -> dict[str, int]:
        """Questions without a good answer, by name; empty when all were well.

        A name that was never asked counts as one: nothing is known of it.
        """
        counts = {
            name: sum(look.status != 200 for look in list(looks)) if looks else 1
            for name, looks in self.looks.items()
        }
        return {name: count for name, count in counts.items() if count}

    def asked(self) -> int:
        return sum(len(looks) for looks in self.looks.values())

    def slowest_s(self) -> float:
        """Of all answers, in seconds."""
        return max((look.took_s for looks in self.looks.values() for look in looks), default=0.0)
