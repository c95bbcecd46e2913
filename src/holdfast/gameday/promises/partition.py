"""`partition`: the line to the preferred edge goes bad in every way, one-way ways too.

Two clients, processes of their own, know two edges, each behind a line that can be made bad. One
polls often, one as production does, every 30 s, and listens to a stream. Whatever becomes of the
line to the first edge, a change that is published then arrives by the other one within 10 s.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fleet import ENVIRONMENT, Fleet
from holdfast.gameday.naive import Ask
from holdfast.gameday.processes import ask, until, until_or_not
from holdfast.gameday.proxy import (
    ANSWERS_LOST,
    BLACK_HOLE,
    PASS,
    QUESTIONS_LOST,
    REFUSED,
    SYN_DROPPED,
    Fault,
    Proxy,
    Way,
)
from holdfast.gameday.watching import Line, Reader

FAILOVER_S: Final = 10.0
FAILOVER_SHORT_S: Final = 20.0
"""In the short form, among tests, where whoever is held up for a second finds out later."""
WATCHED_S: Final = 22.0
"""How long a failover is waited for at most."""
SETTLED_S: Final = 20.0
"""For what is no fault's business, on a busy machine."""
LAG_S: Final = 8.0
"""How long clients are watched on an edge that is behind what they have."""
BACK_S: Final = 60.0
"""For the way back to the preferred edge, which is slow on purpose."""
CALM_S: Final = 10.0
CLIENTS: Final = (("often", 0.5), ("steady", 30.0))
"""Name and poll interval in seconds."""


class Kind(msgspec.Struct, frozen=True):
    """A way in which a line is bad; `cut`: what is open is reset, too."""

    name: str
    fault: Fault
    cut: bool = False


KINDS: Final = (
    Kind("answers lost", ANSWERS_LOST),
    Kind("black hole, both ways", BLACK_HOLE),
    Kind("questions lost", QUESTIONS_LOST),
    Kind("SYN dropped, open ones reset", SYN_DROPPED, cut=True),
    Kind("refused, open ones reset", REFUSED, cut=True),
    Kind("a drip of 100 bytes/s", Fault(down=Way(bytes_per_s=100))),
    Kind("reset after 500 bytes", Fault(down=Way(reset_after=500))),
)


class Scene:
    """The fleet of this drill, and its three lines: to both edges, and from the second one up."""

    def __init__(self, day: Day, fleet: Fleet, stack: contextlib.ExitStack) -> None:
        self.day = day
        self.fleet = fleet
        fleet.begin()
        self.up = stack.enter_context(Proxy(_port(fleet.control_url)))
        fleet.add_edge("edge-b", (self.up.url,))
        fleet.wait_ready("edge-b")
        self.first = stack.enter_context(Proxy(_port(fleet.edge_urls["edge-a"])))
        self.second = stack.enter_context(Proxy(_port(fleet.edge_urls["edge-b"])))
        self.backwards = 0
        self._clients = 0

    def clients(self, which: Sequence[tuple[str, float]] = CLIENTS) -> dict[str, Reader]:
        """New ones, settled on the first edge; without protection they know no other."""
        both = [self.first.url, self.second.url]
        endpoints = both if self.day.protected else both[:1]
        self._clients += 1
        names = {f"{name}-{self._clients}": poll_s for name, poll_s in which}
        readers = {
            name: self.fleet.watch(name, "sdk", endpoints, poll_interval_s=poll_s)
            for name, poll_s in names.items()
        }
        newest = self.fleet.revision_at("edge-a")
        for name, reader in readers.items():
            self.fleet.wait_answering(name)
            until(lambda r=reader: self._settled(r, newest), name, SETTLED_S)  # type: ignore[misc]
        time.sleep(1.5)  # until their streams are open
        return readers

    def _settled(self, reader: Reader, newest: int) -> bool:
        """Whether it has the newest revision, and would notice what becomes of the first line."""
        return _revision(reader) >= newest and _upstream(reader) == self.first.url

    def publish(self, *edges: str) -> int:
        """A new revision, once these edges have it."""
        revision = self.fleet.count_up()
        for edge in edges:
            until(lambda e=edge: self.fleet.revision_at(e) >= revision, edge, SETTLED_S)  # type: ignore[misc]
        return revision

    def dismiss(self, readers: dict[str, Reader]) -> None:
        """Count what went back, and end them."""
        for name, reader in readers.items():
            self.backwards += _backwards(reader.read())
            self.fleet.dismiss(name)


def run(day: Day) -> None:
    kinds = KINDS[: day.sample] if day.sample else KINDS
    with Fleet(day) as fleet, contextlib.ExitStack() as stack:
        scene = Scene(day, fleet, stack)
        _expect(fleet)
        slowest_s = 0.0
        for kind in kinds:
            slowest_s = max(slowest_s, *_failover(scene, kind))
        bar_s = FAILOVER_SHORT_S if day.sample else FAILOVER_S
        failed = slowest_s > bar_s
        text = f"{slowest_s:.1f} s" if slowest_s < WATCHED_S else "never"
        bar = f"<= {bar_s:.0f} s, {len(kinds)} ways"
        day.measure("failover at the slowest client", text, bar, holds=not failed)
        if not day.sample and day.protected:
            _lagging(scene)
            _back(scene)
        day.measure(
            "clients that went back a revision", scene.backwards, "0", holds=not scene.backwards
        )
    day.root_cause = "a line that is dead, or dead in one direction"
    day.stopped_by = "bounds on each question, heartbeats, and a second endpoint"
    day.affected = "clients of one edge" if failed else "nobody"


