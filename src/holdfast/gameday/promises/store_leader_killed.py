"""`store-leader-killed`: etcd's leader is killed or stopped, again and again, under many writers.

Two journals in one cluster: one that processes write to by themselves, as fast as it goes, and one
under three control-plane nodes. Members reach each other through proxies, and so do some writers
reach them: lines are cut and answers lost as well. What everybody did is recorded, and judged when
it is over: is there one order that explains all of it, was anything acknowledged and lost, did each
watcher get each entry once?
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from holdfast.apps.stores import open_stores
from holdfast.core.errors import HoldfastError
from holdfast.core.model import Entry
from holdfast.gameday.drill import Chart, Day, Drill
from holdfast.gameday.etcd import EtcdCluster, EtcdMember
from holdfast.gameday.fleet import ENVIRONMENT
from holdfast.gameday.linear import Names, Operation, Read, linearizable, watch_faults
from holdfast.gameday.nodes import Nodes
from holdfast.gameday.processes import free_ports, until, until_or_not
from holdfast.gameday.promises.control_plane_dead import expect_what_stands
from holdfast.gameday.proxy import ANSWERS_LOST, BLACK_HOLE, PASS, Proxy
from holdfast.gameday.recording import Tail, read
from holdfast.gameday.writing import Writers

How: TypeAlias = Literal["kill -9", "SIGSTOP", "cut"]

KILLS: Final = 50
"""Of the leader, every other one a SIGSTOP."""
CUT_EVERY: Final = 5
"""After so many, the leader's line is cut once; before so many, answers are lost for a while."""
OPTIONS: Final = ("--heartbeat-interval=100", "--election-timeout=500")
"""As for members with some milliseconds between them: heartbeats ten times as long as a round trip,
five of them missed before an election. etcd's own default waits twice as long."""
BACK_S_MAX: Final = 3.0
CUT_BACK_S_MAX: Final = 5.0
"""A leader that is cut off lives, takes questions, and holds them for their whole time-out, 2 s."""
MEMBER_S_MAX: Final = 10.0
WATCHED_S: Final = 20.0
WELL_S: Final = 30.0
UNPROTECTED_S: Final = 4.0
"""For what can't come any more once a journal is broken."""
ANSWERS_LOST_S: Final = 0.5
PAUSE_S: Final = 0.02
"""Between two operations of one writer: the machine is small."""


class Fault(msgspec.Struct, frozen=True):
    """What was done to the leader, and seconds until writes were back, by each journal.

    `well_s`: until all members answered again after it was started, continued or healed.
    """

    how: How
    at_s: float
    direct_s: float
    nodes_s: float
    well_s: float


class _Journal:
    """One journal in the cluster: who writes to it, who watches it, what was there at first."""

    def __init__(self, url: str, watching: Sequence[Writers], writing: Sequence[Writers]) -> None:
        self.url = url
        self.watching = watching
        self.writing = writing
        self.outs = [crew.out for crew in (*watching, *writing)]
        self.tail = Tail(self.outs)
        self.first = len(self.entries())

    def entries(self) -> list[Entry]:
        """All of it, by a new connection. Raises as an adapter does."""
        stores = open_stores(self.url)
        try:
            return list(stores.journal.read())
        finally:
            stores.close()


