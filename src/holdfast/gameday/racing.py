"""A leader that decides and then writes, a process of its own; somebody else may lead by then.

    python -m holdfast.gameday.racing STORE HOLDER TTL_S PARENT [--unfenced]

Each line of its input names an entry, and says whether to stop between deciding and writing: it
stops itself there with SIGSTOP, and goes on when somebody continues it. For each it says `decided
REVISION TOKEN` and later `written`, `fenced`, `conflict` or `unavailable`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Final, Self

from holdfast.apps.dev import end_with_parent
from holdfast.apps.stores import open_stores
from holdfast.core.errors import Conflict, Fenced, Unavailable
from holdfast.core.history import seal
from holdfast.core.model import Entry, Head, PutSetting, Setting
from holdfast.gameday.processes import until
from holdfast.ports import Lease, Leases, Stores

STOPPED: Final = "stop"
LEASE_S: Final = 30.0
"""For a lease to be had: another one's has to run out first."""
ASK_S: Final = 0.05
TRIES: Final = 5


class Leader:
    """The process, as a drill sees it. `with Leader(url, "a", 1.0) as leader`."""

    def __init__(self, store: str, holder: str, ttl_s: float, *, fenced: bool = True) -> None:
        module = ("-m", "holdfast.gameday.racing", store, holder, str(ttl_s), str(os.getpid()))
        self._command = (sys.executable, *module, *(() if fenced else ("--unfenced",)))

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe)  # noqa: S603  ours
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for end in (self._process.stdin, self._process.stdout):
            _there(end).close()

    def decide(self, name: str, *, stopping: bool) -> tuple[int, int]:
        """Let it begin to write an entry; the revision that it builds on, and its lease's token."""
        order = f"{name} {STOPPED if stopping else 'go'}\n"
        _there(self._process.stdin).write(order.encode())
        _there(self._process.stdin).flush()
        word, revision, token = self.heard().split()
        if word != "decided":
            raise Unavailable(f"the leader said {word}")
        return int(revision), int(token)

    def heard(self) -> str:
        """What it says next. Raises `Unavailable` when it is gone."""
        line = _there(self._process.stdout).readline()
        if not line:
            raise Unavailable("the leader's process ended")
        return line.decode().strip()

    def stop(self) -> None:
        """SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def wait_stopped(self) -> None:
        """Until it does not run any more, by its own doing or not."""
        stat = Path(f"/proc/{self._process.pid}/stat")
        until(lambda: stat.read_text().rsplit(")", 1)[1].split()[0] == "T", "a stop", 10.0, 0.002)

    def cont(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)


def entry(head: Head, name: str) -> Entry:
    """One that says by its reason who wrote it."""
    edit = PutSetting("shop", "leader", Setting("string", {"now": name}))
    return seal(head, int(time.time() * 1000), name, name, [edit])


def lease(leases: Leases, holder: str, ttl_s: float) -> Lease:
    """The lease, as soon as it can be had. Raises `Unavailable`."""
    return until(lambda: leases.take(holder, "", ttl_s), "the lease", LEASE_S, ASK_S)  # type: ignore[no-any-return]


def _race(stores: Stores, holder: str, ttl_s: float, order: str, *, fenced: bool) -> None:
    name, how = order.split()
    held = lease(stores.leases, holder, ttl_s)
    head = stores.journal.head()
    made = entry(head, name)
    _say(f"decided {head.revision} {held.token}")
    if how == STOPPED:
        os.kill(os.getpid(), signal.SIGSTOP)
    _say(_written(stores, made, held.token if fenced else 0))


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def _written(stores: Stores, made: Entry, fence: int) -> str:
    """What the store says of it. One that was away may have lost an answer, and asks again."""
    for _ in range(TRIES):
        try:
            stores.journal.append(made, fence)
        except Unavailable:
            continue
        except (Conflict, Fenced) as refused:
            there = [one.hash for one in stores.journal.read(made.revision - 1, 1)]
            return "written" if there == [made.hash] else refused.code
        return "written"
    return "unavailable"


def _there(end: IO[bytes] | None) -> IO[bytes]:
    assert end is not None  # noqa: S101  both were asked for
    return end


def main(store: str, holder: str, ttl_s: float, *, fenced: bool) -> None:
    """Until its input ends."""
    stores = open_stores(store)
    for order in sys.stdin:
        _race(stores, holder, ttl_s, order, fenced=fenced)
    stores.close()


if __name__ == "__main__":
    end_with_parent(int(sys.argv[4]))
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), fenced="--unfenced" not in sys.argv)
