"""Checkpoints as files beside the journal: written aside, synced, renamed; the newest two kept.

They can be made anew from the journal at any time, so a damaged one is passed over and never an
error: a start without it takes longer and gives the same state.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path
from typing import Final

import msgspec

from holdfast.adapters.sqlite_file import sync_directory
from holdfast.core.errors import Unavailable
from holdfast.ports import Checkpoint

KEPT: Final = 2
_NAME = re.compile(r"checkpoint-(\d{1,19})")


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line of a file. `digest` covers the revision and all that follows the line."""

    revision: int
    digest: str
    format: str = "holdfast.checkpoint.v1"


_HEADER: Final = msgspec.json.Decoder(_Header)


class CheckpointFiles:
    """Checkpoints in `directory`, which is made with the first one. `passed_over` counts damage."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.passed_over = 0

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep one durably; raises `Unavailable` when the disk refuses, nothing changed then."""
        header = _header(checkpoint.revision, checkpoint.body)
        target = self._directory / f"checkpoint-{checkpoint.revision}"
        aside = self._directory / f".{target.name}.{os.getpid()}"
        try:
            self._directory.mkdir(exist_ok=True)
            try:
                with aside.open("wb") as file:
                    file.write(msgspec.json.encode(header) + b"\n")
                    file.write(checkpoint.body)
                    file.flush()
                    os.fsync(file.fileno())
                aside.replace(target)
            finally:
                aside.unlink(missing_ok=True)
            sync_directory(self._directory)
            for old in self._newest_first()[KEPT:]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"{self._directory}: {error.strerror or error}") from error

    def newest(self, revision_max: int) -> Checkpoint | None:
        """The newest whole one not above `revision_max`, which is the journal's head."""
        for path in self._newest_first():
            checkpoint = _load(path)
            if checkpoint is not None and checkpoint.revision <= revision_max:
                return checkpoint
            self.passed_over += 1
        return None

    def _newest_first(self) -> list[Path]:
        found: list[tuple[int, Path]] = []
        with contextlib.suppress(OSError):  # not there, or not readable: all of it is expendable
            for path in self._directory.iterdir():
                match = _NAME.fullmatch(path.name)
                if match:
                    found.append((int(match[1]), path))
        return [path for _, path in sorted(found, reverse=True)]


def _load(path: Path) -> Checkpoint | None:
    try:
        first, _, body = path.read_bytes().partition(b"\n")
        header = _HEADER.decode(first)
    except (OSError, msgspec.MsgspecError):
        return None
    whole = header == _header(header.revision, body)
    return Checkpoint(header.revision, body) if whole else None


def _header(revision: int, body: bytes) -> _Header:
    covered = hashlib.sha256(b"%d\n" % revision)
    covered.update(body)
    return _Header(revision, covered.hexdigest())
