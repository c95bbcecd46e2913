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
    `refusals`, `unanswered`, `fenced` and `turns` count; `clock` is monotonic, `draw` gives chance
    from 0 to 1.
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
        self.refusals = self.unanswered = self.fenced = self.turns = 0

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
        """Give up the lease, as far as the store answers in time."""
        if not self._threads[0].is_alive():
            return
        self.resign()
        for thread in self._threads:
            thread.join(CLOSE_S)

    def _decide(self) -> None:
        event: Event = Tick()
        while True:
            now_s = self._clock()
            after, commands = step(self._standing, event, now_s, self._draw(), self._terms)
            begins = any(isinstance(command, Lead) for command in commands)
            # Nobody sees it lead before it was told to: what it knows of others is old till then.
            self._standing = msgspec.structs.replace(after, token=0) if begins else after
            for command in commands:
                self._perform(command)
            self._standing = after
            if self._standing.closed and not self._standing.asking:
                self._jobs.put(None)
                return
            left_s = min(WAKE_S_MAX, max(0.0, self._standing.wake_s - self._clock()))
            try:
                event = self._events.get(timeout=left_s)
            except queue.Empty:
                event = Tick()

    def _perform(self, command: Command) -> None:
        match command:
            case Lead(token):
                self._newest = max(self._newest, token)
                self.turns += 1
                self.on_turn(Turn(token, leads=True))
            case Follow(token, why):
                self.turns += 1
                self.on_turn(Turn(token, leads=False, why=why))
            case _:
                self._jobs.put(command)

    def _ask(self) -> None:
        while (job := self._jobs.get()) is not None:
            match job:
                case Ask():
                    self._events.put(self._take())
                case GiveUp(token):
                    with contextlib.suppress(HoldfastError):  # it runs out by itself
                        self._leases.give_up(Lease(token, self._holder, self._url))
                case _:
                    raise AssertionError(job)

    def _take(self) -> Event:
        asked_s = self._clock()
        try:
            lease = self._leases.take(self._holder, self._url, self._terms.ttl_s)
            self._leader = lease or self._leases.current()
        except Exception as error:  # noqa: BLE001 - whatever it is: without this thread nobody leads
            self.unanswered += 1
            if not isinstance(error, HoldfastError):
                self.on_fault(error)
            return Unanswered()
        if self._leader is not None:
            self._newest = max(self._newest, self._leader.token)
        if lease is None:
            self.refusals += 1
            return Refused()
        return Took(lease.token, asked_s)
