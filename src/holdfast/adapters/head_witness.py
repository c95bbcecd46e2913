"""A second memory of the journal's head, in a file of its own.

SQLite drops the end of a write-ahead log from the first damaged frame on, without a word: that is
right after a torn write and wrong after a flipped bit, when the frames were acknowledged. The
witness tells the two apart: a journal that stands below it has lost what it had promised.

It is written after the commit and not synced, so it costs microseconds, is never ahead of the
journal, and may lag behind after a power cut: it can miss a loss, it can't invent one.
"""

from __future__ import annotations

import os
import threading
import zlib
from pathlib import Path

from holdfast.core.errors import Unavailable
from holdfast.core.model import Head


class HeadWitness:
    """One fixed line: `revision hash checksum`. A line that is not whole counts as not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._revision = 0
        self._lock = threading.Lock()

    def read(self) -> Head | None:
        try:
            body, _, checksum = self.path.read_bytes().rpartition(b" ")
            if not body or int(checksum, 16) != zlib.crc32(body):
                return None
            revision, digest = body.decode("ascii").split(" ")
            return Head(int(revision), digest)
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise Unavailable(f"{self.path}: {error.strerror or error}") from error

    def write(self, head: Head) -> None:
        """Note a head that is durable already; a disk that refuses costs the note alone."""
        body = f"{head.revision:020d} {head.hash}".encode("ascii")
        with self._lock:
            if head.revision <= self._revision:
                return
            try:
                if self._descriptor < 0:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                    self._descriptor = os.open(self.path, flags, 0o600)
                os.pwrite(self._descriptor, b"%s %08x" % (body, zlib.crc32(body)), 0)
                self._revision = head.revision
            except OSError:
                self._close()

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