def _failover(scene: Scene, kind: Kind) -> list[float]:
    """Seconds from the fault until each client has what was published after it."""
    readers = scene.clients()
    began_s = time.time()
    scene.first.be(kind.fault)
    if kind.cut:
        scene.first.cut()
    scene.day.note("fault", f"{kind.name}: the line to the preferred edge")
    revision = scene.publish("edge-b")
    until_or_not(lambda: all(_revision(r) >= revision for r in readers.values()), WATCHED_S)
    took_s = [_reached_s(reader, revision, began_s) for reader in readers.values()]
    told = ", ".join(f"{n.split('-')[0]} {s:.1f} s" for n, s in zip(readers, took_s, strict=True))
    scene.day.note("recovered" if max(took_s) <= FAILOVER_S else "damage", f"{kind.name}: {told}")
    scene.dismiss(readers)
    scene.first.be(PASS)
    scene.first.cut()
    return took_s


def _lagging(scene: Scene) -> None:
    """The other edge is behind: clients stay at what they have, and go on when it has more."""
    readers = scene.clients()
    scene.up.be(BLACK_HOLE)
    ahead = scene.publish("edge-a")
    until(lambda: all(_revision(r) >= ahead for r in readers.values()), "the news", SETTLED_S)
    scene.first.be(BLACK_HOLE)
    scene.day.note("fault", "the preferred edge is gone, the other one is a revision behind")
    time.sleep(LAG_S)
    scene.up.be(PASS)
    began_s, revision = time.time(), scene.publish("edge-b")
    until_or_not(lambda: all(_revision(r) >= revision for r in readers.values()), WATCHED_S)
    took_s = max(_reached_s(reader, revision, began_s) for reader in readers.values())
    scene.dismiss(readers)
    scene.first.be(PASS)
    scene.first.cut()
    bar = f"<= {FAILOVER_S:.0f} s"
    name = "from the other edge's own recovery to the newest at all clients"
    scene.day.measure(name, f"{took_s:.1f} s", bar, holds=took_s <= FAILOVER_S)


def _back(scene: Scene) -> None:
    """Away from the preferred edge once, back to it once, and no further move."""
    readers = scene.clients(CLIENTS[:1])
    (reader,) = readers.values()
    scene.first.be(REFUSED)
    scene.first.cut()
    until(lambda: _upstream(reader) == scene.second.url, "the failover", SETTLED_S)
    scene.first.be(PASS)
    healed_s = time.time()
    came_back = until_or_not(lambda: _upstream(reader) == scene.first.url, BACK_S)
    took_s = time.time() - healed_s
    time.sleep(CALM_S)
    visited = [line.upstreams.get("shop", "") for line in reader.read() if line.upstreams]
    moves = sum(one != other for one, other in itertools.pairwise(visited))
    scene.dismiss(readers)
    scene.day.note("recovered", f"back at the preferred edge {took_s:.0f} s after it was well")
    bar = f"<= {BACK_S:.0f} s"
    scene.day.measure("back at the preferred edge", f"{took_s:.0f} s", bar, holds=came_back)
    scene.day.measure("moves between the edges", moves, "2", holds=moves == 2)


def _expect(fleet: Fleet) -> None:
    context = {"targetingKey": "u1", "tenant": "contoso", "user": "ada"}
    url = f"{fleet.edge_urls['edge-a']}/{ENVIRONMENT}/shop/ofrep/v1/evaluate/flags"
    flags = ask("POST", url, {"context": context}).body["flags"]
    asks = [Ask("shop", flag["key"], context) for flag in flags]
    fleet.expect(asks, [flag.get("value") for flag in flags])


def _revision(reader: Reader) -> int:
    line = reader.last
    return line.revisions.get("shop", 0) if line else 0


def _upstream(reader: Reader) -> str:
    line = reader.last
    return line.upstreams.get("shop", "") if line else ""


def _reached_s(reader: Reader, revision: int, began_s: float) -> float:
    for line in reader.read():
        if line.revisions.get("shop", 0) >= revision:
            return max(0.0, line.at_s - began_s)
    return WATCHED_S


def _backwards(lines: Sequence[Line]) -> int:
    seen = [line.revisions["shop"] for line in lines if line.revisions.get("shop")]
    return sum(later < before for before, later in itertools.pairwise(seen))


def _port(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


DRILL = Drill(
    name="partition",
    title="Partitions: every way in which a line can be bad, one-way ones too",
    outage="a path fails in one direction, or only for new connections, and nothing says so.",
    rehearsal=(
        "the line between real clients and their preferred edge loses questions, answers or SYNs, "
        "drips, resets; then the other edge is behind; then the preferred one is well again."
    ),
    run=run,
)
