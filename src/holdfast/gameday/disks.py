"""Disks made sick for real: full, read-only, failing to sync, cutting writes short; and well again.

A `Disk` is a small file system of its own, mounted where a process keeps its files. Where nobody
may mount, the same processes meet the same faults by other ways of the kernel: a bound on the size
of files instead of a full disk, a closed directory instead of a read-only one.

What needs a running process takes its id: errors of system calls come from `strace`, bounds on
files from `prlimit`. Both hit its other regular files too, its log among them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias

from holdfast.core.errors import Unavailable

Kind: TypeAlias = Literal["full", "read-only", "fsync error", "short write"]
KINDS: Final[tuple[Kind, ...]] = ("full", "read-only", "fsync error", "short write")
SIZE_BYTES: Final = 16 * 1024 * 1024
ATTACH_S: Final = 10.0
SHORT_BYTES: Final = 6_000
"""Of a file, before the kernel cuts a write short: in the middle of a page, and of a snapshot."""
_SYNCS: Final = "fsync,fdatasync,sync_file_range,msync"
_CHANGES: Final = "pwrite64,pwritev,ftruncate,fallocate"
_CLONE_NEWNS: Final = 0x00020000
_PRIVATE: Final = (1 << 18) | (1 << 14)
_FILLER: Final = ".filler"


def own_mounts() -> None:
    """What is mounted from here on is seen by this process and its children, and goes with them.

    Nothing happens where that is not allowed.
    """
    libc = ctypes.CDLL(None)
    if libc.unshare(_CLONE_NEWNS) == 0:
        libc.mount(b"none", b"/", None, _PRIVATE, None)


class Disk:
    """A file system at `path`, which must not be in use yet: `with Disk(path) as disk`."""

    def __init__(self, path: Path, size_bytes: int = SIZE_BYTES) -> None:
        self.path = path
        self._size_bytes = size_bytes
        self.mounted = False

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        self.mounted = _mount(
            "-t", "tmpfs", "-o", f"size={self._size_bytes},mode=700", "disk", self.path
        )
        return self

    def __exit__(self, *_: object) -> None:
        while self.mounted and _run("umount", "-l", self.path):
            self.mounted = self.path.is_mount()

    @contextlib.contextmanager
    def sick(self, kind: Kind, process: int, short_bytes: int = SHORT_BYTES) -> Iterator[None]:
        """Until the block is left. `process` is who uses it; a write is cut at `short_bytes`."""
        makes: dict[Kind, contextlib.AbstractContextManager[None]] = {
            "full": self._full(process),
            "read-only": self._read_only(process),
            "fsync error": failing(process, _SYNCS, "EIO"),
            "short write": files_bounded(process, short_bytes),
        }
        with makes[kind]:
            yield

    @contextlib.contextmanager
    def _full(self, process: int) -> Iterator[None]:
        if not self.mounted:
            with files_bounded(process, 1):
                yield
            return
        filler = self.path / _FILLER
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        try:
            yield
        finally:
            filler.unlink()

    @contextlib.contextmanager
    def _read_only(self, process: int) -> Iterator[None]:
        """New files can't be opened for writing; what is open for it is refused by the kernel too,
        as after a file system's own emergency."""
        with contextlib.ExitStack() as stack:
            if self.mounted:
                _must("mount", "--bind", self.path, self.path)
                stack.callback(_must, "umount", self.path)
                _must("mount", "-o", "remount,bind,ro", self.path)
            elif os.geteuid():
                stack.enter_context(_closed(self.path))
            stack.enter_context(failing(process, _CHANGES, "EROFS"))
            yield


@contextlib.contextmanager
def failing(process: int, calls: str, error: str) -> Iterator[None]:
    """These system calls of a process and its threads end with this error, and are not done."""
    strace = subprocess.Popen(  # noqa: S603  our own words
        ("strace", "-f",  # noqa: S607  from Debian, wherever it is
         "-p", str(process), "-o", "/dev/null", "-e", f"trace={calls}",
         "-e", f"inject={calls}:error={error}"),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        end = time.monotonic() + ATTACH_S
        while not _all_traced(process):
            if strace.poll() is not None or time.monotonic() > end:
                raise Unavailable(f"strace could not attach to process {process}")
            time.sleep(0.01)
        yield
    finally:
        strace.send_signal(signal.SIGTERM)  # it lets go and ends
        strace.communicate()


def _all_traced(process: int) -> bool:
    """Whether every thread has a tracer."""
    statuses = list(Path(f"/proc/{process}/task").glob("*/status"))
    try:
        return bool(statuses) and all("TracerPid:\t0\n" not in one.read_text() for one in statuses)
    except OSError:  # a thread has ended
        return False


@contextlib.contextmanager
def files_bounded(process: int, bytes_max: int) -> Iterator[None]:
    """No file of it may grow beyond: the write that crosses the bound is short, the next fails."""
    before = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (bytes_max, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process, resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def _closed(directory: Path) -> Iterator[None]:
    """Neither it nor what is below can be written by an ordinary user."""
    folders = [directory, *(path for path in directory.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    try:
        yield
    finally:
        for folder in folders:
            folder.chmod(0o700)


def _mount(*arguments: str | Path) -> bool:
    return _run("mount", *arguments)


def _must(*command: str | Path) -> None:
    if not _run(*command):
        raise Unavailable(f"{' '.join(map(str, command))} was refused")


def _run(*command: str | Path) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603  our own words
    except OSError:
        return False
    return done.returncode == 0
