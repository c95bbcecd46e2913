"""`node-lost`: control-plane nodes on one etcd are killed one after another, the leader among them.

Meanwhile changes are committed through all nodes in turn, a scheduled change falls due, and
rollouts are under way. Without the lease every node takes itself for the leader, and unfenced.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, Self

import msgspec

from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.etcd import EtcdCluster
from holdfast.gameday.fleet import SERVICES
from holdfast.gameday.nodes import Nodes
from holdfast.gameday.processes import until, until_or_not
from holdfast.gameday.promises.control_plane_dead import expect_what_stands

NODES: Final = ("node-a", "node-b", "node-c")
CREATED: Final = 201
COMMITS_EACH_S: Final = 0.2
LEADS_S_MAX: Final = 12.0
"""From the leader's death to the next one: the lease's 5 s, and what a busy machine adds."""
WAIT_S: Final = 30.0
SETTLE_S: Final = 60.0
"""A rollout waits 25 s under a new leader, for reports that the old one had."""
STAGING: Final = "staging"
STAGES: Final = (
    {"name": "half", "percent": 50.0, "bake_s": 1.0},
    {"name": "all", "percent": 100.0, "bake_s": 1.0},
)


class Tried(msgspec.Struct, frozen=True):
    """One commit: where, when it was asked for and answered, and how (0: not at all)."""

    node: str
    began_s: float
    at_s: float
    status: int
    revision: int = 0


class Load:
    """Commits through all nodes in turn, until it is left. `tried` is all of them."""

    def __init__(self, fleet: Nodes) -> None:
        self._fleet = fleet
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commits", daemon=True)
        self.tried: list[Tried] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(WAIT_S)

    def since(self, at_s: float, nodes: Sequence[str] = NODES) -> list[Tried]:
        """What was answered from then on, by these nodes."""
        return [one for one in list(self.tried) if one.at_s >= at_s and one.node in nodes]

    def _run(self) -> None:
        for name in itertools.cycle(self._fleet.nodes):
            if self._done.wait(COMMITS_EACH_S):
                return
            body = {"reason": "load", "edits": [self._fleet.next_count()]}
            began_s = time.time()
            found = self._fleet.at(name, "POST", "/v1/commits", body, timeout_s=5.0)
            revision = found.body["revision"] if found.status == CREATED else 0
            self.tried.append(Tried(name, began_s, time.time(), found.status, revision))


def run(day: Day) -> None:
    with (
        EtcdCluster(day.directory / "etcd", members=1 if day.sample else 3) as etcd,
        Nodes(day, dict.fromkeys(NODES, etcd.url)) as fleet,
    ):
        _begin(fleet)
        with Load(fleet) as load:
            until(lambda: leader(fleet), "a leader", WAIT_S)
            lost = [*_kills(day, fleet, load)]
        _judge(day, fleet, load, lost)
    day.root_cause = "a control-plane node that is gone"
    day.stopped_by = "nodes that share a store, and a lease that one of them takes over"


def _begin(fleet: Nodes) -> None:
    fleet.begin(("edge-a", "edge-b") if not fleet.day.sample else ("edge-a",))
    expect_what_stands(fleet)
    for name, endpoints in (
        ("sdk-edge", [fleet.edge_urls["edge-a"]]),
        ("sdk", [*fleet.node_urls.values()]),
    ):
        fleet.watch(name, "sdk", endpoints)
    fleet.watch("ofrep", "ofrep", [*fleet.edge_urls.values()], interval_s=0.5)
    for name in fleet.clients:
        fleet.wait_answering(name)
    policy = {"policy": {"rollout": {"stages": STAGES}}, "reason": "game day"}
    fleet.at("node-a", "PUT", f"/v1/environments/{STAGING}/policy", policy)


class Lost(msgspec.Struct, frozen=True):
    """One node that was killed, and what came of it; seconds since its death.

    `led_at_once`: as many nodes said that they lead, once there was one again.
    """

    node: str
    led: bool
    killed_s: float
    back_s: float
    leads_after_s: float
    scheduled_after_s: float
    rolled_out: bool
    led_at_once: int


def _kills(day: Day, fleet: Nodes, load: Load) -> Iterator[Lost]:
    """The leader, and in the long form both others, which may lead by then."""
    first = leader(fleet)
    for name in [first, *(one for one in NODES if one != first)][: day.sample or None]:
        yield _kill(day, fleet, load, name)


def _kill(day: Day, fleet: Nodes, load: Load, name: str) -> Lost:
    led, others = leader(fleet) == name, [one for one in NODES if one != name]
    under_way = "" if day.sample else _start_rollout(fleet, others[0])
    due = _schedule(fleet, others[0])
    killed_s = time.time()
    fleet.nodes[name].kill()
    day.note("fault", f"kill -9 of {name}, which {'leads' if led else 'does not lead'}")
    until_or_not(lambda: leader(fleet) not in ("", name), WAIT_S)
    leads_s, at_once = time.time() - killed_s, len(leaders(fleet))
    day.note("recovered", f"{leader(fleet)} leads, {leads_s:.1f} s later")
    until_or_not(lambda: _committed(fleet, others[0], due), WAIT_S)
    scheduled_s = time.time() - killed_s
    rollouts = (
        [under_way, _start_rollout(fleet, others[1])]
        if under_way
        else [_start_rollout(fleet, others[1])]
    )
    went_on = until_or_not(
        lambda: all(_completed(fleet, others[0], one) for one in rollouts), SETTLE_S
    )
    until_or_not(lambda: len(load.since(killed_s, others)) >= 10, WAIT_S)
    back_s = math.inf
    if not day.sample:
        fleet.nodes[name].start(fleet.good)
        fleet.wait_node(name)
        back_s = time.time()
        day.note("recovered", f"{name} is back, after {back_s - killed_s:.1f} s")
    return Lost(name, led, killed_s, back_s, leads_s, scheduled_s, went_on, at_once)


def _living(fleet: Nodes) -> str:
    return next(name for name, process in fleet.nodes.items() if process.alive)


def leaders(fleet: Nodes) -> list[str]:
    """The nodes that say they lead: one, or none for a while."""
    return [name for name in fleet.nodes if figures(fleet, name).get("holdfast_leader") == 1.0]


def leader(fleet: Nodes) -> str:
    """The first node that says it leads; empty when none does."""
    return next(iter(leaders(fleet)), "")


def figures(fleet: Nodes, name: str) -> dict[str, float]:
    """A node's metrics without labels; none while it does not answer."""
    found = fleet.at(name, "GET", "/metrics", timeout_s=2.0)
    lines = str(found.body).splitlines() if found.status == 200 else []
    told: dict[str, float] = {}
    for line in lines:
        metric, _, value = line.partition(" ")
        if line.startswith("holdfast_") and "{" not in metric:
            with contextlib.suppress(ValueError):
                told[metric] = float(value)
    return told


