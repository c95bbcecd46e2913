"""Sampled contexts in memory, written down now and then into a SQLite file of their own.

A crash loses what came since, at most `SAVE_S` of it: it is a picture of traffic, and more comes.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from holdfast.adapters.sqlite_file import SqliteFile
from holdfast.core.errors import Damaged, HoldfastError
from holdfast.core.model import Subject
from holdfast.core.reports import Sample
from holdfast.core.reservoir import CONTEXTS_MAX, TOTAL_MAX, Reservoirs

_TABLE: Final = (
    "CREATE TABLE samples (environment TEXT NOT NULL, service TEXT NOT NULL, "
    "body BLOB NOT NULL, PRIMARY KEY (environment, service)) STRICT"
)
SCHEMA: Final = (_TABLE,)
APPLICATION: Final = 0x48465331  # "HFS1"
SAVE_S: Final = 60.0
_RESTORE: Final = "Remove it: it holds samples of traffic only, and new ones come"


class SqliteSamples:
    """The `Samples` port on `path`. `damaged` counts what was passed over, `failed` saves."""

    def __init__(
        self, path: Path, contexts_max: int = CONTEXTS_MAX, total_max: int = TOTAL_MAX
    ) -> None:
        self._file = SqliteFile(path, SCHEMA, APPLICATION, restore=_RESTORE)
        self._lock = threading.Lock()
        self._reservoirs = Reservoirs(contexts_max, total_max)
        self._unsaved: set[Subject] = set()
        self._saved_s = 0.0
        self._now_s = 0.0
        self.damaged = self.failed = 0
        self._load()

    def add(self, subject: Subject, samples: Sequence[Sample], now_s: float) -> None:
        with self._lock:
            self._reservoirs.add(subject, samples, now_s)
            self._unsaved.add(subject)
            self._now_s = now_s
            if not self._saved_s:
                self._saved_s = now_s
            due = now_s - self._saved_s >= SAVE_S
            rows = self._rows(now_s) if due else []
        self._write(rows)

    def samples(self, subject: Subject, now_s: float, most: int | None = None) -> Sequence[Sample]:
        with self._lock:
            return self._reservoirs.samples(subject, now_s, most)

    def subjects(self) -> Sequence[Subject]:
        with self._lock:
            return self._reservoirs.subjects()

    def close(self) -> None:
        """Write down what is not yet, and close the file."""
        with self._lock:
            rows = self._rows(self._now_s)
        self._write(rows)
        self._file.close()

    def _load(self) -> None:
        with self._file.read() as connection:
            rows = connection.execute("SELECT environment, service, body FROM samples").fetchall()
        for environment, service, body in rows:
            try:
                self._reservoirs.restore(Subject(environment, service), body)
            except Damaged:
                self.damaged += 1

    def _rows(self, now_s: float) -> list[tuple[str, str, bytes]]:
        self._saved_s = now_s
        unsaved, self._unsaved = self._unsaved, set()
        return [
            (each.environment, each.service, self._reservoirs.encoded(each, now_s))
            for each in sorted(unsaved)
        ]

    def _write(self, rows: list[tuple[str, str, bytes]]) -> None:
        if not rows:
            return
        try:
            with self._file.write() as connection:
                connection.executemany("INSERT OR REPLACE INTO samples VALUES (?, ?, ?)", rows)
        except HoldfastError:
            self.failed += 1
            with self._lock:  # a later save has them again
                self._unsaved.update(Subject(row[0], row[1]) for row in rows)
