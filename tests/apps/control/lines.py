"""A node's line to a journal that it shares with others, for tests to hold and to cut."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from holdfast.core.errors import Unavailable
from holdfast.core.model import Entry, Head
from holdfast.ports import Checkpoint, Journal


class Line:
    """A node's line to a journal that others write to: `held`, its watch hears nothing; `cut`, no
    read comes through either. Closing it leaves the journal open.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.held = False
        self.cut = False
        self._closed = threading.Event()
        self._watching = threading.Lock()

    def hold(self) -> None:
        """From when this returns, the watch hears nothing of what is written."""
        self.held = True
        with self._watching:
            return

    def heal(self) -> None:
        self.held = self.cut = False

    def head(self) -> Head:
        return self._reached().head()

    def append(self, entry: Entry, fence: int = 0) -> None:
        self._reached().append(entry, fence)

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        return self._reached().read(after, limit)

    def watch(self, after: int, timeout_s: float) -> Sequence[Entry]:
        if self.held:
            self._closed.wait(timeout_s)
            return ()
        with self._watching:
            return self._journal.watch(after, timeout_s)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        self._journal.save_checkpoint(checkpoint)

    def checkpoint(self) -> Checkpoint | None:
        return self._journal.checkpoint()

    def close(self) -> None:
        self._closed.set()

    def _reached(self) -> Journal:
        if self.cut:
            raise Unavailable("the line is cut")
        return self._journal
