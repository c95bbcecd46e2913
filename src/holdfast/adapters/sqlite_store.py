"""All stores of one control plane in a directory, a SQLite file each.

    journal.db     entries, head, lease          damaged: nothing opens
    blobs.db       long member lists             damaged: they can't be had until it is put back
    proposals.db   changes that wait             damaged: they can't be had until it is put back
    digests.db     the first digests             damaged: begun anew, the rotten one kept

A node starts, serves and commits on what is whole.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from holdfast.adapters.mending_digests import MendingDigests
from holdfast.adapters.sqlite_blobs import SqliteBlobs
from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.adapters.sqlite_proposals import SqliteProposals
from holdfast.adapters.unusable import UnusableBlobs, UnusableProposals
from holdfast.core.errors import Damaged
from holdfast.core.model import JSON
from holdfast.ports import Blobs, Proposals

JOURNAL: Final = "journal.db"
BLOBS: Final = "blobs.db"
PROPOSALS: Final = "proposals.db"
DIGESTS: Final = "digests.db"


class SqliteStore:
    """The `Stores` of `directory`, made when they are missing.

    `told(what, error)` hears of each damage that is lived with. Raises `Damaged` for a journal that
    is not what was written, and `Unavailable`.
    """

    def __init__(
        self, directory: Path, told: Callable[[str, Damaged], None] = lambda *_: None
    ) -> None:
        self.directory = directory
        self._told = told
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:
            self.journal = SqliteJournal(directory / JOURNAL)
            opened.callback(self.journal.close)
            self.leases = self.journal.leases
            self._sized: list[SqliteJournal | SqliteBlobs | SqliteProposals | MendingDigests] = [
                self.journal
            ]
            self.blobs = self._blobs(opened)
            self.proposals = self._proposals(opened)
            self.digests = MendingDigests(directory / DIGESTS, self._begun_anew)
            opened.callback(self.digests.close)
            self._sized.append(self.digests)
            self._opened = opened.pop_all()

    def mark(self, text: str, was: str) -> bool:
        return self.journal.mark(text, was)

    def marked(self) -> str:
        return self.journal.marked()

    def status(self) -> Mapping[str, JSON]:
        began_s = time.perf_counter()
        self.journal.head()
        return {
            "engine": "sqlite",
            "version": sqlite3.sqlite_version,
            "healthy": len(self._sized) == 4,
            "members": [],
            "leader": "",
            "bytes": sum(each.size_bytes() for each in self._sized),
            "round_trip_ms": round((time.perf_counter() - began_s) * 1000, 3),
        }

    def compact(self) -> Mapping[str, int]:
        return {"freed_bytes": sum(each.compact() for each in self._sized)}

    def close(self) -> None:
        self._opened.close()

    def _blobs(self, opened: contextlib.ExitStack) -> Blobs:
        try:
            blobs = SqliteBlobs(self.directory / BLOBS)
        except Damaged as error:
            self._told("member lists of long segments can't be read", error)
            return UnusableBlobs(error)
        opened.callback(blobs.close)
        self._sized.append(blobs)
        return blobs

    def _proposals(self, opened: contextlib.ExitStack) -> Proposals:
        try:
            proposals = SqliteProposals(self.directory / PROPOSALS)
        except Damaged as error:
            self._told("changes that wait can't be read", error)
            return UnusableProposals(error)
        opened.callback(proposals.close)
        self._sized.append(proposals)
        return proposals

    def _begun_anew(self, error: Damaged) -> None:
        self._told("the record of first digests is begun anew, the rotten one kept", error)
