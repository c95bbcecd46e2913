"""Proposals in PostgreSQL: bounded, the oldest go first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from holdfast.adapters.memory import PROPOSALS_BYTES_MAX, PROPOSALS_MAX
from holdfast.adapters.postgres_line import PostgresLine
from holdfast.adapters.proposal_rows import COLUMNS, pack, unpack
from holdfast.core.errors import Damaged, TooLarge
from holdfast.ports import Proposal

_INSERT: Final = f"INSERT INTO proposals ({COLUMNS}) VALUES (%s, %s, %b, %b, %b)"  # noqa: S608 - constants only
_REPLACE: Final = (
    "UPDATE proposals SET due_s = %s, facts = %b, change = %b, checksum = %b"
    " WHERE proposal = %s AND checksum = %b RETURNING place"
)
_DELETE: Final = "DELETE FROM proposals WHERE proposal = %s AND checksum = %b RETURNING place"
_BOUND: Final = """
DELETE FROM proposals WHERE place <= (
    SELECT max(place) FROM (
        SELECT place, row_number() OVER newest_first AS held,
            sum(octet_length(change)) OVER newest_first AS size
        FROM proposals WINDOW newest_first AS (ORDER BY place DESC)
    ) AS each WHERE held > %s OR size > %s
)
"""
_RESTORE: Final = (
    "Empty the table proposals: what was proposed and not committed must then be proposed again"
)


class PostgresProposals:
    """The `Proposals` port on a line; its tables are there."""

    def __init__(
        self,
        line: PostgresLine,
        *,
        proposals_max: int = PROPOSALS_MAX,
        bytes_max: int = PROPOSALS_BYTES_MAX,
    ) -> None:
        self._line = line
        self._proposals_max = proposals_max
        self._bytes_max = bytes_max

    def put(self, proposal: Proposal) -> None:
        size = len(proposal.change)
        if size > self._bytes_max:
            raise TooLarge(f"a proposal of {size} bytes, at most {self._bytes_max}")
        with self._line.transaction(lock="proposals") as line:
            line.expect(size)
            line.execute(b"DELETE FROM proposals WHERE proposal = %s", (proposal.proposal,))
            line.execute(_INSERT.encode(), pack(proposal))
            line.execute(_BOUND.encode(), (self._proposals_max, self._bytes_max))

    def replace(self, old: Proposal, new: Proposal) -> bool:
        if old.proposal != new.proposal:
            return False
        given = (*pack(new)[1:], old.proposal, pack(old)[-1])
        return bool(self._line.rows(_REPLACE, given, len(new.change)))

    def get(self, proposal: str) -> Proposal | None:
        found = self._select("WHERE proposal = %s", (proposal,))
        return found[0] if found else None

    def all(self) -> Sequence[Proposal]:
        return self._select("ORDER BY place", ())

    def due(self, now_s: float) -> Sequence[Proposal]:
        return self._select("WHERE due_s <= %s ORDER BY due_s, place", (int(now_s),))

    def delete(self, old: Proposal) -> bool:
        return bool(self._line.rows(_DELETE, (old.proposal, pack(old)[-1])))

    def _select(self, where: str, arguments: tuple[Any, ...]) -> list[Proposal]:
        which, _, _ = where.partition("ORDER BY")
        sizes = f"SELECT coalesce(sum(octet_length(change)), 0)::bigint FROM proposals {which}"  # noqa: S608 - constants only
        ((size,),) = self._line.rows(sizes, arguments)
        query = f"SELECT {COLUMNS} FROM proposals {where}"  # noqa: S608 - constants only
        try:
            return [unpack(row) for row in self._line.rows(query, arguments, size)]
        except Damaged as error:
            raise self._line.damaged(str(error), _RESTORE) from None
