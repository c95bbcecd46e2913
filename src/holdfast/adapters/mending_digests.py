"""The record of first digests, begun anew where it is found rotten: it must not stop a node.

What it would have said is not lost with it. The digests of all snapshots but the newest stand in
the journal's own entries, the checkpoint names the newest ones as the build that ran last made
them, and every consumer refuses other bytes for a revision that it has. Who could damage the file
could have deleted it as well, and that has always been allowed. The rotten file is kept aside for a
look.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from holdfast.adapters.sqlite_digests import SqliteDigests
from holdfast.core.errors import Damaged
from holdfast.ports import Imprint

T = TypeVar("T")
_PARTS = ("", "-wal", "-shm")
_ASIDE = ".damaged"


class MendingDigests:
    """The `Digests` port on `path`. `told` hears of each damage; `mended` counts them."""

    def __init__(self, path: Path, told: Callable[[Damaged], None] = lambda _: None) -> None:
        self._path = path
        self._told = told
        self._lock = threading.Lock()
        self.mended = 0
        try:
            self._digests = SqliteDigests(path)
        except Damaged as error:
            self._digests = self._begin_anew(error)

    def put(self, made: Sequence[Imprint]) -> Sequence[Imprint]:
        return self._try(lambda digests: digests.put(made))

    def all(self) -> Sequence[Imprint]:
        return self._try(lambda digests: digests.all())

    def size_bytes(self) -> int:
        return self._digests.size_bytes()

    def compact(self) -> int:
        """Bytes given back."""
        return self._digests.compact()

    def close(self) -> None:
        self._digests.close()

    def _try(self, work: Callable[[SqliteDigests], T]) -> T:
        digests = self._digests
        try:
            return work(digests)
        except Damaged as error:
            with self._lock:
                if self._digests is digests:  # else another thread was faster
                    digests.close()
                    self._digests = self._begin_anew(error)
        return work(self._digests)

    def _begin_anew(self, error: Damaged) -> SqliteDigests:
        self.mended += 1
        self._told(error)
        for part in _PARTS:
            path = self._path.with_name(self._path.name + part)
            with contextlib.suppress(FileNotFoundError):
                path.replace(path.with_name(path.name + _ASIDE))
        return SqliteDigests(self._path)
