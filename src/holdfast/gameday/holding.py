"""Another process in the middle of a write to a journal in SQLite: what a backup or a twin may be.

python -m holdfast.gameday.holding JOURNAL PARENT

with Held(directory) as store:      # as the clusters of other engines
    store.stop()                    # it has the file's lock, and is stopped
    store.cont()                    # it goes on, and lets go
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import IO, Final, Self

from holdfast.adapters.sqlite_store import JOURNAL
from holdfast.apps.dev import end_with_parent
from holdfast.apps.store_urls import url_of

WORD: Final = b"held\n"


class Held:
    """A store in `directory`, and who holds it up."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._holder: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return url_of(self._directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
            self._pipe(self._holder).close()

    def stop(self) -> None:
        """Begin a write in another process, and stop it in its middle."""
        module = ("-m", "holdfast.gameday.holding")
        command = (sys.executable, *module, str(self._directory / JOURNAL), str(os.getpid()))
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603  our own
        self._pipe(self._holder).readline()
        self._holder.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let it go on to its end."""
        assert self._holder is not None  # noqa: S101  stopped before
        self._holder.terminate()
        self._holder.send_signal(signal.SIGCONT)
        self._holder.wait()

    @staticmethod
    def _pipe(holder: subprocess.Popen[bytes]) -> IO[bytes]:
        assert holder.stdout is not None  # noqa: S101  asked for
        return holder.stdout


def main(journal: Path, parent: int) -> None:
    """Hold the file's lock until a signal comes."""
    end_with_parent(parent)
    with sqlite3.connect(journal, isolation_level=None) as connection:
        connection.execute("BEGIN IMMEDIATE")
        os.write(1, WORD)
        signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
