"""One worker: an edge of its own, that does what its parent orders.

A thread listens to the parent, so that a worker answers it while it restores, and when its event
loop is busy. A parent that is gone, however it ended, is an order to end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from holdfast.adapters.disk_cache import DiskCache
from holdfast.apps.edge.alone import Alone, held_by, lacks, settle
from holdfast.apps.edge.doing import Doing
from holdfast.apps.edge.owned_cache import OwnedCache
from holdfast.apps.edge.process import Edge
from holdfast.apps.edge.siblings import Siblings
from holdfast.apps.edge.talk import Gone, Said, Talk
from holdfast.apps.observe import logger, start_logs
from holdfast.apps.settings import EdgeSettings
from holdfast.core.errors import Unavailable
from holdfast.core.model import Subject

WORKERS_FOLDER: Final = "workers"
STUCK_S: Final = 15.0
"""A turn of the event loop takes milliseconds; one of so long has no end."""
EVALUATION_S: Final = 0.5
"""Of computing, for one request; a thousand settings take some milliseconds."""
READY_S: Final = 2.0
"""A worker that is not ready after this long accepts all the same, to say so."""
WATCH_S: Final = 0.1
_PATIENCE_S: Final = 3600.0

_log = logger("holdfast.edge.worker")


def work(
    settings: EdgeSettings,
    number: int,
    sockets: Sequence[socket.socket],
    talk: Talk,
    doing: Doing | None,
) -> None:
    """Be worker `number` until it is told to end."""
    start_logs(settings.log_level, f"edge-{number}")
    cache = OwnedCache(_cache(settings.cache_dir, number), ours=False)
    siblings = Siblings(settings.cache_dir / "holdfast-1" / WORKERS_FOLDER, number)
    edge = Edge(
        settings,
        once_ready=settle,
        sockets=sockets,
        cache=cache,
        siblings=siblings,
        doing=doing,
    )
    orders = Orders(edge, cache, siblings, talk)
    if doing is not None:
        Watch(edge, doing).start()
    with contextlib.closing(edge):
        orders.start()
        edge.start()
        orders.started = True
        orders.accepts.wait()
        if _wait_ready(edge):
            settle()
        if not orders.ended:
            edge.listener.run()


def _wait_ready(edge: Edge) -> bool:
    """Whether it is ready, waited for a while: who connects waits as well, while others answer."""
    end_s = time.monotonic() + READY_S
    while time.monotonic() < end_s and not edge.own_ready()[0]:
        time.sleep(WATCH_S / 10)
    return edge.own_ready()[0]


class Watch:
    """Ends the process when one evaluation does not end: others wait behind it.

    What counts is computing time of the event loop's thread, so that a machine that is busy with
    other things is no reason. The parent knows what was evaluated (`Doing`).
    """

    def __init__(self, edge: Edge, doing: Doing) -> None:
        self._counts = edge.routes.counts
        self._doing = doing
        self._clock = time.pthread_getcpuclockid(threading.get_ident())

    def start(self) -> None:
        """From the thread that will run the event loop."""
        threading.Thread(target=self._run, name="holdfast-watch", daemon=True).start()

    def _run(self) -> None:
        seen, since_s = self._now(), self._used_s()
        while True:
            time.sleep(WATCH_S)
            now = self._now()
            if now[0] == 0 or now != seen:
                seen, since_s = now, self._used_s()
            elif self._used_s() - since_s > EVALUATION_S:
                _log.critical("an evaluation does not end: this process does")
                os.kill(os.getpid(), signal.SIGKILL)

    def _now(self) -> tuple[int, int, int, int]:
        counts = self._counts
        return self._doing.now[0], counts.evaluations, counts.bulks, counts.ecs_reads

    def _used_s(self) -> float:
        return time.clock_gettime(self._clock)


class Orders:
    """What the parent orders, performed in a thread."""

    def __init__(self, edge: Edge, cache: OwnedCache, siblings: Siblings, talk: Talk) -> None:
        self._edge = edge
        self._alone = Alone(edge, cache)
        self._siblings = siblings
        self._talk = talk
        self.accepts = threading.Event()
        self.started = self.ended = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="holdfast-orders", daemon=True).start()

    def _run(self) -> None:
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    said, _ = self._talk.receive(_PATIENCE_S)
                    self._talk.send(self._perform(said))
        except Gone:
            self.ended = True
            self._edge.listener.stop()
            self.accepts.set()

    def _perform(self, said: Said) -> Said:
        match said.say:
            case "lacks":
                return self._lacking(said)
            case "holds":
                return Said("holds", holds=held_by(self._edge))
            case "accept":
                self._siblings.tell(on=True)
                self.accepts.set()
            case "accepts" if not self._edge.listener.listening.is_set():
                return Said("no")
            case "take up":
                self._alone.take_up()
            case "lay down":
                self._alone.lay_down()
            case "ping" if self.accepts.is_set() and self._is_stuck():
                return Said("stuck")
            case "spare":
                self._edge.quarantine.spare(*_generation(said), said.within_s)
            case "put away":
                self._edge.quarantine.put_away(*_generation(said))
            case "leave":
                self._siblings.tell(on=False)
                self._alone.finish()
            case "stay":
                self._siblings.tell(on=True)
                self._edge.listener.accept_again()
        return Said("done")

    def _is_stuck(self) -> bool:
        """Whether the event loop is in the middle of something that does not end."""
        listener = self._edge.listener
        return listener.listening.is_set() and time.monotonic() - listener.swept_s > STUCK_S

    def _lacking(self, said: Said) -> Said:
        if not self.started:
            return Said("lacks", why="it restores what the disk has")
        try:
            return Said("lacks", why=lacks(self._edge, said.holds))
        except Unavailable as error:
            return Said("wrong", why=str(error))


def _cache(cache_dir: Path, number: int) -> DiskCache:
    """A worker's own directory: the first one's is the edge's, so that an edge that ran alone goes
    on with what it had; a new one begins with a copy of that."""
    if number == 0:
        return DiskCache(cache_dir)
    cache = DiskCache(cache_dir / f"worker-{number}")
    if not cache.subjects():
        for name in ("generations", "noted"):
            with contextlib.suppress(OSError, shutil.Error):
                shutil.copytree(
                    cache_dir / "holdfast-1" / name,
                    cache_dir / f"worker-{number}" / "holdfast-1" / name,
                    dirs_exist_ok=True,
                )
    return cache


def _generation(said: Said) -> tuple[Subject, str]:
    environment, _, service = said.subject.partition("/")
    return Subject(environment, service), said.digest


def exit_code(status: int) -> str:
    """How a process ended, in words, from what `os.waitpid` says."""
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"code {code}"
