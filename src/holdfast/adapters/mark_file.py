"""The mark of a store in a file beside its journal: what is under way in all of it.

No file, no mark. A file that can't be read is a mark all the same: it was put there to stop writes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from holdfast.adapters.sqlite_file import sync_directory
from holdfast.core.errors import TooLarge, Unavailable

MARK_BYTES_MAX: Final = 4096


class MarkFile:
    """One text at `path`, written aside and renamed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> str:
        try:
            return self.path.read_bytes()[:MARK_BYTES_MAX].decode(errors="replace") or "unreadable"
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"unreadable: {self.path}: {error.strerror or error}"

    def write(self, text: str) -> None:
        """Keep it durably; the empty text takes the file away. Raises `Unavailable`."""
        body = mark_bytes(text)
        aside = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        try:
            if body:
                with aside.open("wb") as file:
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
                aside.replace(self.path)
            else:
                self.path.unlink(missing_ok=True)
            sync_directory(self.path.parent)
        except OSError as error:
            raise Unavailable(f"{self.path}: {error.strerror or error}") from error


def mark_bytes(text: str) -> bytes:
    """The text's bytes. Raises `TooLarge`."""
    body = text.encode()
    if len(body) > MARK_BYTES_MAX:
        raise TooLarge(f"a mark of {len(body)} bytes, at most {MARK_BYTES_MAX}")
    return body
