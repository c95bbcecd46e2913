"""Any store read as a copy of a journal is: for audits and verifications, which write nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from holdfast.adapters.journal_copy import JournalCopy, ReadOnly, Row
from holdfast.apps.cli.stores import url_from
from holdfast.apps.store_urls import directory_of, problems_of_store, shown
from holdfast.apps.stores import open_stores
from holdfast.core.errors import Damaged, Invalid
from holdfast.core.history import encode_entry
from holdfast.ports import Checkpoint, Imprint


def open_copy(at: str | Path, password_file: Path | None = None) -> ReadOnly:
    """The journal of a data directory, of a file, or of the store at a URL.

    Raises `Invalid` for a URL that can't be meant, `Unavailable` when nobody answers.
    """
    if isinstance(at, Path):
        return JournalCopy(at)
    url = url_from(at)
    if url.startswith("sqlite:"):
        if url == at and (problems := problems_of_store(url)):
            raise Invalid(problems)
        return JournalCopy(directory_of(url) if url == at else Path(at))
    return StoreCopy(url, password_file)


class StoreCopy:
    """The store at `url`, up to the head that it has now. An engine's journal has no witness."""

    folder = None
    witnessed = None

    def __init__(self, url: str, password_file: Path | None) -> None:
        self.name = shown(url)
        self._stores = open_stores(url, password_file=password_file, there=True)
        try:
            self.head = self._stores.journal.head()
        except BaseException:
            self._stores.close()
            raise

    def rows(self, after: int = 0) -> Iterator[Row]:
        left = max(0, self.head.revision - after)
        for entry in self._stores.journal.read(after, left):
            yield Row(entry.revision, entry.hash, encode_entry(entry))

    def checkpoint(self) -> Checkpoint | None:
        return self._stores.journal.checkpoint()

    def imprints(self) -> tuple[list[Imprint], list[str]]:
        try:
            return list(self._stores.digests.all()), []
        except Damaged as error:
            return [], [str(error)]

    def blob(self, digest: str) -> bytes | None:
        return self._stores.blobs.get(digest)

    def close(self) -> None:
        self._stores.close()
