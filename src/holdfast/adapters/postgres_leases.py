"""The lease of a Holdfast in PostgreSQL: one row, and the server's clock, one for all nodes.

A clock that was set back to before the lease was given ends it: the fence guards what is written.
"""

from __future__ import annotations

from typing import Final

from holdfast.adapters.postgres_line import PostgresLine
from holdfast.ports import Lease

_HELD: Final = "since <= clock_timestamp() AND clock_timestamp() < until"
_TAKE: Final = f"""
UPDATE lease SET token = token + CASE WHEN holder = %(holder)s AND token > 0 THEN 0 ELSE 1 END,
    holder = %(holder)s, url = %(url)s, since = clock_timestamp(),
    until = clock_timestamp() + make_interval(secs => %(ttl_s)s)
WHERE holder = %(holder)s AND token > 0 OR NOT ({_HELD})
RETURNING token
"""  # noqa: S608 - constants only
_CURRENT: Final = f"SELECT token, holder, url, {_HELD} FROM lease"  # noqa: S608 - constants only
_GIVE_UP: Final = "UPDATE lease SET until = since WHERE token = %s"


class PostgresLeases:
    """The `Leases` port on a line; its tables are there."""

    def __init__(self, line: PostgresLine) -> None:
        self._line = line

    def take(self, holder: str, url: str, ttl_s: float) -> Lease | None:
        """One statement: who waits for another taker's row looks at it again as it is then."""
        told = {"holder": holder, "url": url, "ttl_s": float(ttl_s)}
        rows = self._line.rows(_TAKE, told)
        return Lease(rows[0][0], holder, url) if rows else None

    def current(self) -> Lease | None:
        rows = self._line.rows(_CURRENT)
        if len(rows) != 1:
            raise self._line.damaged("it has no row for the lease")
        token, holder, url, held = rows[0]
        return Lease(token, holder, url) if held else None

    def give_up(self, lease: Lease) -> None:
        self._line.rows(_GIVE_UP, (lease.token,))