def _schedule(fleet: Nodes, at: str) -> str:
    """A change that falls due in a second or two, while nobody leads; its id."""
    edit = fleet.put("scheduled", _setting(str(time.time()), "production"))
    made = fleet.at(at, "POST", "/v1/changes", {"reason": "scheduled", "edits": [edit]})
    due = {"at_s": int(time.time()) + 2}
    fleet.at(at, "PUT", f"/v1/changes/{made.body['id']}/schedule", due)
    return str(made.body["id"])


def _committed(fleet: Nodes, at: str, change: str) -> bool:
    return fleet.at(at, "GET", f"/v1/changes/{change}").status == 404


def _start_rollout(fleet: Nodes, at: str) -> str:
    edit = fleet.put(f"rolled-out-{time.time_ns()}", _setting("new", STAGING))
    found = fleet.at(at, "POST", "/v1/commits", {"reason": "rollout", "edits": [edit]})
    return f"{STAGING}.{found.body['revision']}"


def _setting(value: str, environment: str) -> dict[str, Any]:
    return {
        "type": "string",
        "variants": {"now": value},
        "environments": {environment: {"default": "now"}},
    }


def _completed(fleet: Nodes, at: str, rollout: str) -> bool:
    found = fleet.at(at, "GET", f"/v1/rollouts/{rollout}")
    return found.status == 200 and found.body["rollout"]["status"] == "completed"


