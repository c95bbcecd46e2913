"""Which processes are in the middle of something, and how many died there.

    {folder}/{process}.alive          locked by the process for as long as it lives
    {folder}/{name}.{process}         an empty file: that process is in the middle of `name`

The kernel lets the lock go however the process ends. So whoever finds a mark whose lock is free
knows that its process ended without leaving, on any kernel namespace that sees the same files. A
process that ends in the ordinary way leaves at its exit, but for an exception that nobody caught:
that is a death as well. Being told to end is an ordinary way: Ctrl-C, and SIGTERM, by which
deployments end what they replace. Python ends by SIGTERM without its hooks, so a handler leaves
and then ends the process as before. A handler of the host's own stays, or takes its place.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final
from weakref import WeakSet

_ALIVE: Final = ".alive"
MARKS_MAX: Final = 10_000
"""Marks looked at; beyond it nobody is counted, as nobody could have died so often unnoticed."""


class CrashMarks:
    """See the module. What the disk refuses is not marked: then no death is counted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pid = 0
        self._process = ""
        self._lock = -1
        self._names: set[str] = set()
        _here.add(self)
        with suppress(ValueError):  # another thread than the main one may set no handler
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                signal.signal(signal.SIGTERM, _leave_and_end)

    def enter(self, name: str) -> None:
        """This process is in the middle of `name` until it leaves, or dies."""
        with suppress(OSError):
            self._begin()
            (self._folder / f"{name}.{self._process}").touch(mode=0o600)
            self._names.add(name)

    def leave(self, name: str) -> None:
        """It ended well, for this process."""
        if self._pid == os.getpid():
            self._names.discard(name)
            with suppress(OSError):
                (self._folder / f"{name}.{self._process}").unlink()

    def deaths(self, name: str) -> int:
        """How many processes died in the middle of `name`."""
        return len(self._dead(f"{name}."))

    def forget(self, prefix: str) -> None:
        """Count those who died in the middle of a name that begins so no more."""
        for mark in self._dead(prefix):
            with suppress(OSError):
                (self._folder / mark).unlink()
        self._sweep()

    def _begin(self) -> None:
        """A name and a lock of this process's own; a child has inherited its parent's."""
        if self._pid == os.getpid():
            return
        if self._lock >= 0:
            os.close(self._lock)  # the parent's lock stays the parent's
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._process, self._names = os.urandom(8).hex(), set()
        path = self._folder / f"{self._process}{_ALIVE}"
        aside = path.with_suffix(".new")
        self._lock = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        aside.replace(path)
        if self._pid == 0:
            atexit.register(self._leave_all)
            self._survive_multiprocessing()
        self._pid = os.getpid()

    def _survive_multiprocessing(self) -> None:
        """Its children end without the hooks of an exit, but run finalizers of their own."""
        util: Any = sys.modules.get("multiprocessing.util")
        if util is not None:
            util.register_after_fork(
                self, lambda marks: util.Finalize(None, marks.close, exitpriority=0)
            )

    def _leave_all(self) -> None:
        last = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
        if last is None or isinstance(last, KeyboardInterrupt):
            self.close()  # else an exception ended the process

    def close(self) -> None:
        """Leave everything: the process ends well."""
        for name in list(self._names):
            self.leave(name)
        if self._pid == os.getpid() and self._lock >= 0:
            with suppress(OSError):
                (self._folder / f"{self._process}{_ALIVE}").unlink()
            os.close(self._lock)
            self._lock, self._pid = -1, -1

    def _dead(self, prefix: str) -> list[str]:
        found = self._list()
        marks = [name for name in found if name.startswith(prefix) and not _is_lock(name)]
        if len(marks) > MARKS_MAX:
            return []
        alive: dict[str, bool] = {}
        dead = []
        for mark in marks:
            process = mark.rpartition(".")[2]
            if process not in alive:
                alive[process] = self._is_alive(process)
            if not alive[process]:
                dead.append(mark)
        return dead

    def _is_alive(self, process: str) -> bool:
        if process == self._process and self._pid == os.getpid():
            return True
        try:
            lock = os.open(self._folder / f"{process}{_ALIVE}", os.O_RDWR)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        return False

    def _sweep(self) -> None:
        """Take away the locks of the dead that no mark names."""
        found = self._list()
        named = {name.rpartition(".")[2] for name in found if not _is_lock(name)}
        for name in found:
            process = name.removesuffix(_ALIVE)
            if name.endswith(_ALIVE) and process not in named and not self._is_alive(process):
                with suppress(OSError):
                    (self._folder / name).unlink()

    def _list(self) -> list[str]:
        try:
            return os.listdir(self._folder)  # noqa: PTH208  names are all that is needed
        except OSError:
            return []


_here: Final[WeakSet[CrashMarks]] = WeakSet()


def _leave_and_end(number: int, _: FrameType | None) -> None:
    for marks in list(_here):
        marks.close()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _is_lock(name: str) -> bool:
    return name.endswith((_ALIVE, ".new"))
