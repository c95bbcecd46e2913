"""`stale-leader`: a leader is stopped between deciding and writing, and another one leads by then.

Two moments take turns: the leader is stopped before its write has left it, or after, and then the
bytes are on their way, held by a proxy until another one leads. Who leads by then has not written
anything in most races: the head is as the old leader knows it, and its token alone keeps it out.

In the long form real nodes do the same a few times: who leads is stopped while it commits a change
whose time has come, the other node leads and commits it, and the first one goes on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from holdfast.apps.stores import open_stores
from holdfast.core.errors import HoldfastError
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.etcd import EtcdCluster
from holdfast.gameday.nodes import Nodes
from holdfast.gameday.postgres import Postgres
from holdfast.gameday.processes import until
from holdfast.gameday.promises.node_lost import figures, leader
from holdfast.gameday.proxy import Proxy, spelled
from holdfast.gameday.racing import Leader, entry, lease

RACES: Final = 100
"""On each engine."""
LANES: Final = 4
"""Pairs of leaders at once, each with a store of its own on the same server: leases take time."""
TTL_S: Final = 1.0
CAUGHT_S: Final = 20.0
NODE_RACES: Final = 5
"""With real nodes: their lease is 5 s."""
LEADS_S: Final = 60.0
WRITING_FIRST: Final = 4
"""In each so-manieth race the new leader has written before the old one goes on."""


class Engine(msgspec.Struct, frozen=True):
    """A server: its port, and the URL of a store on it by way of a port."""

    port: int
    url: Callable[[int, str], str]


class Race(msgspec.Struct, frozen=True):
    """What became of one stale write, and of the new leader's. Fault: what kept it from running."""

    name: str
    said: str = ""
    led: bool = False
    fault: str = ""


@contextlib.contextmanager
def _etcd(directory: Path) -> Iterator[Engine]:
    with EtcdCluster(
        directory, options=("--heartbeat-interval=50", "--election-timeout=500")
    ) as one:
        (member,) = one.members

        def url(port: int, name: str) -> str:
            return f"{one.url_of([f'127.0.0.1:{port}'])}?prefix={name}"

        yield Engine(member.port, url)


@contextlib.contextmanager
def _postgres(_: Path) -> Iterator[Engine]:
    with Postgres() as server:
        yield Engine(server.port, lambda port, name: f"{server.url_by(port)}?schema={name}")


ENGINES: Final[Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Engine]]]] = {
    "etcd": _etcd,
    "postgresql": _postgres,
}


def run(day: Day) -> None:
    """`sample`: so many races on each engine."""
    races = day.sample or RACES
    for name, opened in ENGINES.items():
        with opened(day.directory / name) as engine:
            lanes = min(LANES, races)
            day.note("fault", f"{name}: {races} races, {lanes} at a time")
            shares = [range(lane, races, lanes) for lane in range(lanes)]
            with ThreadPoolExecutor(lanes) as threads, contextlib.ExitStack() as stack:
                scenes = [_Scene(day, engine, lane, stack) for lane in range(lanes)]
                done = threads.map(_Scene.race_all, scenes, shares)
                found = [race for share in done for race in share]
                stale = sum(scene.stale() for scene in scenes)
        _judge(day, name, found, stale)
    if not day.sample and day.protected:
        _at_nodes(day)
    day.root_cause = "a leader that was away for longer than its lease, and does not know"
    day.stopped_by = "each write of a leader carries its token, checked at one moment with the head"


class _Scene:
    """One store: the old leader, a process behind a proxy, and the new one, which is here."""

    def __init__(self, day: Day, engine: Engine, lane: int, stack: contextlib.ExitStack) -> None:
        self._day = day
        self._line = stack.enter_context(Proxy(engine.port))
        name = f"lane{lane}"
        self._stores = open_stores(engine.url(engine.port, name))
        stack.callback(self._stores.close)
        through = engine.url(self._line.port, name)
        self._old = stack.enter_context(Leader(through, "old", TTL_S, fenced=day.protected))

    def race_all(self, numbers: range) -> list[Race]:
        """One after the other; the first that can't be run is the last."""
        found = []
        for number in numbers:
            name = f"stale-write-{number:03d}"
            try:
                found.append(self._race(name, number))
            except HoldfastError as error:
                return [*found, Race(name, fault=str(error))]
        return found

    def _race(self, name: str, number: int) -> Race:
        under_way = number % 2 == 0
        trap = self._line.trap(*spelled(name)) if under_way else None
        self._old.decide(name, stopping=not under_way)
        if trap is not None:
            trap.wait(CAUGHT_S)
            self._old.stop()
        self._old.wait_stopped()
        held = lease(self._stores.leases, "new", TTL_S)
        before = number % WRITING_FIRST == WRITING_FIRST - 1
        led = before and self._lead(number, held.token)
        if trap is not None:
            trap.let_go()
        self._old.cont()
        said = self._old.heard()
        led = led or self._lead(number, held.token)
        self._stores.leases.give_up(held)
        if said == "written":
            self._day.note("damage", f"{name} was written under another one's lease")
        return Race(name, said, led)

    def _lead(self, number: int, token: int) -> bool:
        """The new leader writes; whether it could, by its own lease."""
        made = entry(self._stores.journal.head(), f"new-write-{number}")
        self._stores.journal.append(made, token)
        return True

    def stale(self) -> int:
        """Entries in the journal that an old leader wrote."""
        return sum(one.reason.startswith("stale") for one in self._stores.journal.read())