def _judge(day: Day, fleet: Nodes, load: Load, lost: Sequence[Lost]) -> None:
    killed = [one for one in lost if one.led]
    refused = [one for one in load.tried if not one.revision and not _was_down(one, lost)]
    acknowledged = Counter(one.revision for one in load.tried if one.revision)
    day.note("step", f"{len(acknowledged)} commits were acknowledged, by {len(NODES)} nodes")
    day.measure("leaders killed", len(killed), "at least 1", holds=bool(killed))
    slowest_s = max(one.leads_after_s for one in lost)
    bar = f"at most {LEADS_S_MAX:.0f}"
    day.measure(
        "until another node leads, s", round(slowest_s, 1), bar,
        holds=slowest_s <= LEADS_S_MAX, timed=True,
    )  # fmt: skip
    on_time = all(one.scheduled_after_s < WAIT_S for one in lost)
    day.measure("scheduled changes were committed", str(on_time), "True", holds=on_time)
    went_on = all(one.rolled_out for one in lost)
    day.measure("rollouts went on", str(went_on), "True", holds=went_on)
    at_once = max(one.led_at_once for one in lost)
    day.measure("nodes that led at once", at_once, "1", holds=at_once == 1)
    twice = _moved_twice(fleet)
    day.measure("moves of rollouts made twice", twice, "0", holds=not twice)
    meanwhile = min(_while_down(load, one) for one in lost)
    day.measure(
        "commits while a node was gone, at least", meanwhile, "more than 0", holds=meanwhile > 0
    )
    day.measure(
        "commits failed at living nodes", len(refused), "0", holds=not refused, timed=True
    )  # a node whose store call is late on a busy machine says so
    for one in refused[:3]:
        day.note("damage", f"a commit at {one.node} was answered {one.status}")
    missing = _missing(fleet, acknowledged)
    day.measure("acknowledged commits lost", missing, "0", holds=not missing)
    answered, wrong, failed = fleet.totals()
    for example in fleet.examples()[:5]:
        day.note("damage", example)
    day.measure("answers", answered, "more than 0", holds=answered > 0)
    day.measure("failed answers", failed, "0", holds=not failed)
    day.measure("wrong answers", wrong, "0", holds=not wrong)
    day.affected = "nobody" if not wrong + failed else f"{wrong + failed} answers"


def _while_down(load: Load, one: Lost) -> int:
    """Commits that living nodes acknowledged before the killed one was back."""
    return sum(
        tried.revision > 0 and one.killed_s < tried.began_s < one.back_s for tried in load.tried
    )


def _was_down(one: Tried, lost: Sequence[Lost]) -> bool:
    return any(
        each.node == one.node and each.killed_s <= one.at_s and one.began_s <= each.back_s
        for each in lost
    )


def _entries(fleet: Nodes) -> Iterator[dict[str, Any]]:
    path = "/v1/history?limit=500"
    while True:
        found = fleet.at(_living(fleet), "GET", path).body
        yield from found["entries"]
        if found["before"] is None:
            return
        path = f"/v1/history?limit=500&before={found['before']}"


def _moved_twice(fleet: Nodes) -> int:
    """Moves to the same stage and status of the same rollout, beyond the first."""
    node = _living(fleet)
    listed = fleet.at(node, "GET", "/v1/rollouts?limit=100").body["rollouts"]
    details = [fleet.at(node, "GET", f"/v1/rollouts/{one['id']}").body for one in listed]
    moves = Counter(
        (one["rollout"]["id"], move["stage"], move["status"])
        for one in details
        for move in one["moves"]
    )
    return sum(count - 1 for count in moves.values())


def _missing(fleet: Nodes, acknowledged: Counter[int]) -> int:
    """Revisions that were acknowledged and are not there, or were given twice."""
    there = {one["revision"] for one in _entries(fleet)}
    given_twice = sum(count - 1 for count in acknowledged.values())
    return len(acknowledged.keys() - there) + given_twice


DRILL = Drill(
    name="node-lost",
    title="Control-plane nodes lost, one after another",
    promise="0 wrong, 0 failed answers at edges and clients; commits, schedules and rollouts go on",
    rehearsal=(
        f"{len(NODES)} control-plane nodes on a real etcd; kill -9 of the one that leads, then of "
        f"the others, while changes are committed through all of them. Clients are behind edges, "
        f"behind the nodes themselves, and over HTTP; {len(SERVICES)} services."
    ),
    run=run,
)
