"""All stores of one Holdfast in a PostgreSQL schema, for any number of nodes.

postgresql://USER@H1,H2/DATABASE?schema=holdfast    (`postgres_line` has the rest)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from holdfast.adapters.postgres_blobs import PostgresBlobs
from holdfast.adapters.postgres_digests import PostgresDigests
from holdfast.adapters.postgres_journal import PostgresJournal
from holdfast.adapters.postgres_leases import PostgresLeases
from holdfast.adapters.postgres_line import PostgresLine
from holdfast.adapters.postgres_proposals import PostgresProposals
from holdfast.adapters.postgres_schema import TABLES, make_tables
from holdfast.core.errors import Unavailable
from holdfast.core.model import JSON

COMPACT_S: Final = 600.0
_FACTS: Final = (
    "SELECT current_setting('server_version'), current_setting('fsync') = 'on',"
    " current_setting('full_page_writes') = 'on', current_setting('data_checksums') = 'on'"
)
_BYTES: Final = "SELECT sum(pg_total_relation_size(name))::bigint FROM unnest(%s::text[]) AS name"
_MEMBER: Final = "SELECT pg_is_in_recovery(), current_setting('server_version')"


class PostgresStore:
    """The `Stores` at `url`; the tables are made when they are missing, but not with `there`.

    Raises `Damaged` for a journal that is not what was written, and `Unavailable`.
    """

    def __init__(self, url: str, *, there: bool = False) -> None:
        self._line = PostgresLine(url)
        try:
            make_tables(self._line, there=there)
            self.journal = PostgresJournal(self._line)
        except BaseException:
            self._line.close()
            raise
        self.blobs = PostgresBlobs(self._line)
        self.digests = PostgresDigests(self._line)
        self.proposals = PostgresProposals(self._line)
        self.leases = PostgresLeases(self._line)

    def mark(self, text: str, was: str) -> bool:
        return self.journal.mark(text, was)

    def marked(self) -> str:
        return self.journal.marked()

    def status(self) -> Mapping[str, JSON]:
        ((version, synced, whole_pages, checksums),) = self._line.rows(_FACTS)
        began_s = time.perf_counter()
        self.journal.head()
        round_trip_s = time.perf_counter() - began_s
        members = [self._member(host) for host in self._line.hosts]
        leaders = [str(one["name"]) for one in members if one["role"] == "primary"]
        return {
            "engine": "postgresql",
            "version": version,
            "healthy": bool(leaders),
            "members": members,
            "leader": leaders[0] if leaders else "",
            "bytes": self._size_bytes(),
            "round_trip_ms": round(round_trip_s * 1000, 3),
            "durable": synced and whole_pages,
            "page_checksums": checksums,
            "connections_busy": self._line.busy,
        }

    def compact(self) -> Mapping[str, int]:
        """Vacuum and analyse the tables; readers and writers go on."""
        before = self._size_bytes()
        with self._line.apart(COMPACT_S) as line:
            line.execute(b"SET statement_timeout = 0")
            for table in TABLES:
                line.execute(f"VACUUM (ANALYZE) {table}".encode())
        return {"freed_bytes": max(0, before - self._size_bytes())}

    def close(self) -> None:
        self.journal.close()
        self._line.close()

    def _size_bytes(self) -> int:
        return int(self._line.rows(_BYTES, (list(TABLES),))[0][0])

    def _member(self, host: str) -> dict[str, Any]:
        """One server that the URL names, asked by itself."""
        name, _, port = host.rpartition(":")
        found: dict[str, Any] = {"name": host, "url": f"postgresql://{host}", "healthy": False}
        try:
            with self._line.apart(
                self._line.timeout_s, host=name, port=port, target_session_attrs="any"
            ) as line:
                row = line.execute(_MEMBER.encode()).fetchone()
        except Unavailable as error:
            return found | {"role": "unknown", "problem": str(error)}
        standby, version = row or (True, "")
        role = "standby" if standby else "primary"
        return found | {"healthy": True, "role": role, "version": version}
