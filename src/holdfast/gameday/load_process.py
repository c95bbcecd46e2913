"""The process that makes the load of `holdfast.gameday.load`: a plan on stdin, figures on stdout.

One event loop, plain sockets, requests encoded before. Once a millisecond whatever is due goes out.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import random
import signal
import sys
import time
from collections import deque
from itertools import accumulate
from typing import Final

import msgspec
import uvloop

from holdfast.apps.dev import end_with_parent
from holdfast.gameday.load import BEGUN, SLICE_S, Kind, Loaded, Plan, Tally

TICK_S: Final = 0.001
OPEN_S: Final = 2.0
"""The clock starts when all connections are open, or then."""
LOOK_S: Final = 0.02
"""How often requests are looked at that may have waited too long."""
RECONNECT_S: Final = 0.05
OPENING_MAX: Final = 256
"""Connections being opened at a time: a burst beyond the server's backlog says nothing of it."""
REFUSALS: Final = frozenset({429, 503})


class _Kind:
    """A kind as it goes out, and what became of it."""

    def __init__(self, kind: Kind, host: str, slices: int) -> None:
        lines = [f"{kind.method} {kind.path} HTTP/1.1", f"host: {host}"]
        lines += [f"{name}: {value}" for name, value in kind.headers.items()]
        if kind.body or kind.method == "POST":
            lines.append(f"content-length: {len(kind.body)}")
        self.request = "\r\n".join([*lines, "", ""]).encode("latin-1") + kind.body
        self.bodiless = kind.method == "HEAD"
        self.good = frozenset(kind.good)
        self.retries = kind.retries
        self.tally = Tally(
            offered_by=[0] * slices,
            ok_by=[0] * slices,
            useful_by=[0] * slices,
            refused_by=[0] * slices,
        )
        self.good_s: list[float] = []
        self.refused_s: list[float] = []
        self.hints: list[int] = []


class _Shot:
    """One request, due at a time. `over`: its fate is known."""

    __slots__ = ("due_s", "kind", "over", "tries", "wire")

    def __init__(self, kind: _Kind, due_s: float) -> None:
        self.kind = kind
        self.due_s = due_s
        self.tries = 0
        self.over = False
        self.wire: _Wire | None = None