class _Scene:
    """The cluster with its lines, the nodes on it, and everybody who writes."""

    def __init__(self, day: Day, stack: contextlib.ExitStack) -> None:
        self.day = day
        self.patience_s = _patience_s(day, WELL_S)
        peers = free_ports(3)
        self.peers = [stack.enter_context(Proxy(port)) for port in peers]
        self.cluster = stack.enter_context(
            EtcdCluster(
                day.directory / "etcd",
                members=3,
                through={number: line.port for number, line in enumerate(self.peers)},
                peer_ports=peers,
                options=OPTIONS,
            )
        )
        self.lines = [stack.enter_context(Proxy(each.port)) for each in self.cluster.members]
        own = self.cluster.endpoints
        proxied = [f"127.0.0.1:{line.port}" for line in self.lines]
        urls = {"node-a": own, "node-b": own[1:] + own[:1], "node-c": proxied}
        self.fleet = stack.enter_context(
            Nodes(day, {name: self.cluster.url_of(each) for name, each in urls.items()})
        )
        self.fleet.begin()
        expect_what_stands(self.fleet)
        self.fleet.watch("sdk", "sdk", [self.fleet.edge_urls["edge-a"]])
        self.fleet.watch("ofrep", "ofrep", [self.fleet.edge_urls["edge-a"]], interval_s=0.5)
        for name in self.fleet.clients:
            self.fleet.wait_answering(name)

        def crew(name: str, **told: object) -> Writers:
            return stack.enter_context(
                Writers(day.directory, self.fleet.good, name, pause_s=PAUSE_S, **told)
            )

        prefix = "?prefix=direct"
        direct, through = (self.cluster.url_of(each) + prefix for each in (own, proxied))
        self.direct = _Journal(
            direct,
            [
                crew("watchers", store=direct, watchers=2),
                crew("watchers-behind", store=through, watchers=1),
            ],
            [
                crew("writers", store=direct, appenders=2, readers=1),
                crew("writers-behind", store=through, appenders=1, readers=1),
            ],
        )
        told = {
            "nodes": tuple(self.fleet.node_urls.values()),
            "token": self.fleet.token,
            "environment": ENVIRONMENT,
        }
        self.through_nodes = _Journal(
            self.cluster.url,
            [crew("watchers-nodes", store=self.cluster.url, watchers=2)],
            [crew("writers-nodes", **told)],
        )

    @property
    def journals(self) -> tuple[_Journal, _Journal]:
        return self.direct, self.through_nodes

    def wait_writing(self) -> None:
        """Until somebody's write is acknowledged in both journals."""
        since_s = time.monotonic()
        for each in self.journals:
            until(
                lambda e=each: e.tail.back_s(since_s) is not None,  # type: ignore[misc]
                "writes",
                self.patience_s,
            )

    def strike(self, how: How, *, answers_lost: bool = False) -> Fault:
        """Do that to the leader, wait until writes are back, and set it right again."""
        self.wait_writing()
        leader = self.cluster.leader()
        self._lose_answers(ANSWERS_LOST_S if answers_lost else 0.0)
        at_s, since_s = self.day.since_s(), time.monotonic()
        heal = self._strike(how, leader)
        back = [self._back_s(each, since_s) for each in self.journals]
        began_s = time.monotonic()
        heal()
        self.cluster.wait_healthy(WELL_S)
        fault = Fault(how, at_s, back[0], back[1], time.monotonic() - began_s)
        told = f"{how} of {leader.name}{', answers lost' if answers_lost else ''}"
        fine = max(back) <= BACK_S_MAX
        text = f"{told}: writes back after {back[0]:.2f} s, at nodes after {back[1]:.2f} s"
        self.day.note("recovered" if fine else "damage", text)
        return fault

    def _lose_answers(self, for_s: float) -> None:
        """What is written behind proxies meanwhile is written, and nobody is told."""
        if not for_s:
            return
        for line in self.lines:
            line.be(ANSWERS_LOST)
        time.sleep(for_s)
        for line in self.lines:
            line.be(PASS)
            line.cut()

    def _strike(self, how: How, leader: EtcdMember) -> Callable[[], None]:
        if how == "kill -9":
            leader.kill()
            return leader.start
        if how == "SIGSTOP":
            leader.stop()
            return leader.cont
        line = self.peers[self.cluster.members.index(leader)]
        line.be(BLACK_HOLE)

        def heal() -> None:
            line.be(PASS)
            line.cut()

        return heal

    def _back_s(self, journal: _Journal, since_s: float) -> float:
        within_s = _patience_s(self.day, WATCHED_S)
        until_or_not(lambda: journal.tail.back_s(since_s) is not None, within_s)
        found = journal.tail.back_s(since_s)
        return WATCHED_S if found is None else found


