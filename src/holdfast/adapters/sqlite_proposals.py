"""Proposals in a SQLite file of their own: bounded, the oldest go first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

from holdfast.adapters.sqlite_file import SqliteFile
from holdfast.core.errors import TooLarge
from holdfast.ports import Proposal

_PROPOSALS: Final = """CREATE TABLE proposals (
    place INTEGER PRIMARY KEY AUTOINCREMENT, proposal TEXT UNIQUE NOT NULL, author TEXT NOT NULL,
    at_ms INTEGER NOT NULL, change BLOB NOT NULL, digest BLOB NOT NULL, checksum BLOB NOT NULL
) STRICT"""
SCHEMA: Final = (_PROPOSALS,)
APPLICATION: Final = 0x48465031  # "HFP1"
PROPOSALS_MAX: Final = 1_000
PROPOSALS_BYTES_MAX: Final = 256 * 1024 * 1024
_COLUMNS: Final = "proposal, author, at_ms, change, digest, checksum"
_RESTORE: Final = "Delete it: what was proposed and not committed must then be proposed again"

_Row: TypeAlias = tuple[str, str, int, bytes, bytes, bytes]


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
        row = (
            proposal.proposal,
            proposal.author,
            proposal.at_ms,
            proposal.change,
            bytes.fromhex(proposal.digest),
            _checksum(proposal),
        )
        with self._file.write() as connection:
            connection.execute("DELETE FROM proposals WHERE proposal = ?", (proposal.proposal,))
            connection.execute(
                f"INSERT INTO proposals ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608 - a constant
                row,
            )
            held, size = 0, 0
            newest_first = "SELECT place, length(change) FROM proposals ORDER BY place DESC"
            for place, change_bytes in connection.execute(newest_first).fetchall():
                held, size = held + 1, size + change_bytes
                if held > self._proposals_max or size > self._bytes_max:
                    connection.execute("DELETE FROM proposals WHERE place <= ?", (place,))
                    break

    def get(self, proposal: str) -> Proposal | None:
        found = self._select("WHERE proposal = ?", (proposal,))
        return found[0] if found else None

    def all(self) -> Sequence[Proposal]:
        return self._select("ORDER BY place", ())

    def delete(self, proposal: str) -> None:
        with self._file.write() as connection:
            connection.execute("DELETE FROM proposals WHERE proposal = ?", (proposal,))

    def close(self) -> None:
        self._file.close()

    def _select(self, where: str, arguments: tuple[str, ...]) -> list[Proposal]:
        query = f"SELECT {_COLUMNS} FROM proposals {where}"  # noqa: S608 - constants only
        with self._file.read() as connection:
            rows: list[_Row] = connection.execute(query, arguments).fetchall()
        return [self._proposal(row) for row in rows]

    def _proposal(self, row: _Row) -> Proposal:
        name, author, at_ms, change, digest, checksum = row
        proposal = Proposal(
            proposal=name, digest=digest.hex(), change=change, author=author, at_ms=at_ms
        )
        if _checksum(proposal) != checksum:
            raise self._file.damaged(f"proposal {name} is not what was put there")
        return proposal


def _checksum(proposal: Proposal) -> bytes:
    head = f"{proposal.proposal}\n{proposal.author}\n{proposal.at_ms}\n{proposal.digest}\n"
    return hashlib.sha256(head.encode() + proposal.change).digest()
