"""A TCP proxy on loopback whose line can be made bad while it runs.

    with Proxy(edge_port) as line:
        client = Client(line.url, …)
        line.be(ANSWERS_LOST)        # in effect when this returns
        line.be(PASS)                # healed: what was held goes on
        line.cut()                   # resets what is open
        trap = line.trap(*spelled("a word"))    # what has it in it is held, once
        trap.wait(5.0)               # it came, and has not arrived
        trap.let_go()

It works on bytes and connections and knows nothing of HTTP. A loop in a thread of its own moves the
bytes. A direction that is `held` behaves as one whose packets are lost: nothing arrives, no end of
a connection either, and what the sender had written comes when the line is healed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Final, Literal, Self, TypeAlias

import msgspec

from holdfast.apps.defaults import LOOPBACK
from holdfast.core.errors import Unavailable

Connecting: TypeAlias = Literal["pass", "refused", "dropped"]

CHUNK_BYTES: Final = 64 * 1024
SLICES_PER_S: Final = 20
"""A throttled direction passes its bytes in so many portions a second."""
CONNECTIONS_MAX: Final = 4_096
ORDER_S: Final = 5.0
"""For the loop to take up an order; more means that it is dead."""
_BACKLOG: Final = 1_024
_STUFFING: Final = 4
"""Connections of our own that fill a queue of length 0: Linux drops each SYN after them."""


class Way(msgspec.Struct, frozen=True):
    """What becomes of the bytes of one direction.

    - `held`: none arrives, until that is over.
    - `delay_s` before each portion of up to 64 kB.
    - `bytes_per_s`: the most that pass, on each connection; none for no bound.
    - `reset_after`: so many bytes of a connection pass from now on, then it is reset.
    """

    held: bool = False
    delay_s: float = 0.0
    bytes_per_s: float | None = None
    reset_after: int | None = None


class Fault(msgspec.Struct, frozen=True):
    """A state of the line. `up` goes to the target, `down` is what it answers.

    New connections `pass`, are `refused`, or their SYN is `dropped`. Open ones stay in each case.
    """

    up: Way = Way()
    down: Way = Way()
    connecting: Connecting = "pass"


PASS: Final = Fault()
REFUSED: Final = Fault(connecting="refused")
SYN_DROPPED: Final = Fault(connecting="dropped")
QUESTIONS_LOST: Final = Fault(up=Way(held=True))
"""One way: the client's bytes don't arrive, its connections open."""
ANSWERS_LOST: Final = Fault(down=Way(held=True))
"""One way: what the target answers doesn't arrive."""
BLACK_HOLE: Final = Fault(Way(held=True), Way(held=True), "dropped")
"""Both ways, new connections and open ones."""


