"""What `holdfast store restore` does: a backup into an empty store, and no number given out twice.

Consumers refuse a revision below theirs, another one under the same number, and a setting that
changed though nothing since their revision touched it. So a restored journal goes on above
all that was ever seen, by entries without edits that say why.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final

from holdfast.adapters.cache_copy import CacheCopy
from holdfast.core.bundle import decode_bundle
from holdfast.core.errors import Damaged, HoldfastError, TooLarge, Unavailable
from holdfast.core.history import seal
from holdfast.core.model import Entry, Head
from holdfast.core.snapshot import decode_freshness, decode_statement
from holdfast.core.wire import decode_envelope
from holdfast.engine import backup
from holdfast.engine.backup import BackupContent, Contents
from holdfast.engine.moving import BATCH, Moved, Tell, move
from holdfast.ports import Journal, Stores

SKIPPED_MAX: Final = 1_000_000
"""Revisions left out above a backup."""
ACTOR: Final = "holdfast store restore"


def restored(
    body: BinaryIO,
    file: Path,
    stores: Stores,
    newest: int,
    at_ms: int,
    tell: Tell,
    *,
    by: str = "",
) -> tuple[Contents, Moved]:
    """Verify the backup, fill `stores`, and let the journal go on above revision `newest`.

    `by` names this try. Raises `Damaged` before anything is written when the backup is not whole.
    """
    found = checked(body, file, tell)
    if newest - found.revision > SKIPPED_MAX:
        raise TooLarge(
            f"revision {newest} is {newest - found.revision} above the backup's, at most "
            f"{SKIPPED_MAX}: is it meant?"
        )
    name = f"{file.name} ({found.sha256[:16]})"

    def complete(journal: Journal) -> None:
        _leave_out(journal, found.revision, newest, at_ms)

    content = BackupContent(body, name)
    moved = move(content, stores, tell, complete=complete, completes=_is_left_out, by=by)
    return found, moved


def checked(body: BinaryIO, file: Path, tell: Tell) -> Contents:
    """`backup.verify`, and what is damaged is told with the file's name."""
    try:
        return backup.verify(body, tell)
    except Damaged as error:
        raise Damaged(f"the backup {file} is damaged, use another one: {error}") from None


def seen_in(directory: Path) -> int:
    """The newest revision that the consumer with this cache saw.

    Raises `Unavailable` where that can't be told: no cache, an empty one, or a damaged file in it.
    """
    cache, seen = CacheCopy(directory), list[int]()
    for path, body in cache.bundles():
        try:
            seen.append(decode_statement(decode_bundle(body).signature.body()).revision)
        except HoldfastError:
            cache.damaged.append(path)
    for path, body in cache.freshness():
        try:
            seen.append(decode_freshness(decode_envelope(body).body()).journal_revision)
        except HoldfastError:
            cache.damaged.append(path)
    if cache.damaged or not seen:
        what = f"{cache.damaged[0]} is damaged" if cache.damaged else "nothing is in it"
        raise Unavailable(
            f"{directory} does not tell what its consumer saw: {what}. Ask another one, or give "
            "--beyond with a revision that nobody can have passed"
        )
    return max(seen)


def _is_left_out(entry: Entry) -> bool:
    return entry.actor == ACTOR and not entry.edits


def _leave_out(journal: Journal, backed_up: int, newest: int, at_ms: int) -> None:
    """Entries without edits up to revision `newest`; those of an interrupted try stay."""
    head = journal.head()
    reason = f"revisions {backed_up + 1} to {newest} were lost, and are not given out again"
    waiting: list[Entry] = []
    while head.revision < newest:
        entry = seal(head, at_ms, ACTOR, reason, ())
        head = Head(entry.revision, entry.hash)
        waiting.append(entry)
        if len(waiting) == BATCH or head.revision == newest:
            journal.append_all(waiting)
            waiting = []
