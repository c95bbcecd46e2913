"""One edge in several processes: a parent that serves nobody, and workers with a socket each.

The kernel spreads connections over the workers' sockets (SO_REUSEPORT). The parent opens the
sockets and keeps them: who connects while a worker is being started again waits for it. A worker
that dies again and again is started later each time, and its socket is closed meanwhile, so that
the others get its share. The parent has one thread, so that it may fork at any time.

Workers share nothing but the address: each follows the upstreams, and keeps what it proved in a
cache of its own.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from holdfast.adapters.disk_cache import DiskCache
from holdfast.apps.address import BACKLOG, bind
from holdfast.apps.edge.blame import Blame
from holdfast.apps.edge.doing import Doing
from holdfast.apps.edge.handover import Giver, Place
from holdfast.apps.edge.quarantine import FOR_GOOD
from holdfast.apps.edge.succession import Successor, await_proof, place_of
from holdfast.apps.edge.talk import ANSWER_S, Gone, Said, Talk
from holdfast.apps.edge.worker import exit_code, work
from holdfast.apps.notify import notify
from holdfast.apps.observe import logger
from holdfast.apps.settings import EdgeSettings
from holdfast.apps.signals import Terminal
from holdfast.core.errors import Unavailable

TURN_S: Final = 0.5
PING_S: Final = 1.0
DEATHS_S: Final = 300.0
"""Deaths longer ago than this count no more."""
DELAY_S: Final = 0.25
DELAY_S_MAX: Final = 30.0
HELD_S: Final = 1.0
"""Up to this long clients wait in a socket for its worker to come back."""

_log = logger("holdfast.edge.workers")


def delay_s(deaths: int, chance: float) -> float:
    """How long to wait after a worker's death, the `deaths`th in a row; `chance` from [0, 1).

    The first time there is nothing to wait for. Then twice as long each time, up to a bound, a
    half of it by chance: workers that die of one cause shall not come back as one.
    """
    if deaths <= 1:
        return 0.0
    return min(DELAY_S_MAX, DELAY_S * 2.0 ** min(deaths - 1, 20)) * (0.5 + chance / 2)


def run_workers(settings: EdgeSettings) -> None:
    """Serve with `settings.workers` processes. Raises `Unavailable`."""
    DiskCache(settings.cache_dir)
    with place_of(settings) as place, _signals() as signals:
        parent = Parent(settings, place, signals)
        try:
            parent.begin()
            parent.run()
        finally:
            parent.close()


class Worker(msgspec.Struct, eq=False):
    """A worker as its parent knows it. `pid` 0: it is not there, and due at `due_s`."""

    number: int
    sockets: list[socket.socket]
    talk: Talk | None = None
    pid: int = 0
    due_s: float = 0.0
    deaths_s: deque[float] = msgspec.field(default_factory=deque)
    doing: Doing = msgspec.field(default_factory=Doing)


class Parent:
    """See the module. It is a `Stand`: all of it hands over and takes over as one."""

    def __init__(self, settings: EdgeSettings, place: Place, signals: Signals) -> None:
        self._settings = settings
        self._place = place
        self._signals = signals
        self._giver: Giver | None = None
        self._successor = Successor()
        self._ours = place.ours
        self._accepting = self._leaving = False
        self._pinged_s = 0.0
        self._blame = Blame()
        opened = _listening(settings, place.sockets)
        self._address: tuple[str, int] = opened[0].getsockname()[:2]
        self._workers = [
            Worker(number, opened[number :: settings.workers]) for number in range(settings.workers)
        ]

    # -- its life

    def begin(self) -> None:
        """Start all; where another edge serves, until they answer all that it does."""
        for worker in self._workers:
            self._fork(worker)
        _log.info("workers started", workers=len(self._workers), port=self._address[1])
        if not self._place.ours:
            await_proof(self._lacks, self._place, self._settings.take_over_within_s)
            self.take_up()
        self._accepting = True
        self._order_all("accept")
        if self._place.talk is not None:
            self._wait_accepting()
        self._place.serving()
        self._giver = Giver(self._place, self)
        notify(READY=1, STATUS=f"serving with {len(self._workers)} workers")

    def run(self) -> None:
        """Until it is told to end, or another one has taken over and all is finished."""
        assert self._giver is not None  # noqa: S101  made by `begin`
        while not self._signals.ending and not (self._leaving and not self._alive()):
            watched = [self._signals.socket, *self._giver.watched()]
            ready, _, _ = select.select(watched, (), (), self._wait_s())
            if self._signals.take() and self._giver.state == "serving":
                self._successor.start()
            self._giver.turn(ready)
            self._successor.look()
            self._reap()
            self._ping()
            self._start_due()

    def close(self) -> None:
        """End the workers, in good order while there is time for it."""
        end_s = time.monotonic() + self._settings.shutdown_s + ANSWER_S / 2
        self._leaving = True
        for worker in self._alive():
            _kill(worker, signal.SIGTERM)
        while self._alive() and time.monotonic() < end_s:
            self._signals.wait(0.05)
            self._reap()
        for worker in self._alive():
            _kill(worker, signal.SIGKILL)
            os.waitpid(worker.pid, 0)
        if self._giver is not None:
            self._giver.close()
        for worker in self._workers:
            _close(worker)

    # -- what hands over

    def sockets(self) -> Sequence[socket.socket]:
        return [each for worker in self._workers for each in worker.sockets]

    def holds(self) -> Mapping[str, int]:
        """The newest that any of them has."""
        found: dict[str, int] = {}
        for said in self._order_all("holds"):
            for subject, revision in said.holds.items():
                found[subject] = max(revision, found.get(subject, 0))
        return found

    def lay_down(self) -> None:
        self._ours = False
        self._order_all("lay down")

    def take_up(self) -> None:
        self._ours = True
        self._order_all("take up")

    def leave(self, pid: int) -> None:
        notify(MAINPID=pid)
        self._leaving = True
        self._order_all("leave")

    def stay(self) -> None:
        notify(MAINPID=os.getpid())
        self._leaving = False
        self._order_all("stay")

    # -- workers

    def _alive(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.pid]

    def _fork(self, worker: Worker) -> None:
        if not worker.sockets:
            worker.sockets = [_shared(*self._address)]
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._be(worker, Talk(theirs))
        theirs.close()
        worker.pid, worker.talk = pid, Talk(ours)
        self._tell_blame(worker)
        if self._ours:
            self._order(worker, "take up")
        if self._accepting:
            self._order(worker, "accept")

    def _be(self, worker: Worker, talk: Talk) -> None:
        """In the child, which never returns: what the parent was in the middle of goes on there."""
        code = 1
        try:
            self._signals.let_go()
            self._place.let_go()
            if self._giver is not None:
                self._giver.close()
            for other in self._workers:
                if other is not worker:
                    _close(other)
            doing = None if self._settings.unprotected else worker.doing
            work(self._settings, worker.number, worker.sockets, talk, doing)
            code = 0
        except Unavailable as error:
            _log.critical("a worker can't begin", worker=worker.number, why=str(error))
        except BaseException:  # noqa: BLE001  it is told, and the process ends
            _log.exception("a worker has failed", worker=worker.number)
        finally:
            os._exit(code)

    def _reap(self) -> None:
        for worker in self._alive():
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._bury(worker, exit_code(status))

    def _bury(self, worker: Worker, how: str) -> None:
        worker.pid = 0
        if worker.talk is not None:
            worker.talk.close()
            worker.talk = None
        if self._leaving:
            return
        now_s = time.monotonic()
        died_on = worker.doing.left()
        worker.deaths_s.append(now_s)
        while worker.deaths_s[0] < now_s - DEATHS_S:
            worker.deaths_s.popleft()
        wait_s = delay_s(len(worker.deaths_s), random.random())  # noqa: S311  no secret
        worker.due_s = now_s + wait_s
        if wait_s > HELD_S and len(self._alive()) > 0:
            _close(worker)
        _log.critical(
            "a worker died", worker=worker.number, how=how, deaths=len(worker.deaths_s),
            again_in_s=round(wait_s, 2), on=str(died_on[0]) if died_on else "",
        )  # fmt: skip
        if died_on is not None:
            self._blame.died(*died_on, now_s)
            for other in self._alive():
                self._tell_blame(other)

    def _tell_blame(self, worker: Worker) -> None:
        """Which generations it is not to answer from, so that it does not die of the same."""
        for found in self._blame.found(time.monotonic()):
            subject, digest, within_s = found
            say = "spare" if within_s < FOR_GOOD else "put away"
            until_s = min(within_s, DEATHS_S)
            self._order(worker, say, subject=str(subject), digest=digest, within_s=until_s)

    def _start_due(self) -> None:
        for worker in self._workers:
            if not worker.pid and not self._leaving and time.monotonic() >= worker.due_s:
                self._fork(worker)

    def _wait_s(self) -> float:
        """Until something is due."""
        due_s = [worker.due_s - time.monotonic() for worker in self._workers if not worker.pid]
        return max(0.0, min([TURN_S, *due_s])) if not self._leaving else TURN_S

    def _ping(self) -> None:
        """A worker that does not even say that it is there hangs, and is ended."""
        if time.monotonic() - self._pinged_s >= PING_S:
            self._pinged_s = time.monotonic()
            for worker in self._alive():
                said = self._order(worker, "ping")
                if said is not None and said.say == "stuck":
                    _log.critical("a worker is stuck: it is ended", worker=worker.number)
                    _kill(worker, signal.SIGKILL)

    def _order_all(self, say: str) -> list[Said]:
        said = [self._order(worker, say) for worker in self._alive()]
        return [each for each in said if each is not None]

    def _order(self, worker: Worker, say: str, **facts: object) -> Said | None:
        """What a worker answers; none from one that is gone, or is ended now for its silence."""
        if worker.talk is None:
            return None
        try:
            worker.talk.send(Said(say, **facts))  # type: ignore[arg-type]  # fields of it
            return worker.talk.receive(ANSWER_S)[0]
        except Gone:
            return None
        except TimeoutError:
            _log.critical("a worker hangs: it is ended", worker=worker.number)
            _kill(worker, signal.SIGKILL)
            return None

    def _lacks(self) -> str:
        if self._signals.ending:
            raise Unavailable("not taken over: told to end")
        for worker in self._workers:
            said = self._order(worker, "lacks", holds=self._place.holds)
            if said is None or said.say == "wrong":
                why = said.why if said else "it died"
                raise Unavailable(f"worker {worker.number}: {why}")
            if said.why:
                return f"worker {worker.number}: {said.why}"
        return ""

    def _wait_accepting(self) -> None:
        end_s = time.monotonic() + ANSWER_S
        for worker in self._workers:
            while time.monotonic() < end_s:
                said = self._order(worker, "accepts")
                if said is None or said.say == "done":
                    break
                time.sleep(0.01)


class Signals:
    """Signals as something that can be waited for."""

    def __init__(self) -> None:
        self.ending = False
        self.socket, self._write = socket.socketpair()
        for each in (self.socket, self._write):
            each.setblocking(False)
        self._hangup = False
        self._terminal = Terminal()
        self._before = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        }
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)

    def _on_signal(self, number: int, _: object) -> None:
        closed = number == signal.SIGHUP and self._terminal.closed()
        self._hangup = self._hangup or (number == signal.SIGHUP and not closed)
        self.ending = self.ending or closed or number in {signal.SIGTERM, signal.SIGINT}

    def take(self) -> bool:
        """Whether SIGHUP came since this was last asked, from no terminal that closed."""
        with contextlib.suppress(BlockingIOError):
            while self.socket.recv(4096):
                pass
        came, self._hangup = self._hangup, False
        return came

    def wait(self, timeout_s: float) -> None:
        select.select([self.socket], (), (), timeout_s)
        self.take()

    def let_go(self) -> None:
        """In a child: signals are as in any process, but for SIGHUP, which is the parent's."""
        signal.set_wakeup_fd(-1)
        for number in self._before:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.socket.close()
        self._write.close()

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.socket.close()
        self._write.close()


@contextlib.contextmanager
def _signals() -> Iterator[Signals]:
    with contextlib.closing(Signals()) as signals:
        yield signals


def _listening(settings: EdgeSettings, given: Sequence[socket.socket]) -> list[socket.socket]:
    """A socket for each worker at least. The first is bound alone: the port must be nobody's."""
    opened = list(given) or [bind(settings.host, settings.port)]
    host, port = opened[0].getsockname()[:2]
    for each in opened:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    opened += [_shared(host, port) for _ in range(settings.workers - len(opened))]
    return opened


def _shared(host: str, port: int) -> socket.socket:
    """One more socket on an address that is ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=True)
    except OSError as error:
        raise Unavailable(f"{host}:{port} can't be shared: {error.strerror}") from None


def _kill(worker: Worker, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker.pid, number)


def _close(worker: Worker) -> None:
    for each in worker.sockets:
        each.close()
    worker.sockets = []
    if worker.talk is not None:
        worker.talk.close()
        worker.talk = None