def _at_nodes(day: Day) -> None:
    """Each change whose time has come is committed once, by whichever node."""
    with contextlib.ExitStack() as stack:
        etcd = stack.enter_context(EtcdCluster(day.directory / "nodes"))
        lines = {n: stack.enter_context(Proxy(etcd.members[0].port)) for n in ("node-a", "node-b")}
        urls = {name: etcd.url_of([f"127.0.0.1:{line.port}"]) for name, line in lines.items()}
        fleet = stack.enter_context(Nodes(day, urls))
        fleet.begin()
        names = [f"scheduled-{number:03d}" for number in range(NODE_RACES)]
        for name in names:
            _race_at_nodes(day, fleet, lines, name)
        stores = open_stores(etcd.url)
        reasons = [one.reason for one in stores.journal.read()]
        stores.close()
    once = sum(reasons.count(name) == 1 for name in names)
    day.measure(
        "changes that a stopped node was committing, there once", once, str(NODE_RACES),
        holds=once == NODE_RACES,
    )  # fmt: skip


def _race_at_nodes(day: Day, fleet: Nodes, lines: Mapping[str, Proxy], name: str) -> None:
    old = until(lambda: leader(fleet), "a leader", LEADS_S)
    new = next(one for one in lines if one != old)
    trap = lines[old].trap(*spelled(name))
    edit = fleet.put("scheduled", {"type": "string", "variants": {"now": name}})
    made = fleet.at(new, "POST", "/v1/changes", {"reason": name, "edits": [edit]}).body
    path = f"/v1/changes/{made['id']}"
    fleet.at(new, "PUT", f"{path}/schedule", {"at_s": int(time.time()) + 1})
    trap.wait(CAUGHT_S)
    fleet.stop(old)
    until(lambda: _leads(fleet, new), f"{new} to lead", LEADS_S)
    until(lambda: fleet.at(new, "GET", path).status == 404, "the change's commit", LEADS_S)
    trap.let_go()
    fleet.cont(old)
    until(lambda: fleet.head(old) == fleet.head(new), "both nodes alike", LEADS_S)
    day.note("blocked", f"{old} was stopped while it committed {name}, and {new} has done it")


def _leads(fleet: Nodes, name: str) -> bool:
    return figures(fleet, name).get("holdfast_leader") == 1.0


def _judge(day: Day, engine: str, races: list[Race], stale: int) -> None:
    refused = [race for race in races if race.said in {"fenced", "conflict"}]
    fenced = sum(race.said == "fenced" for race in races)
    led = sum(race.led for race in races)
    for race in races:
        if race.fault:
            day.note("damage", f"{engine}: {race.name} could not be run: {race.fault}")
    wanted = day.sample or RACES
    told = f"{engine}: {len(refused)} of {wanted} stale writes refused, {fenced} by token"
    day.note("blocked" if len(refused) == wanted else "damage", told)
    day.measure(
        f"{engine}: stale writes refused", len(refused), f"{wanted}", holds=len(refused) == wanted
    )
    day.measure(f"{engine}: stale writes in the journal", stale, "0", holds=not stale)
    day.measure(f"{engine}: writes of new leaders", led, f"{wanted}", holds=led == wanted)
    if stale:
        day.affected = f"{stale} decisions of leaders that led no more were carried out"


DRILL = Drill(
    name="stale-leader",
    title="A leader that is stopped, and goes on when another one leads",
    promise="every write of a leader that leads no more is refused",
    rehearsal=(
        "a leader, a process of its own, takes the lease, reads the head, decides, and is stopped "
        "with SIGSTOP, before its write has left it or while a proxy holds its bytes; another one "
        "takes the lease when it has run out; the old one goes on. A hundred times each on etcd "
        "and on PostgreSQL; then a few times with real nodes, of which one is stopped while it "
        "commits a scheduled change. Without protection, writes carry no token."
    ),
    run=run,
)
