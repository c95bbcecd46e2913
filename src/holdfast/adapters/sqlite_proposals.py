"""Proposals in a SQLite file of their own: bounded, the oldest go first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from holdfast.adapters.proposal_rows import COLUMNS, Row, pack, unpack
from holdfast.adapters.sqlite_file import SqliteFile
from holdfast.core.errors import Damaged, TooLarge
from holdfast.ports import Proposal

_PROPOSALS: Final = """CREATE TABLE proposals (
    place INTEGER PRIMARY KEY AUTOINCREMENT, proposal TEXT UNIQUE NOT NULL, due_s INTEGER,
    facts BLOB NOT NULL, change BLOB NOT NULL, checksum BLOB NOT NULL
) STRICT"""
_DUE: Final = "CREATE INDEX proposals_due ON proposals (due_s) WHERE due_s IS NOT NULL"
SCHEMA: Final = (_PROPOSALS, _DUE)
APPLICATION: Final = 0x48465032  # "HFP2"
PROPOSALS_MAX: Final = 1_000
PROPOSALS_BYTES_MAX: Final = 256 * 1024 * 1024
_RESTORE: Final = "Delete it: what was proposed and not committed must then be proposed again"


class SqliteProposals:
    """The `Proposals` port on `path`."""

    def __init__(
        self,
        path: Path,
        *,
        proposals_max: int = PROPOSALS_MAX,
        bytes_max: int = PROPOSALS_BYTES_MAX,
    ) -> None:
        self._file = SqliteFile(path, SCHEMA, APPLICATION, restore=_RESTORE)
        self._proposals_max = proposals_max
        self._bytes_max = bytes_max

    def put(self, proposal: Proposal) -> None:
        if len(proposal.change) > self._bytes_max:
            raise TooLarge(f"a proposal of {len(proposal.change)} bytes, at most {self._bytes_max}")
        with self._file.write() as connection:
            connection.execute("DELETE FROM proposals WHERE proposal = ?", (proposal.proposal,))
            connection.execute(
                f"INSERT INTO proposals ({COLUMNS}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608 - a constant
                pack(proposal),
            )
            held, size = 0, 0
            newest_first = "SELECT place, length(change) FROM proposals ORDER BY place DESC"
            for place, change_bytes in connection.execute(newest_first).fetchall():
                held, size = held + 1, size + change_bytes
                if held > self._proposals_max or size > self._bytes_max:
                    connection.execute("DELETE FROM proposals WHERE place <= ?", (place,))
                    break

    def replace(self, old: Proposal, new: Proposal) -> bool:
        if old.proposal != new.proposal:
            return False
        _, due_s, facts, change, checksum = pack(new)
        given = (due_s, facts, change, checksum, old.proposal, pack(old)[-1])
        with self._file.write() as connection:
            done = connection.execute(
                "UPDATE proposals SET due_s = ?, facts = ?, change = ?, checksum = ?"
                " WHERE proposal = ? AND checksum = ?",
                given,
            )
            return done.rowcount == 1

    def get(self, proposal: str) -> Proposal | None:
        found = self._select("WHERE proposal = ?", (proposal,))
        return found[0] if found else None

    def all(self) -> Sequence[Proposal]:
        return self._select("ORDER BY place", ())

    def due(self, now_s: float) -> Sequence[Proposal]:
        return self._select("WHERE due_s <= ? ORDER BY due_s, place", (int(now_s),))

    def delete(self, old: Proposal) -> bool:
        with self._file.write() as connection:
            done = connection.execute(
                "DELETE FROM proposals WHERE proposal = ? AND checksum = ?",
                (old.proposal, pack(old)[-1]),
            )
            return done.rowcount == 1

    def size_bytes(self) -> int:
        return self._file.size_bytes()

    def compact(self) -> int:
        """Bytes given back."""
        return self._file.compact()

    def close(self) -> None:
        self._file.close()

    def _select(self, where: str, arguments: tuple[str | int, ...]) -> list[Proposal]:
        query = f"SELECT {COLUMNS} FROM proposals {where}"  # noqa: S608 - constants only
        with self._file.read() as connection:
            rows: list[Row] = connection.execute(query, arguments).fetchall()
        return [self._proposal(row) for row in rows]

    def _proposal(self, row: Row) -> Proposal:
        try:
            return unpack(row)
        except Damaged as error:
            raise self._file.damaged(str(error)) from None
