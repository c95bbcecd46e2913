"""The first digest of each snapshot, in PostgreSQL.

It is written before the entry that makes the snapshot is appended, under that entry's hash: a node
that follows finds the digest as soon as it finds the entry, whatever the writer dies of in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from holdfast.adapters.imprint_rows import COLUMNS, Place, pack, place, unpack
from holdfast.adapters.memory import MemoryDigests
from holdfast.adapters.postgres_line import Line, PostgresLine
from holdfast.core.errors import Damaged
from holdfast.ports import Imprint

_FROM: Final = "FROM imprints JOIN unnest(%s::text[], %s::text[]) AS given (environment, service)"
_USING: Final = "USING (environment, service)"
_OF_SUBJECTS: Final = f"SELECT {COLUMNS} {_FROM} {_USING} ORDER BY revision"
_SIZE: Final = f"SELECT coalesce(sum(octet_length(outline)), 0)::bigint {_FROM} {_USING}"
_ALL: Final = f"SELECT {COLUMNS} FROM imprints ORDER BY environment, service, revision"  # noqa: S608 - constants only
_ALL_SIZE: Final = "SELECT coalesce(sum(octet_length(outline)), 0)::bigint FROM imprints"
_PUT: Final = f"""
INSERT INTO imprints ({COLUMNS}) VALUES (%s, %s, %s, %b, %s, %b, %s, %b, %b)
ON CONFLICT (environment, service, revision, entry, format)
DO UPDATE SET outline = EXCLUDED.outline, checksum = EXCLUDED.checksum
"""  # noqa: S608 - constants only
_DELETE: Final = (
    "DELETE FROM imprints"
    " WHERE environment = %s AND service = %s AND revision = %s AND entry = %b AND format = %s"
)
_RESTORE: Final = (
    "Empty the table imprints: digests stand in the journal too, and the newest ones are put again "
    "at the next start. Start the build that ran last, so that it is the one that is believed"
)


class PostgresDigests:
    """The `Digests` port on a line; its tables are there."""

    def __init__(self, line: PostgresLine) -> None:
        self._line = line

    def put(self, made: Sequence[Imprint]) -> Sequence[Imprint]:
        with self._line.transaction(lock="imprints") as line:
            before = self._of_subjects(line, made)
            reference = MemoryDigests()  # the rules of what is kept are its own
            reference.put(before)
            stands = reference.put(made)
            _write(line, before, reference.all())
        return stands

    def all(self) -> Sequence[Imprint]:
        ((size,),) = self._line.rows(_ALL_SIZE)
        return [self._imprint(row) for row in self._line.rows(_ALL, (), size)]

    def _of_subjects(self, line: Line, made: Sequence[Imprint]) -> list[Imprint]:
        subjects = sorted({one.subject for one in made})
        given = ([one.environment for one in subjects], [one.service for one in subjects])
        size = line.execute(_SIZE.encode(), given).fetchone()
        line.expect(size[0] if size else 0)
        rows = line.execute(_OF_SUBJECTS.encode(), given, binary=True).fetchall()
        return [self._imprint(row) for row in rows]

    def _imprint(self, row: tuple[Any, ...]) -> Imprint:
        try:
            return unpack(row)
        except Damaged as error:
            raise self._line.damaged(str(error), _RESTORE) from None


def _write(line: Line, before: Sequence[Imprint], after: Sequence[Imprint]) -> None:
    """Make rows of `before` into rows of `after`."""
    were: dict[Place, Imprint] = {place(one): one for one in before}
    are: dict[Place, Imprint] = {place(one): one for one in after}
    changed = [one for where, one in are.items() if were.get(where) != one]
    line.expect(sum(len(one.outline) for one in changed))
    with line.cursor() as cursor:
        cursor.executemany(_PUT.encode(), [pack(one, one.outline) for one in changed])
        cursor.executemany(_DELETE.encode(), [where for where in were if where not in are])