class _Wire(asyncio.Protocol):
    """A kept connection with at most one request on it."""

    def __init__(self, at: Range) -> None:
        self._range = at
        self._head = b""
        self._body_missing = 0
        self._status = 0
        self._hint: bytes | None = None
        self._last = False
        self.shot: _Shot | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # TCP
        self._range.opened(self)

    def send(self, shot: _Shot) -> None:
        self.shot, shot.wire = shot, self
        self.transport.write(shot.kind.request)  # type: ignore[union-attr]  # it is open

    @property
    def usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def data_received(self, data: bytes) -> None:
        if self._status:
            self._body_missing -= len(data)
        else:
            head = self._head + data if self._head else data
            end = head.find(b"\r\n\r\n")
            if end < 0:
                self._head = head
                return
            self._head = b""
            self._status = int(head[9:12])
            self._read_head(head[: end + 2])
            self._body_missing -= len(head) - end - 4
        if self._body_missing <= 0:
            self._answered()

    def _read_head(self, head: bytes) -> None:
        if self._status == 100:
            raise AssertionError("nobody asked for 100 Continue")
        lower = head.lower()
        self._last = _header(lower, b"connection") == b"close"
        empty = self._status in {204, 304} or (self.shot is not None and self.shot.kind.bodiless)
        self._body_missing = 0 if empty else int(_header(lower, b"content-length") or 0)
        self._hint = _header(lower, b"retry-after") if self._status in REFUSALS else None

    def _answered(self) -> None:
        status, hint, shot = self._status, self._hint, self.shot
        self._status, self._body_missing, self._hint, self.shot = 0, 0, None, None
        self._range.answered(shot, status, hint)
        if self._last and self.transport is not None:
            self.transport.close()
        else:
            self._range.free(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        shot, self.shot = self.shot, None
        self._range.lost(shot)

    def give_up(self) -> None:
        self.shot = None
        if self.transport is not None:
            self.transport.abort()


class Range:
    """Where shots are fired: the clock of arrivals, the connections, and the fates of requests."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._chance = random.Random(plan.seed)  # noqa: S311  arrivals, no secret
        slices = int((plan.seconds + plan.patience_s) / SLICE_S) + 2
        self._kinds = [_Kind(kind, f"{plan.host}:{plan.port}", slices) for kind in plan.kinds]
        self._sums = list(accumulate(kind.weight for kind in plan.kinds))
        self._free: deque[_Wire] = deque()
        self._waiting: deque[_Shot] = deque()
        self._patience: deque[_Shot] = deque()
        self._retries: deque[_Shot] = deque()
        self._lags: list[float] = []
        self._opening = self._open = 0
        self._connects = self._connects_failed = 0
        self._statuses: dict[int, int] = {}
        self._began_s = 0.0
        self._next_s = 0.0
        self._end_s = 0.0
        self._stop, self._all_open = asyncio.Event(), asyncio.Event()

    async def fire(self) -> Loaded:
        """All of it; what came out."""
        plan, loop = self._plan, asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end_now)
        opening = loop.create_task(self._keep_open())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_open.wait(), OPEN_S)
        cpu_s, began_unix_s = time.process_time(), time.time()
        self._began_s = self._next_s = time.perf_counter()
        self._end_s = self._began_s + plan.seconds
        sys.stdout.buffer.write(BEGUN)
        sys.stdout.flush()
        looking = loop.create_task(self._look())
        loop.call_later(TICK_S, self._tick)
        await self._stop.wait()
        took_s = min(time.perf_counter(), self._end_s) - self._began_s
        share = (time.process_time() - cpu_s) / (time.perf_counter() - self._began_s)
        for task in (opening, looking):
            task.cancel()
        self._give_up_before(math.inf)
        return Loaded(
            began_s=began_unix_s,
            took_s=took_s,
            cpu_share=round(share, 3),
            lag_p99_ms=_quantile_ms(self._lags, 0.99),
            connects=self._connects,
            connects_failed=self._connects_failed,
            statuses=self._statuses,
            kinds={
                kind.name: _finished(each)
                for kind, each in zip(self._plan.kinds, self._kinds, strict=True)
            },
        )

    def _end_now(self) -> None:
        """What is on the wire is waited for; what never got there is not sent any more."""
        self._end_s = min(self._end_s, time.perf_counter())
        while self._waiting:
            shot = self._waiting.popleft()
            if not shot.over:
                self._give_up(shot)

    # -- arrivals

    def _tick(self) -> None:
        now_s = time.perf_counter()
        while self._next_s <= now_s and self._next_s < self._end_s:
            for _ in range(self._plan.burst):
                self._arrive(self._next_s, now_s)
            self._next_s += self._chance.expovariate(self._plan.rate_per_s / self._plan.burst)
        for _ in range(len(self._retries)):
            self._go(self._retries.popleft())
        if now_s >= self._end_s and self._is_quiet(now_s):
            self._stop.set()
            return
        asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _is_quiet(self, now_s: float) -> bool:
        """After the end: nothing that somebody still waits for."""
        return not self._patience or now_s > self._end_s + self._plan.patience_s

    def _arrive(self, due_s: float, now_s: float) -> None:
        at = self._chance.random() * self._sums[-1]
        kind = next(k for k, bound in zip(self._kinds, self._sums, strict=True) if at < bound)
        kind.tally.offered += 1
        kind.tally.offered_by[self._slice(due_s)] += 1
        shot = _Shot(kind, due_s)
        self._patience.append(shot)
        if self._go(shot):
            self._lags.append(now_s - due_s)

    def _go(self, shot: _Shot) -> bool:
        """Send it now if a connection is free."""
        while self._free:
            wire = self._free.popleft()
            if wire.usable:
                wire.send(shot)
                return True
        self._waiting.append(shot)
        return False

    def _slice(self, at_s: float) -> int:
        return min(int((at_s - self._began_s) / SLICE_S), len(self._kinds[0].tally.useful_by) - 1)

    # -- fates

    def answered(self, shot: _Shot | None, status: int, hint: bytes | None) -> None:
        """An answer is whole."""
        self._statuses[status] = self._statuses.get(status, 0) + 1
        if shot is None or shot.over:
            return
        kind, tally, now_s = shot.kind, shot.kind.tally, time.perf_counter()
        if status in kind.good:
            shot.over = True
            tally.ok += 1
            tally.ok_by[self._slice(shot.due_s)] += 1
            if shot.due_s >= self._began_s + self._plan.settle_s:
                kind.good_s.append(now_s - shot.due_s)
            if now_s - shot.due_s <= self._plan.deadline_s:
                tally.useful += 1
                tally.useful_by[self._slice(now_s)] += 1
        elif status in REFUSALS:
            if hint is None:
                tally.refused_without_hint += 1
            elif hint.isdigit():
                kind.hints.append(int(hint))
            kind.refused_s.append(now_s - shot.due_s)
            tally.refused_by[self._slice(now_s)] += 1
            if not self._again(shot):
                tally.refused += 1
        elif not self._again(shot):
            tally.failed += 1

    def _again(self, shot: _Shot) -> bool:
        """Whether it is asked once more."""
        shot.wire = None
        if shot.tries >= shot.kind.retries or time.perf_counter() >= self._end_s:
            shot.over = True
            return False
        shot.tries += 1
        shot.kind.tally.retried += 1
        self._retries.append(shot)
        return True

    async def _look(self) -> None:
        """Give up what has waited too long."""
        while True:
            await asyncio.sleep(LOOK_S)
            self._give_up_before(time.perf_counter() - self._plan.patience_s)

    def _give_up_before(self, limit_s: float) -> None:
        """All that was due before `limit_s` and has no answer."""
        while self._patience and (self._patience[0].over or self._patience[0].due_s < limit_s):
            shot = self._patience.popleft()
            if not shot.over:
                self._give_up(shot)

    def _give_up(self, shot: _Shot) -> None:
        shot.over = True
        if shot.wire is None:
            shot.kind.tally.unsent += 1
        else:
            shot.kind.tally.unanswered += 1
            shot.wire.give_up()

    # -- connections

    async def _keep_open(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            missing = self._plan.connections - self._open - self._opening
            for _ in range(min(missing, OPENING_MAX - self._opening)):
                self._opening += 1
                loop.create_task(self._connect())  # noqa: RUF006  it counts itself
            await asyncio.sleep(0.002)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Wire(self), self._plan.host, self._plan.port)
        except OSError:
            self._connects_failed += 1
            await asyncio.sleep(RECONNECT_S)
        finally:
            self._opening -= 1

    def opened(self, wire: _Wire) -> None:
        self._open += 1
        self._connects += 1
        if self._open >= self._plan.connections:
            self._all_open.set()
        self.free(wire)

    def free(self, wire: _Wire) -> None:
        """A connection has nothing to do: whoever waited longest gets it."""
        while self._waiting:
            if not wire.usable:
                return
            shot = self._waiting.popleft()
            if not shot.over:
                wire.send(shot)
                return
        self._free.append(wire)

    def lost(self, shot: _Shot | None) -> None:
        """A connection has ended, with a request on it or without."""
        self._open -= 1
        if shot is not None and not shot.over and not self._again(shot):
            shot.kind.tally.resets += 1


def _header(head: bytes, name: bytes) -> bytes | None:
    at = head.find(b"\r\n" + name + b":")
    return None if at < 0 else head[at + len(name) + 3 : head.find(b"\r\n", at + 2)].strip()


def _quantile_ms(values_s: list[float], quantile: float) -> float:
    if not values_s:
        return 0.0
    ordered = sorted(values_s)
    return round(ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] * 1000, 3)


def _finished(kind: _Kind) -> Tally:
    tally = kind.tally
    tally.p50_ms = _quantile_ms(kind.good_s, 0.5)
    tally.p99_ms = _quantile_ms(kind.good_s, 0.99)
    tally.refused_p99_ms = _quantile_ms(kind.refused_s, 0.99)
    if kind.hints:
        tally.retry_after_s = (min(kind.hints), max(kind.hints))
    return tally


def main(plan: Plan) -> Loaded:
    """Make the load; the process is the caller's."""
    end_with_parent(plan.parent)
    gc.disable()  # a pause of the generator would count as one of the server
    if plan.core is not None:
        os.sched_setaffinity(0, {plan.core})

    async def fire() -> Loaded:
        return await Range(plan).fire()

    return uvloop.run(fire())


if __name__ == "__main__":
    made = main(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan))
    sys.stdout.buffer.write(msgspec.json.encode(made))