def spelled(word: str) -> tuple[bytes, ...]:
    """How a word may stand on a line: as it is, in hex, or in base64 with anything around it."""
    raw = word.encode()
    in_base64 = (
        base64.b64encode(bytes(shift) + raw)[-(-4 * shift // 3) : 4 * (shift + len(raw)) // 3]
        for shift in range(3)
    )
    return (raw, raw.hex().encode(), *in_base64)


class Trap:
    """Waits for bytes on their way up; what has one of `needles` in it is held, and what follows.

    It holds one connection at most, the others pass.
    """

    def __init__(self, needles: Sequence[bytes], order: Callable[[Callable[[], None]], None]):
        self._needles = needles
        self._keep = max(len(needle) for needle in needles) - 1
        self._order = order
        self._caught = threading.Event()
        self._open = asyncio.Event()

    def wait(self, within_s: float) -> None:
        """Until something is held. Raises `Unavailable`."""
        if not self._caught.wait(within_s):
            raise Unavailable(f"nothing was caught on its way within {within_s:.0f} s")

    def let_go(self) -> None:
        """What is held goes on, and nothing is held any more."""
        self._caught.set()
        self._order(self._open.set)

    async def pass_by(self, line: _Line, chunk: bytes) -> None:
        """Comes back when the chunk may go on; on the proxy's loop."""
        seen = line.tail + chunk
        line.tail = seen[-self._keep :] if self._keep else b""
        if not self._caught.is_set() and any(needle in seen for needle in self._needles):
            self._caught.set()
            await self._open.wait()


class Proxy:
    """See the module. All calls are safe from any thread. Its port stays the same."""

    def __init__(self, target_port: int, port: int = 0) -> None:
        self._target_port = target_port
        self._listener = _listener(port, _BACKLOG)
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.accepted = 0
        """Connections taken so far."""
        self.dropped = 0
        """Connections beyond `CONNECTIONS_MAX`, reset at once."""
        self._fault = PASS
        self._changed = asyncio.Event()
        self._trap: Trap | None = None
        self._lines: set[_Line] = set()
        self._stuffing: list[socket.socket] = []
        self._accepting: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._order(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ORDER_S)

    @property
    def fault(self) -> Fault:
        """The state of the line now."""
        return self._fault

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._lines)

    def be(self, fault: Fault) -> None:
        """Change the line; in effect when this returns, for open connections too."""
        self._order(lambda: self._be(fault))

    def trap(self, *needles: bytes) -> Trap:
        """Hold the first bytes from now on that have one of these in them; it replaces the last."""
        self._trap = trap = Trap(needles, self._order)
        return trap

    def cut(self) -> None:
        """Reset every open connection, towards both sides."""
        self._order(self._cut)

    def _order(self, what: Callable[[], None]) -> None:
        done = threading.Event()

        def act() -> None:
            what()
            done.set()

        self._loop.call_soon_threadsafe(act)
        if not done.wait(ORDER_S):
            raise Unavailable("the fault proxy does not take orders")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._accept_on(self._listener)
        self._loop.run_forever()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    def _end(self) -> None:
        self._cut()
        self._stop_listening()

    def _be(self, fault: Fault) -> None:
        before, self._fault = self._fault, fault
        for line in self._lines:
            line.count_anew()
        self._changed.set()
        self._changed = asyncio.Event()
        if before.connecting == fault.connecting:
            return
        self._stop_listening()
        if fault.connecting == "pass":
            self._listener = _listener(self.port, _BACKLOG)
            self._accept_on(self._listener)
        elif fault.connecting == "dropped":
            self._listener = _listener(self.port, 0)
            self._stuffing = [_stuffed(self.port) for _ in range(_STUFFING)]

    def _stop_listening(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None
        self._listener.close()
        for sock in self._stuffing:
            sock.close()
        self._stuffing = []

    def _cut(self) -> None:
        for line in list(self._lines):
            line.reset()

    def _accept_on(self, listener: socket.socket) -> None:
        self._accepting = self._loop.create_task(self._accept(listener))

    async def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed: another one listens, or none
            while True:
                sock, _ = await self._loop.sock_accept(listener)
                self.accepted += 1
                if len(self._lines) >= CONNECTIONS_MAX:
                    self.dropped += 1
                    _reset(sock)
                    continue
                line = _Line(sock)
                self._lines.add(line)
                line.task = self._loop.create_task(self._serve(line))

    async def _serve(self, line: _Line) -> None:
        try:
            await self._loop.sock_connect(line.target, (LOOPBACK, self._target_port))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(line, "up", line.client, line.target))
                group.create_task(self._pump(line, "down", line.target, line.client))
        except* OSError:
            line.reset()
        finally:
            self._lines.discard(line)
            line.close()

    async def _pump(
        self, line: _Line, way: Literal["up", "down"], read: socket.socket, write: socket.socket
    ) -> None:
        while True:
            await self._passable(way)
            chunk = await self._loop.sock_recv(read, CHUNK_BYTES)
            await self._passable(way)
            if self._trap is not None and way == "up":
                await self._trap.pass_by(line, chunk)
            if self._way(way).delay_s:
                await asyncio.sleep(self._way(way).delay_s)
                await self._passable(way)
            if not chunk:
                with contextlib.suppress(OSError):  # the other side is gone already
                    write.shutdown(socket.SHUT_WR)
                return
            while chunk:
                part, chunk = self._split(way, chunk)
                await self._pass_on(line, way, part, write)

    async def _pass_on(
        self, line: _Line, way: Literal["up", "down"], part: bytes, write: socket.socket
    ) -> None:
        await self._passable(way)
        state = self._way(way)
        left = None if state.reset_after is None else state.reset_after - line.passed[way]
        line.passed[way] += len(part)
        await self._loop.sock_sendall(write, part if left is None else part[: max(0, left)])
        if left is not None and left <= len(part):
            raise ConnectionResetError
        if state.bytes_per_s:
            await asyncio.sleep(len(part) / state.bytes_per_s)

    async def _passable(self, way: Literal["up", "down"]) -> None:
        while self._way(way).held:
            await self._changed.wait()

    def _way(self, way: Literal["up", "down"]) -> Way:
        return self._fault.up if way == "up" else self._fault.down

    def _split(self, way: Literal["up", "down"], chunk: bytes) -> tuple[bytes, bytes]:
        rate = self._way(way).bytes_per_s
        portion = CHUNK_BYTES if rate is None else max(1, int(rate / SLICES_PER_S))
        return chunk[:portion], chunk[portion:]


class _Line:
    """One connection: the client's socket and the one to the target."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.target = socket.socket()
        self.task: asyncio.Task[None] | None = None
        self.tail = b""
        self.count_anew()
        for sock in (self.client, self.target):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def count_anew(self) -> None:
        self.passed = {"up": 0, "down": 0}

    def reset(self) -> None:
        """Both ends see a reset, and who moves its bytes stops."""
        for sock in (self.client, self.target):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.task is not None:
            self.task.cancel()

    def close(self) -> None:
        self.client.close()
        self.target.close()


def _listener(port: int, backlog: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((LOOPBACK, port))
    sock.listen(backlog)
    sock.setblocking(False)
    return sock


def _stuffed(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex((LOOPBACK, port))
    return sock


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
