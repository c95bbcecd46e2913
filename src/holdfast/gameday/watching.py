"""What clients of a drill are told, and what they tell: files that both sides read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from holdfast.core.model import JSON
from holdfast.gameday.drill import Tick

EXAMPLES_MAX = 20
"""Wrong and failed answers that a client describes; all are counted."""


class Case(msgspec.Struct, frozen=True):
    """A question and the values that are right answers to it."""

    service: str
    key: str
    context: dict[str, JSON]
    right: tuple[JSON, ...]


class Told(msgspec.Struct, frozen=True):
    """What a client process is told: whom to ask, what, how often, and where to write."""

    name: str
    mode: Literal["sdk", "ofrep"]
    endpoints: tuple[str, ...]
    environment: str
    services: tuple[str, ...]
    cases: str
    out: str
    parent: int
    cache_dir: str = ""
    root: str = ""
    interval_s: float = 0.1
    poll_interval_s: float = 0.2


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One look of a client at all its cases. `by` counts answers by endpoint (OFREP).

    `upstreams`: service -> the endpoint that an SDK asks now.
    """

    at_s: float
    answered: int = 0
    wrong: int = 0
    failed: int = 0
    ready: bool = False
    revisions: dict[str, int] = {}
    upstreams: dict[str, str] = {}
    refused: dict[str, int] = {}
    last_error: str = ""
    cache_error: str = ""
    by: dict[str, int] = {}
    examples: tuple[str, ...] = ()


class Reader:
    """Follows the file that a client writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.lines: list[Line] = []

    def read(self) -> list[Line]:
        """All lines so far."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                body = file.read()
        except OSError:
            return self.lines
        whole = body[: body.rfind(b"\n") + 1]
        self._offset += len(whole)
        self.lines += [msgspec.json.decode(line, type=Line) for line in whole.splitlines()]
        return self.lines

    @property
    def last(self) -> Line | None:
        lines = self.read()
        return lines[-1] if lines else None


def ticks(readers: list[Reader], began_s: float, width_s: float = 0.5) -> tuple[Tick, ...]:
    """The answers of several clients, summed up by time."""
    sums: dict[int, list[int]] = {}
    for reader in readers:
        for line in reader.read():
            place = sums.setdefault(int((line.at_s - began_s) / width_s), [0, 0, 0])
            place[0] += line.answered
            place[1] += line.wrong
            place[2] += line.failed
    return tuple(Tick(number * width_s, *counts) for number, counts in sorted(sums.items()))
