"""A consumer's cache directory read and never touched: what it has seen signed, for an audit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from holdfast.adapters.disk_cache import BODY_BYTES_MAX, unpacked
from holdfast.core.errors import Unavailable

FILES_MAX: Final = 10_000
"""Files read of one directory."""
FRESHNESS: Final = "freshness."
ROOT: Final = "root"
_OWN: Final = "holdfast-1"


class CacheCopy:
    """The cache at `directory`, as its owner named it. `damaged` names files that are not whole."""

    def __init__(self, directory: Path) -> None:
        own = directory / _OWN
        if not own.is_dir():
            raise Unavailable(f"{directory} holds no consumer's cache (no {_OWN} in it)")
        self._own = own
        self.damaged: list[str] = []

    def bundles(self) -> Iterator[tuple[str, bytes]]:
        """(path, body) of every generation kept."""
        yield from self._bodies(sorted((self._own / "generations").glob("*/*/*-*")))

    def freshness(self) -> Iterator[tuple[str, bytes]]:
        """(path, envelope) of every freshness statement kept."""
        yield from self._bodies(sorted((self._own / "noted").glob(f"{FRESHNESS}*")))

    def root(self) -> bytes | None:
        """The pinned root document; none where it was given from outside."""
        return next((body for _, body in self._bodies([self._own / "noted" / ROOT])), None)

    def noted(self, name: str) -> bytes | None:
        """A document by its name; none when it isn't there, or is damaged."""
        path = self._own / "noted" / name
        return next((body for _, body in self._bodies([path])), None)

    def _bodies(self, paths: list[Path]) -> Iterator[tuple[str, bytes]]:
        for path in paths[:FILES_MAX]:
            if path.suffix in (".damaged", ".aside") or not path.is_file():
                continue
            with path.open("rb") as file:
                body = unpacked(file.read(BODY_BYTES_MAX + 1024))
            if body is None:
                self.damaged.append(str(path))
            else:
                yield str(path), body