def _patience_s(day: Day, within_s: float) -> float:
    return within_s if day.protected else UNPROTECTED_S


def run(day: Day) -> None:
    """`sample`: so many kills, and no cuts."""
    kills = day.sample or KILLS
    with contextlib.ExitStack() as stack:
        scene = _Scene(day, stack)
        day.note("step", "three members, three nodes, and writers, readers and watchers on both")
        faults: list[Fault] = []
        try:
            for number in range(kills):
                how: How = "SIGSTOP" if number % 2 else "kill -9"
                lost = number % CUT_EVERY == 1
                faults.append(scene.strike(how, answers_lost=lost))
                if not day.sample and number % CUT_EVERY == CUT_EVERY - 1:
                    faults.append(scene.strike("cut"))
        except HoldfastError as error:
            day.note("damage", f"after {len(faults)} faults: {error}")
        _judge_faults(day, faults, kills)
        _judge_nodes(day, scene)
        for name, journal in (("direct", scene.direct), ("nodes", scene.through_nodes)):
            _judge(day, name, journal)
        _judge_clients(day, scene.fleet)
    day.root_cause = "the store's leader dies, stands still, or is cut off"
    day.stopped_by = (
        "etcd elects another one; each append is one transaction with a comparison, and one whose "
        "answer was lost is told apart by what stands in its place; reads are linearizable; "
        "watches only wake, entries are read by number"
    )


def _judge_faults(day: Day, faults: Sequence[Fault], kills: int) -> None:
    cuts = [fault for fault in faults if fault.how == "cut"]
    killed = [fault for fault in faults if fault.how != "cut"]
    day.measure(
        "kills and stops of the leader", len(killed), str(kills), holds=len(killed) == kills
    )
    for what, some, bar_s in (
        ("kills and stops", killed, BACK_S_MAX),
        ("cuts of its line to the others", cuts, CUT_BACK_S_MAX),
    ):
        slowest_s = max((max(fault.direct_s, fault.nodes_s) for fault in some), default=0.0)
        if some:
            day.measure(
                f"writes back after the slowest of {len(some)} {what}, s",
                round(slowest_s, 2), f"at most {bar_s:g}", holds=slowest_s <= bar_s, timed=True,
            )  # fmt: skip
    slowest_s = max((fault.well_s for fault in faults), default=WELL_S)
    day.measure(
        "the member is back, s after it was started, continued or healed, the slowest",
        round(slowest_s, 2), f"at most {MEMBER_S_MAX:.0f}",
        holds=slowest_s <= MEMBER_S_MAX, timed=True,
    )  # fmt: skip
    day.charts.append(
        Chart(
            name="writes-back",
            title="Writes back after the leader was killed, stopped or cut off",
            x="seconds since the drill began",
            y="s to the first acknowledgement",
            lines={
                "the store itself": tuple((f.at_s, f.direct_s) for f in faults),
                "through nodes": tuple((f.at_s, f.nodes_s) for f in faults),
            },
            bar=BACK_S_MAX,
        )
    )


def _judge_nodes(day: Day, scene: _Scene) -> None:
    """Every node has the same head, once nobody writes there any more."""
    for crew in scene.through_nodes.writing:
        if told := crew.end():
            day.note("damage", told)

    heads: set[tuple[int, str]] = set()

    def agree() -> bool:
        nonlocal heads
        heads = {scene.fleet.head(name) for name in scene.fleet.nodes}
        return len(heads) == 1 and (0, "") not in heads

    agreed = until_or_not(agree, scene.patience_s)
    day.measure("heads at three nodes, in the end", len(heads), "1", holds=agreed)


