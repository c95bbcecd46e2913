"""`slow-loris`: two thousand sockets that send one byte in ten seconds, and come back when cut.

Half of them never finish a head, half announce a body that never comes. They hold as many places as
the edge is told to have, but for a few; so what they do to honest clients shows, too.
"""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import threading
import time
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec

from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fleet import ENVIRONMENT, Fleet
from holdfast.gameday.load import Kind, Load, Loaded

SOCKETS: Final = 2_000
SOCKETS_SHORT: Final = 200
HONEST: Final = 16
"""Connections of honest clients; there are places for twice as many."""
RATE_PER_S: Final = 150.0
DRIP_S: Final = 10.0
OPENED_AT_ONCE: Final = 20
"""Sockets, 50 times a second: this is an attack by being slow."""
CUT_S_MAX: Final = 10.0
ATTACK_S: Final = 20.0
ATTACK_SHORT_S: Final = 9.0
CALM_S: Final = 5.0
CALM_SHORT_S: Final = 1.0
PATIENCE_S: Final = 1.0
"""Of an honest client."""
PATIENCE_SHORT_S: Final = 30.0
"""In the short form, among tests: there it is the machine that makes them wait."""
SLOWER_MAX: Final = 2.0
UNNOTICED_MS: Final = 20.0
"""A p99 below this is nobody's trouble, whatever it was before."""
HELD_LEAST: Final = 0.9
"""Of the sockets, open at one moment, or it was no attack."""

HEAD: Final = b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: "
BODY: Final = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n{"


class Drip:
    """One socket of the attack."""

    __slots__ = ("began_s", "next_s", "socket")

    def __init__(self, sock: socket.socket, now_s: float) -> None:
        self.socket = sock
        self.began_s = now_s
        self.next_s = now_s + DRIP_S


class Loris:
    """Holds `count` sockets open, in a thread: `with Loris(url, count) as loris`.

    `lives_s` are those of sockets that were cut; `most` were open at one moment.
    """

    def __init__(self, url: str, count: int) -> None:
        parts = urlsplit(url)
        self._address = (str(parts.hostname), int(parts.port or 80))
        self._count = count
        self._selector = selectors.DefaultSelector()
        self._drips: set[Drip] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loris", daemon=True)
        self.lives_s: list[float] = []
        self.opened = self.most = 0
        self.turned_away = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        for drip in self._drips:
            drip.socket.close()
        self._selector.close()

    def longest_s(self) -> float:
        """The longest that any socket was held, or has been held so far."""
        now_s = time.monotonic()
        held_s = [now_s - drip.began_s for drip in tuple(self._drips)]
        return max([0.0, *self.lives_s, *held_s])

    def _run(self) -> None:
        while not self._stop.is_set():
            for _ in range(min(OPENED_AT_ONCE, self._count - len(self._drips))):
                self._open()
            for key, _ in self._selector.select(0.02):
                self._hear(key.data)
            now_s = time.monotonic()
            for drip in [drip for drip in self._drips if drip.next_s <= now_s]:
                drip.next_s = now_s + DRIP_S
                with contextlib.suppress(OSError):
                    drip.socket.send(b"x")

    def _open(self) -> None:
        try:
            sock = socket.create_connection(self._address, 5.0)
        except OSError:
            self.turned_away += 1
            return
        self.opened += 1
        with contextlib.suppress(OSError):
            sock.send(HEAD if self.opened % 2 else BODY)
        sock.setblocking(False)
        drip = Drip(sock, time.monotonic())
        self._drips.add(drip)
        self.most = max(self.most, len(self._drips))
        self._selector.register(sock, selectors.EVENT_READ, drip)

    def _hear(self, drip: Drip) -> None:
        """The edge said something, or the end: either way it will not wait any longer."""
        with contextlib.suppress(OSError):
            drip.socket.recv(4096)
        self._selector.unregister(drip.socket)
        drip.socket.close()
        self._drips.discard(drip)
        self.lives_s.append(time.monotonic() - drip.began_s)


def run(day: Day) -> None:
    sockets = SOCKETS_SHORT if day.sample else SOCKETS
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Fleet(day) as fleet:
        fleet.begin(())
        fleet.add_edge(
            "edge-a", (fleet.control_url,), None, "--connections", str(sockets + 2 * HONEST)
        )
        fleet.wait_ready("edge-a")
        url = fleet.edge_urls["edge-a"]
        calm = [_honest(day, url, CALM_SHORT_S if day.sample else CALM_S)]
        with Loris(url, sockets) as loris:
            day.note("fault", f"{sockets} sockets send one byte in {DRIP_S:.0f} s")
            attacked = _honest(day, url, ATTACK_SHORT_S if day.sample else ATTACK_S)
            longest_s = loris.longest_s()
            cut, most = len(loris.lives_s), loris.most
        day.note("recovered", f"the sockets are gone; {cut} of them were cut, and came again")
        calm.append(_honest(day, url, CALM_SHORT_S if day.sample else CALM_S))
        day.measure(
            "sockets open at one moment", most, f"at least {HELD_LEAST:.0%} of {sockets}",
            holds=most >= HELD_LEAST * sockets, timed=True,
        )  # fmt: skip
        _judge(day, calm, attacked, longest_s, cut)


def _honest(day: Day, url: str, seconds: float) -> Loaded:
    """Honest clients ask for single settings, at a rate that is far from any limit."""
    path = f"/{ENVIRONMENT}/shop/ofrep/v1/evaluate/flags/checkout"
    body = msgspec.json.encode({"context": {"targetingKey": "u1", "tenant": "contoso"}})
    kind = Kind("honest", "POST", path, body=body)
    patience_s = PATIENCE_SHORT_S if day.sample else PATIENCE_S
    return Load(url, (kind,), RATE_PER_S, HONEST, seconds, patience_s=patience_s).run()


def _judge(day: Day, calm: list[Loaded], attacked: Loaded, longest_s: float, cut: int) -> None:
    before_ms = max(each.kinds["honest"].p99_ms for each in calm)
    honest = attacked.kinds["honest"]
    bar_ms = max(SLOWER_MAX * before_ms, UNNOTICED_MS)
    day.measure(
        "honest requests answered, %", round(100 * honest.ok_share, 2), "100",
        holds=honest.ok_share == 1,
    )  # fmt: skip
    day.measure(
        "p99 of honest requests, ms", round(honest.p99_ms, 1),
        f"at most {bar_ms:.1f}: {SLOWER_MAX:.0f}x of {before_ms:.1f}, or {UNNOTICED_MS:.0f}",
        holds=honest.p99_ms <= bar_ms, timed=True,
    )  # fmt: skip
    day.measure(
        "longest that a socket was held, s", round(longest_s, 1), f"at most {CUT_S_MAX:.0f}",
        holds=longest_s <= CUT_S_MAX, timed=True,
    )  # fmt: skip
    day.measure("sockets cut", cut, "some", holds=cut > 0)
    day.root_cause = "clients that never finish what they began to ask"
    day.stopped_by = "the deadline for a request's arrival, which no byte puts off"
    day.affected = "nobody" if honest.ok_share == 1 else "honest clients of the edge"


DRILL: Final = Drill(
    name="slow-loris",
    title="2,000 sockets, one byte in ten seconds each",
    outage="Slowloris (2009): a few slow sockets took all places of a server, unlogged",
    rehearsal="sockets that never finish a head or a body, opened again whenever they are cut, "
    "beside honest clients",
    run=run,
)
