"""One process to a data directory: a lock that ends with its holder, however that ends.

Nodes share a store, never a directory: what lies in it (keys, samples, and the store of a node that
names no other) has one owner.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from holdfast.core.errors import Unavailable


@contextlib.contextmanager
def sole_user(data_dir: Path, what: str) -> Iterator[None]:
    """Hold the directory as its one `what` (`dev`, `control`), by the file `<what>.lock` in it.

    Raises `Unavailable`, with the other one's process id, when another process holds it, and when
    the disk does not take the lock.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / f"{what}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Unavailable(
                f"{data_dir} is in use by another holdfast {what} (process {lock.read().strip()}): "
                "stop that one, or give --data another directory"
            ) from None
        lock.truncate(0)
        try:
            # At once: what a buffer held would be refused a second time when the file is closed.
            os.write(lock.fileno(), str(os.getpid()).encode())
        except OSError as error:
            raise Unavailable(
                f"{lock.name} can't be written: {error.strerror}; "
                "make room there, or give --data another directory"
            ) from None
        yield
