"""What a game day is, and what comes out of one: drills, notes, figures, ticks."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal["step", "fault", "blocked", "damage", "recovered"]


class Note(msgspec.Struct, frozen=True):
    """Something happened, `at_s` seconds after the start of the drill."""

    at_s: float
    kind: Kind
    text: str


class Figure(msgspec.Struct, frozen=True):
    """One thing that was measured, and whether it holds against its bar.

    `decides`: whether the verdict depends on it.
    """

    name: str
    value: float | int | str
    bar: str
    holds: bool
    decides: bool = True


class Tick(msgspec.Struct, frozen=True):
    """Answers at all clients of a drill around one moment."""

    at_s: float
    answered: int
    wrong: int
    failed: int


class Row(msgspec.Struct, frozen=True):
    """One fault of many: what it was, and what became of it."""

    name: str
    component: str
    blocked: bool
    by: str
    text: str


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A picture of its own for the report: lines by name, each of (x, y) points.

    `name` names its file. `bar`: a level to be held to, drawn dashed; none without one.
    """

    name: str
    title: str
    x: str
    y: str
    lines: dict[str, tuple[tuple[float, float], ...]]
    bar: float | None = None


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a drill came to. `ticks`: the answers of its clients in time.

    `sample`: of how many faults of a longer list; 0 for all.
    """

    drill: str
    protected: bool
    seed: int
    passed: bool
    took_s: float
    figures: tuple[Figure, ...]
    notes: tuple[Note, ...]
    ticks: tuple[Tick, ...]
    rows: tuple[Row, ...]
    root_cause: str
    stopped_by: str
    affected: str
    build: str
    began_s: float
    sample: int = 0
    charts: tuple[Chart, ...] = ()


class Drill(msgspec.Struct, frozen=True, kw_only=True):
    """One game day, or one row of the table "Faults and promises".

    `outage` is what happened in public, `promise` what is promised under a row's fault, and
    `rehearsal` what is done here. One of the first two may be empty.
    """

    name: str
    title: str
    rehearsal: str
    run: Callable[[Day], None]
    outage: str = ""
    promise: str = ""


class Day:
    """One run of a drill: what it is told, and where it puts what it finds.

    `directory` is its own, for everything that it writes. `sample` asks for so many faults of a
    longer list, 0 for all. Thread-safe for notes and rows.
    """

    def __init__(
        self,
        directory: Path,
        *,
        seed: int,
        protected: bool,
        sample: int = 0,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.directory = directory
        self.seed = seed
        self.protected = protected
        self.sample = sample
        self.chance = random.Random(seed)  # noqa: S311  chance of a drill, no secret
        self.began_s = time.time()
        self.figures: list[Figure] = []
        self.notes: list[Note] = []
        self.rows: list[Row] = []
        self.ticks: list[Tick] = []
        self.charts: list[Chart] = []
        self.root_cause = ""
        self.stopped_by = ""
        self.affected = "nobody"
        self._tell = tell
        self._lock = threading.Lock()

    def since_s(self) -> float:
        """Seconds since the drill began."""
        return time.time() - self.began_s

    def note(self, kind: Kind, text: str) -> None:
        """Put something into the timeline, and tell it."""
        with self._lock:
            self.notes.append(Note(round(self.since_s(), 2), kind, text))
            self._tell(f"{self.since_s():6.1f} s  {text}")

    def put(self, row: Row) -> None:
        with self._lock:
            self.rows.append(row)

    def measure(
        self, name: str, value: float | str, bar: str, *, holds: bool, timed: bool = False
    ) -> None:
        """A figure that decides with all others whether the drill passed.

        `timed`: a busy machine would miss it, too. In the short form, which runs among tests, such
        a figure is told and decides nothing; without the protections, everything decides.
        """
        decides = not (timed and self.sample and self.protected)
        self.figures.append(Figure(name, value, bar, holds, decides))

    def findings(self, drill: Drill, build: str) -> Findings:
        """What came out, as of now."""
        return Findings(
            drill=drill.name,
            protected=self.protected,
            seed=self.seed,
            passed=bool(self.figures) and all(f.holds or not f.decides for f in self.figures),
            took_s=round(self.since_s(), 1),
            figures=tuple(self.figures),
            notes=tuple(self.notes),
            ticks=tuple(self.ticks),
            rows=tuple(self.rows),
            root_cause=self.root_cause,
            stopped_by=self.stopped_by,
            affected=self.affected,
            build=build,
            began_s=self.began_s,
            sample=self.sample,
            charts=tuple(self.charts),
        )