def _judge(day: Day, name: str, journal: _Journal) -> None:
    """What was recorded of one journal, against what lies in it."""
    faults = [told for crew in journal.writing if crew.alive and (told := crew.end())]
    try:
        entries = journal.entries()
    except HoldfastError as error:
        faults.append(f"the journal can't be read: {error}")
        entries = []
    until_or_not(lambda: _delivered(journal, len(entries)), _patience_s(day, WELL_S))
    faults += [told for crew in journal.watching if (told := crew.end())]
    for told in faults:
        day.note("damage", f"{name}: {told}")
    day.measure(f"{name}: faults of the store that were met", len(faults), "0", holds=not faults)
    _judge_recorded(day, name, journal, entries)


def _judge_recorded(day: Day, name: str, journal: _Journal, entries: Sequence[Entry]) -> None:
    found = read(journal.outs)
    names = [entry.reason for entry in entries]
    counts, acknowledged = found.counts(), found.acknowledged().items()
    lost = [one for one, revision in acknowledged if names[revision - 1 : revision] != [one]]
    day.note("step", f"{name}: {', '.join(f'{count} {what}' for what, count in counts.items())}")
    day.measure(
        f"{name}: entries acknowledged and lost", len(lost), f"0 of {len(acknowledged)}",
        holds=not lost and len(acknowledged) > 0,
    )  # fmt: skip
    history = found.named({entry.hash: entry.reason for entry in entries})
    _judge_history(day, name, history, names, journal.first)
    came = [one.delivery for one in found.deliveries]
    faults = watch_faults(came, names, found.begins)
    for told in faults[:5]:
        day.note("damage", f"{name}: {told}")
    day.measure(
        f"{name}: gaps and repeats in watches", len(faults),
        f"0 of {len(came)} at {len(found.begins)} watchers", holds=not faults and bool(came),
    )  # fmt: skip


def _delivered(journal: _Journal, revision: int) -> bool:
    """Whether every watcher was given all of it, as far as those are alive that could be."""
    journal.tail.read()
    reached = journal.tail.delivered.values()
    return not any(crew.alive for crew in journal.watching) or (
        bool(reached) and min(reached) >= revision
    )


def _judge_history(
    day: Day, name: str, history: Sequence[Operation], names: Sequence[str], first: int
) -> None:
    """Linearizable, with a last read of all of it behind what everybody did."""
    now_s = time.monotonic()
    last = Operation("drill", Read(first), now_s, Names(tuple(names[first:])), now_s)
    verdict = linearizable([*history, last], names[:first])
    for index in verdict.stuck[:5] if not verdict.ok else ():
        day.note("damage", f"{name}: can't be explained: {[*history, last][index]}"[:400])
    day.measure(
        f"{name}: the history of {len(history)} operations", verdict.text, "linearizable",
        holds=verdict.ok,
    )  # fmt: skip


def _judge_clients(day: Day, fleet: Nodes) -> None:
    answered, wrong, failed = fleet.totals()
    for example in fleet.examples()[:5]:
        day.note("damage", example)
    day.measure(
        "answers at clients that failed or were wrong", wrong + failed, f"0 of {answered}",
        holds=not wrong + failed and answered > 0,
    )  # fmt: skip
    day.affected = "nobody but who wanted to write" if not wrong + failed else "clients"


DRILL = Drill(
    name="store-leader-killed",
    title="The store's leader is killed, stopped, and cut off",
    promise="writes back in <= 3 s; 0 acknowledged lost; history linearizable; no gap in a watch",
    rehearsal=(
        "three etcd processes, three control-plane nodes on them; kill -9 and SIGSTOP of the "
        "leader in turn, 50 times, its line to the others cut ten times, answers to writers lost "
        "ten times; meanwhile writers, readers and watchers at the store and at the nodes, all "
        "they do recorded. Without protection, an append does not compare the head."
    ),
    run=run,
)
