"""Pushes that one worker of an edge took, left for its siblings in a folder that they share.

A push comes in on one connection, and so to one worker. The others follow the same upstreams, which
are dead, and would never hear of it. Each judges for itself what it finds here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from holdfast.core.pushes import PUSH_BYTES_MAX

FILES_MAX: Final = 32
FRESH_S: Final = 60.0
"""What is older was there before this worker, and is on its disk or was refused."""


class Spool:
    """One worker's view of the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, int] = {}

    def put(self, name: str, body: bytes) -> None:
        """Leave a push for the others; a disk that refuses costs them this one alone."""
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            aside = self._folder / f".{name}"
            aside.write_bytes(body)
            self._seen[name] = aside.stat().st_mtime_ns
            aside.replace(self._folder / name)
            for old in sorted(self._files(), key=lambda path: path.stat().st_mtime)[:-FILES_MAX]:
                old.unlink(missing_ok=True)

    def fresh(self) -> Iterator[bytes]:
        """Pushes that came of late and that this worker has not seen. One that came again is new:
        what kept it out the first time may be gone."""
        with suppress(OSError):
            for path in self._files():
                came = path.stat()
                seen = self._seen.get(path.name) == came.st_mtime_ns
                if seen or time.time() - came.st_mtime > FRESH_S:
                    continue
                self._seen[path.name] = came.st_mtime_ns
                with path.open("rb") as file:
                    yield file.read(PUSH_BYTES_MAX + 1)

    def _files(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if not path.name.startswith(".")]
