"""One node's part in leading: `core.leadership` on a clock, over the lease of a store.

Two threads: one decides and never waits for the store, so that a leader whose store hangs stops in
time all the same; the other asks the store.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from holdfast.core.errors import Fenced, HoldfastError
from holdfast.core.leadership import (
    TERMS,
    Ask,
    Closing,
    Command,
    Event,
    Faulted,
    Follow,
    GiveUp,
    Lead,
    Refused,
    Standing,
    Terms,
    Tick,
    Took,
    Unanswered,
    step,
)
from holdfast.core.leadership import Fenced as WasFenced
from holdfast.ports import Clock, Lease, Leases

CLOSE_S: Final = 3.0
"""How long giving up the lease may take at the end; it runs out by itself."""
WAKE_S_MAX: Final = 60.0
_TICK: Final[Event] = Tick()


class Turn(msgspec.Struct, frozen=True):
    """This node began to lead under `token`, or stopped, and `why`."""

    token: int
    leads: bool
    why: str = ""


def uptime_s() -> float:
    """Monotonic seconds that go on while the machine sleeps, where it tells them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Leading:
    """Thread-safe. `start` begins to ask for the lease, `close` gives it up.

    `holder` names this process alone; `url` is where other nodes reach it. `on_turn` is called when
    this node stops to lead, and before anybody sees that it begins to; it must be quick.
    `refusals`, `unanswered`, `fenced`, `turns` and `faults` count; `clock` is monotonic, `draw`
    gives chance from 0 to 1.

    A fault is any error that is none of ours, of the store's adapter or of `on_turn`. `on_fault` is
    told of it; this node leads no more then, and asks again. No fault ends a thread.
    """

    def __init__(  # noqa: PLR0913 - every part by name
        self,
        *,
        leases: Leases,
        holder: str,
        url: str,
        draw: Callable[[], float],
        clock: Clock = uptime_s,
        terms: Terms = TERMS,
        on_turn: Callable[[Turn], None] = lambda _: None,
        on_fault: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self._leases = leases
        self._holder = holder
        self._url = url
        self._draw = draw
        self._clock = clock
        self._terms = terms
        self.on_turn = on_turn
        self.on_fault = on_fault
        self._standing = Standing()
        self._leader: Lease | None = None
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._jobs: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("holdfast-leading", self._decide), ("holdfast-lease", self._ask))
        ]
        self._newest = 0
        self._unheard = False
        self.refusals = self.unanswered = self.fenced = self.turns = self.faults = 0

    @property
    def token(self) -> int:
        """Of the lease in whose name this node leads at this moment; 0 when it does not."""
        standing = self._standing
        return standing.token if standing.leads(self._clock()) else 0

    @property
    def newest(self) -> int:
        """The highest token that this node has heard of."""
        return self._newest

    @property
    def leader(self) -> Lease | None:
        """Who leads, as far as this node knows; that may be itself, or a node that just died."""
        return self._leader

    @property
    def elsewhere(self) -> str:
        """The URL of the node that leads, when that is another one and known; else empty."""
        leader = self._leader
        return "" if leader is None or leader.holder == self._holder else leader.url

    def fence(self) -> int:
        """The token to write under. Raises `Fenced` when this node does not lead."""
        token = self.token
        if not token:
            raise Fenced(token, self._newest)
        return token

    def refused(self, error: Fenced) -> None:
        """A write in this node's name was refused by the journal."""
        self.fenced += 1
        self._newest = max(self._newest, error.token)
        self._events.put(WasFenced(error.fence))

    def look(self) -> None:
        """Learn who leads, for a node that asks for the lease no more. Waits for the store."""
        with contextlib.suppress(HoldfastError):
            self._leader = self._leases.current()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def resign(self) -> None:
        """Lead no more, for good; from any thread, waits for nothing."""
        self._events.put(Closing())

    def close(self) -> None:
        """Give up the lease, as far as the store answers in time; also what `resign` began."""
        self.resign()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(CLOSE_S)

    def _decide(self) -> None:
        standing, event = self._standing, _TICK
        while True:
            standing, commands = step(standing, event, self._clock(), self._draw(), self._terms)
            begins = any(isinstance(command, Lead) for command in commands)
            # Nobody sees it lead before it was told to: what it knows of others is old till then.
            self._standing = msgspec.structs.replace(standing, token=0) if begins else standing
            told = all([*map(self._performed, commands)])
            if told:
                self._standing = standing
            if standing.closed and not standing.asking:
                self._jobs.put(None)
                return
            event = self._next(standing) if told else Faulted()

    def _next(self, standing: Standing) -> Event:
        left_s = min(WAKE_S_MAX, max(0.0, standing.wake_s - self._clock()))
        try:
            return self._events.get(timeout=left_s)
        except queue.Empty:
            return _TICK

    def _performed(self, command: Command) -> bool:
        """Whether who is to know of a turn was told; all are tried, whatever becomes of one."""
        match command:
            case Lead(token):
                self._newest = max(self._newest, token)
                return self._told(Turn(token, leads=True))
            case Follow(token, why):
                return self._told(Turn(token, leads=False, why=why))
            case _:
                self._jobs.put(command)
                return True

    def _told(self, turn: Turn) -> bool:
        self.turns += 1
        try:
            self.on_turn(turn)
        except Exception as error:  # noqa: BLE001 - whatever it is: without this thread nobody stops
            self._fault(error)
            return False
        return True

    def _fault(self, error: Exception) -> None:
        self.faults += 1
        with contextlib.suppress(Exception):  # it is counted; who can't tell must not end us
            self.on_fault(error)

    def _ask(self) -> None:
        while (job := self._jobs.get()) is not None:
            match job:
                case Ask():
                    self._events.put(self._take())
                case GiveUp(token):
                    self._give_up(token)
                case _:
                    raise AssertionError(job)

    def _take(self) -> Event:
        """After a question whose answer did not come, only once the store can be heard: who is
        given what it can't hear of, and asks on, keeps it from all others."""
        try:
            if self._unheard:
                self._leader = self._leases.current()
            self._unheard, asked_s = True, self._clock()
            lease = self._leases.take(self._holder, self._url, self._terms.ttl_s)
            self._leader = lease or self._leases.current()
            self._unheard = False
        except Exception as error:  # noqa: BLE001 - whatever it is: without this thread nobody leads
            self.unanswered += 1
            if not isinstance(error, HoldfastError):
                self._fault(error)
                self._events.put(Faulted())
            return Unanswered()
        if self._leader is not None:
            self._newest = max(self._newest, self._leader.token)
        if lease is None:
            self.refusals += 1
            return Refused()
        return Took(lease.token, asked_s)

    def _give_up(self, token: int) -> None:
        """Where that fails, the lease runs out by itself."""
        mine: Lease | None = Lease(token, self._holder, self._url)
        try:
            if not token:
                mine = self._leases.current()
            if mine is not None and mine.holder == self._holder:
                self._leases.give_up(mine)
        except HoldfastError:
            pass
        except Exception as error:  # noqa: BLE001 - as in `_take`
            self._fault(error)
