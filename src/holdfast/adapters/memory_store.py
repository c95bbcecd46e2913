"""All stores of one Holdfast in memory: they end with the process."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.adapters.memory import MemoryBlobs, MemoryDigests, MemoryJournal, MemoryProposals
from holdfast.core.model import JSON


class MemoryStore:
    """The `Stores` of one process."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.leases = self.journal.leases
        self.blobs = MemoryBlobs()
        self.proposals = MemoryProposals()
        self.digests = MemoryDigests()

    def mark(self, text: str, was: str) -> bool:
        return self.journal.mark(text, was)

    def marked(self) -> str:
        return self.journal.marked()

    def status(self) -> Mapping[str, JSON]:
        self.journal.head()
        return {
            "engine": "memory",
            "version": "",
            "healthy": True,
            "members": [],
            "leader": "",
            "bytes": sum(one.bytes for one in self.blobs.all()),
            "round_trip_ms": 0.0,
        }

    def compact(self) -> Mapping[str, int]:
        return {"freed_bytes": 0}

    def close(self) -> None:
        self.journal.close()
