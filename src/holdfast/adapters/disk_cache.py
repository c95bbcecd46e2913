"""Last good generations in a directory, safe against crashes, rot and other processes.

    {directory}/holdfast-1/generations/{environment}/{service}/{revision}-{checksum}
    {directory}/holdfast-1/noted/{name}
    {directory}/holdfast-1/running/…                who is in the middle of what (`crash_marks`)

Each file is a header (magic, SHA-256 and length of the body, of fixed size) and the body. A file is
written aside, synced, renamed and its directory synced: it is there whole or not at all. Names hold
the content's checksum, so that two processes never write different things under one name, and a
candidate never overwrites a proven generation. A file whose header doesn't match its body to the
last bit is renamed to `*.damaged` and not read again.

`holdfast-1` must be this user's own and closed to all others: who can write there can plant a
pinned root. The files are read, not mapped: somebody who truncates a mapped file kills the host.

A disk that is full, read-only or faulty is no reason not to begin: what there is is read, and every
write tries anew to make what is missing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

from holdfast.adapters.crash_marks import CrashMarks
from holdfast.core.errors import Unavailable
from holdfast.core.limits import SEGMENT_BYTES_MAX
from holdfast.core.model import Subject

GENERATIONS_KEPT = 3
DAMAGED_KEPT = 3
"""Damaged files left in one directory for whoever looks into it."""
LEFTOVER_S = 3600.0
"""Files written aside by a process that died are removed after this long."""
BODY_BYTES_MAX = SEGMENT_BYTES_MAX

_SICK: Final = frozenset({errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS})
"""Errors of a disk that may be well again, with nobody having to change what was asked for."""
_MAGIC: Final = b"holdfast 1 "
_HEADER_BYTES: Final = len(_MAGIC) + 64 + 1 + 12 + 1
_GENERATION: Final = re.compile(r"(\d{16})-[0-9a-f]{16}")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_DAMAGED: Final = ".damaged"
_ASIDE: Final = ".aside"
_number: Final = count()


class DiskCache:
    """The `Cache` port on a directory, made if it isn't there.

    Raises `Unavailable` when the directory can't be made, or belongs to or is open to others; not
    for a disk that is sick, and with `patient` not at all: `fault` says why it can't be used now.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        kept: int = GENERATIONS_KEPT,
        *,
        patient: bool = False,
    ) -> None:
        self._kept = kept
        self.damaged = 0
        self.fault = ""
        self._own = own = Path(directory) / "holdfast-1"
        self._generations = own / "generations"
        self._noted = own / "noted"
        self._marks = CrashMarks(own / "running")
        self._unsynced: set[Path] = set()
        self._readable = self._begun = False
        try:
            self._begin()
        except OSError as error:
            if not patient and error.errno not in _SICK:
                raise Unavailable(self.fault) from error

    def _begin(self) -> None:
        """Make the directories, unless that was done. Nothing is read before the first is ours."""
        if self._begun:
            return
        try:
            self._own.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_own(self._own)
            self._readable = True
            self._generations.mkdir(mode=0o700, exist_ok=True)
            self._noted.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            self.fault = f"the cache directory {self._own} can't be used: {error}"
            raise
        self._begun, self.fault = True, ""
        for name in _list(self._noted):
            if name.endswith(_ASIDE):
                _remove_leftover(self._noted / name)

    def load(self, subject: Subject) -> Iterator[bytes]:
        folder = self._folder(subject)
        for name in sorted(_generations(folder) if self._readable else (), reverse=True):
            body = self._read(folder / name)
            if body is not None:
                yield body

    def save(
        self, subject: Subject, revision: int, body: bytes, spared: Collection[int] = ()
    ) -> None:
        folder = self._folder(subject)
        checksum = hashlib.sha256(body).hexdigest()
        name = f"{revision:016d}-{checksum[:16]}"
        try:
            self._begin()
            if name not in _generations(folder) or self._read(folder / name) is None:
                self._make(folder)
                self._write(folder / name, _header(checksum, len(body)), body)
            elif folder in self._unsynced:
                self._sync(folder)
            self._sweep(folder, spared)
        except OSError as error:
            raise Unavailable(f"can't keep {subject} in {folder}: {error}") from error

    def note(self, name: str, body: bytes) -> None:
        path, checksum = self._noted / _named(name), hashlib.sha256(body).hexdigest()
        try:
            self._begin()
            self._write(path, _header(checksum, len(body)), body)
        except OSError as error:
            raise Unavailable(f"can't keep {name} in {self._noted}: {error}") from error

    def noted(self, name: str) -> bytes | None:
        return self._read(self._noted / _named(name))

    def names(self, prefix: str) -> Sequence[str]:
        return sorted(
            name
            for name in self._list(self._noted)
            if name.startswith(prefix) and not name.endswith((_DAMAGED, _ASIDE))
        )

    def forget(self, name: str) -> None:
        path = self._noted / _named(name)
        if self._readable:
            with suppress(OSError):
                path.unlink()

    def subjects(self) -> Sequence[Subject]:
        return sorted(
            Subject(environment, service)
            for environment in self._list(self._generations)
            for service in _list(self._generations / environment)
            if _generations(self._generations / environment / service)
        )

    def enter(self, name: str) -> None:
        mark = _named(name)
        if self._readable:
            self._marks.enter(mark)

    def leave(self, name: str) -> None:
        self._marks.leave(_named(name))

    def deaths(self, name: str) -> int:
        return self._marks.deaths(name) if self._readable else 0

    def forgive(self, prefix: str) -> None:
        if self._readable:
            self._marks.forget(prefix)

    def _list(self, folder: Path) -> list[str]:
        return _list(folder) if self._readable else []

    def _folder(self, subject: Subject) -> Path:
        return self._generations / _named(subject.environment) / _named(subject.service)

    def _read(self, path: Path) -> bytes | None:
        """The body, or none: not there, not readable, or damaged and then set aside."""
        if not self._readable:
            return None
        try:
            with path.open("rb") as file:
                content = file.read(_HEADER_BYTES + BODY_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError:
            self.damaged += 1  # it stays: what can't be read now may be whole
            return None
        body = unpacked(content)
        if body is not None:
            return body
        self.damaged += 1
        with suppress(OSError):
            path.replace(path.with_name(path.name + _DAMAGED))
        return None

    def _make(self, folder: Path) -> None:
        """A subject's folder, its name and its parent's as durable as what will be in it."""
        for one in (folder.parent, folder):
            new = not one.is_dir()
            one.mkdir(mode=0o700, exist_ok=True)
            if new or one.parent in self._unsynced:
                self._sync(one.parent)

    def _write(self, path: Path, header: bytes, body: bytes) -> None:
        """Write aside, sync, rename, sync the directory. Nothing is left aside on failure."""
        aside = path.with_name(f"{path.name}.{os.getpid()}-{next(_number)}{_ASIDE}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123  a descriptor, no path
                for part in (header, body):
                    rest = memoryview(part)
                    while rest:
                        rest = rest[file.write(rest) :]
                os.fsync(descriptor)
            aside.replace(path)
        except BaseException:
            with suppress(OSError):
                aside.unlink()
            raise
        self._sync(path.parent)

    def _sync(self, folder: Path) -> None:
        """Make the names in `folder` durable; what fails is owed, and done with the next write."""
        self._unsynced.add(folder)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._unsynced.discard(folder)

    def _sweep(self, folder: Path, spared: Collection[int]) -> None:
        """Let go of what is beyond the bounds; another process may be doing the same."""
        names = _list(folder)
        kept = sorted(name for name in names if _GENERATION.fullmatch(name))
        damaged = sorted(name for name in names if name.endswith(_DAMAGED))
        gone = [name for name in kept[: -self._kept] if int(name.partition("-")[0]) not in spared]
        for name in [*gone, *damaged[:-DAMAGED_KEPT]]:
            (folder / name).unlink(missing_ok=True)
        for name in names:
            if name.endswith(_ASIDE):
                _remove_leftover(folder / name)


def unpacked(content: bytes) -> bytes | None:
    """The body of a file's content, or none when it is not to the last bit what was written."""
    body = content[_HEADER_BYTES:]
    whole = content[:_HEADER_BYTES] == _header(hashlib.sha256(body).hexdigest(), len(body))
    return body if whole else None


def _header(checksum: str, body_bytes: int) -> bytes:
    return b"%b%b %012d\n" % (_MAGIC, checksum.encode(), body_bytes)


def _check_own(own: Path) -> None:
    facts = own.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise PermissionError(f"{own} belongs to somebody else: choose another cache_dir")
    if facts.st_mode & 0o077:
        raise PermissionError(f"{own} is open to others: chmod 700 {own}")


def _remove_leftover(path: Path) -> None:
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > LEFTOVER_S:
            path.unlink()


def _named(name: str) -> str:
    """Names come from upstreams too: none may lead out of the directory."""
    if not _NAME.fullmatch(name) or name.endswith((_DAMAGED, _ASIDE)):
        raise Unavailable(f"{name!r} is no name for a file of the cache")
    return name


def _generations(folder: Path) -> list[str]:
    return [name for name in _list(folder) if _GENERATION.fullmatch(name)]


def _list(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  names are all that is needed
    except OSError:
        return []
