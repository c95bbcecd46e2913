"""`aws-2025`: a publisher is stopped in the middle of publishing, and goes on a day later."""

from __future__ import annotations

import contextlib
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import msgspec

from holdfast.adapters.signing import Keys
from holdfast.apps.stores import open_stores
from holdfast.core.errors import HoldfastError
from holdfast.core.model import JSON, Subject
from holdfast.engine.collecting import GRACE_S, Collecting
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.emptied import Consumer
from holdfast.gameday.etcd import EtcdCluster
from holdfast.gameday.fleet import ENVIRONMENT
from holdfast.gameday.naive import Ask
from holdfast.gameday.nodes import Nodes
from holdfast.gameday.processes import Answered, ask, until
from holdfast.gameday.proxy import Proxy, spelled
from holdfast.ports import Stores

ROUNDS: Final = 100
MEMBERS: Final = 10_500
"""Of a list that travels as a table: it lies in the store by itself, and can be collected."""
CAUGHT_S: Final = 20.0
ANSWER_S: Final = 60.0
SETTLED_S: Final = 30.0
UNPROTECTED_S: Final = 3.0
"""For what can't come any more once a journal is broken."""
USER: Final = {"targetingKey": "u1", "tenant": "contoso", "user": "member-1"}
"""In every list that is published."""
OLD, NEW = "node-a", "node-b"


class Round(msgspec.Struct, frozen=True):
    """One delayed publisher. `status`: what its caller was told; `old`: the list that it published,
    `new`: the one of who published meanwhile.
    """

    name: str
    status: int
    old: str
    new: str
    collected: int


class Scene:
    """Two nodes on one store; the line of the first to the store holds what it is told to hold."""

    def __init__(self, day: Day, stack: contextlib.ExitStack) -> None:
        self.day = day
        etcd = stack.enter_context(EtcdCluster(day.directory / "etcd"))
        (member,) = etcd.members
        self.line = stack.enter_context(Proxy(member.port))
        through = etcd.url_of([f"127.0.0.1:{self.line.port}"])
        self.fleet = stack.enter_context(Nodes(day, {OLD: through, NEW: etcd.url}))
        self.fleet.begin()
        self.stores: Stores = open_stores(etcd.url)
        stack.callback(self.stores.close)
        self.threads = stack.enter_context(ThreadPoolExecutor(1))
        self.days = 0
        self.offered: list[bool] = []
        """Whether an empty record was believed, each time that one was offered."""
        self.collecting = Collecting(
            journal=self.stores.journal,
            blobs=self.stores.blobs,
            proposals=self.stores.proposals,
            clock=lambda: self.days * (GRACE_S + 60.0),
        )
        self.consumer = Consumer(
            self.fleet.node_urls[NEW],
            Subject(ENVIRONMENT, "shop"),
            Keys.load(self.fleet.data_dir / "keys"),
            checks=day.protected,
        )
        stack.callback(self.consumer.close)

    def play(self, number: int) -> Round:
        """Stop a publisher before its write, or with its write on the way, in turn."""
        self.consumer.follow()
        self.offered.append(self.consumer.believes_empty(told=number % 4 < 2))
        name = f"delayed-{number:03d}"
        old, new = self._uploaded(f"old-{number}"), self._uploaded(f"new-{number}")
        under_way = number % 2 == 0
        trap = self.line.trap(*spelled(name if under_way else "/digests/"))
        told = self._publish_old(name, number, old)
        trap.wait(CAUGHT_S)
        self.fleet.stop(OLD)
        if not under_way:
            trap.let_go()
        collected = self._a_day_later(new)
        trap.let_go()
        self.fleet.cont(OLD)
        status = told.result(ANSWER_S).status
        settled_s = SETTLED_S if self.day.protected else UNPROTECTED_S
        until(lambda: self.fleet.head(OLD) == self.fleet.head(NEW), "both nodes alike", settled_s)
        return Round(name, status, old, new, collected)

    def _uploaded(self, name: str) -> str:
        members = "".join(f"member-{number}\n" for number in range(MEMBERS))
        found = self.fleet.at(NEW, "PUT", "/v1/blobs", f"{members}{name}\n".encode())
        digest: str = found.body["digest"]
        return digest

    def _publish_old(self, name: str, number: int, old: str) -> Future[Answered]:
        """The plan of the publisher that will be late, on the head as it is now."""
        body: JSON = {
            "edits": [self.fleet.counter_edit(-1 - number), _listed(old)],
            "reason": name,
            "base_revision": self.fleet.head(OLD)[0],
        }
        url = f"{self.fleet.node_urls[OLD]}/v1/commits"
        return self.threads.submit(ask, "POST", url, body, self.fleet.token, ANSWER_S)

    def _a_day_later(self, new: str) -> int:
        """A newer plan is published, and what nothing names is collected; how much that was."""
        nothing = self.collecting.deleted
        self._collect()
        self._commit([self.fleet.next_count(), _listed(new)])
        self.days += 1
        self._collect()
        self._commit([self.fleet.next_count()])
        self._collect()
        return self.collecting.deleted - nothing

    def _collect(self) -> None:
        self.collecting.look(lambda: 0)

    def _commit(self, edits: list[dict[str, JSON]]) -> None:
        body = {"edits": edits, "reason": "the newer plan"}
        until(lambda: self.fleet.at(NEW, "POST", "/v1/commits", body).status == 201, "it", ANSWER_S)


def run(day: Day) -> None:
    """`sample`: so many rounds."""
    rounds = day.sample or ROUNDS
    with contextlib.ExitStack() as stack:
        scene = Scene(day, stack)
        _expect(scene.fleet)
        edge = scene.fleet.edge_urls["edge-a"]
        scene.fleet.watch("sdk", "sdk", [edge])
        scene.fleet.watch("sdk-nodes", "sdk", list(scene.fleet.node_urls.values()))
        scene.fleet.watch("ofrep", "ofrep", [edge], interval_s=0.5)
        for name in scene.fleet.clients:
            scene.fleet.wait_answering(name)
        day.note("fault", f"{rounds} times: a publisher is stopped in the middle, a day passes")
        played = []
        try:
            for number in range(rounds):
                played.append(scene.play(number))
                _tell(day, played[-1])
        except HoldfastError as error:
            day.note("damage", f"after {len(played)} rounds: {error}")
        _judge(day, scene, played, rounds)
        _judge_clients(day, scene.fleet)
    day.root_cause = "a publisher that was away for a day, and does not know"
    day.stopped_by = (
        "an append compares the head; what is collected was named by nothing for a day, and the "
        "head has moved since; consumers give up no more than their shape budget at once"
    )


def _listed(digest: str) -> dict[str, JSON]:
    """The edit that puts a list in the place of the one that stands."""
    to: JSON = {"audience": {"by": "user", "members_digest": digest}}
    return {"type": "put-segment", "service": "shop", "segment": "members", "to": to}


def _expect(fleet: Nodes) -> None:
    """What stands is right, whoever publishes what; but for the counter, whose new values are."""
    url = f"{fleet.edge_urls['edge-a']}/{ENVIRONMENT}/shop/ofrep/v1/evaluate/flags"
    flags = ask("POST", url, {"context": USER}).body["flags"]
    asks: list[Any] = [Ask("shop", flag["key"], dict(USER)) for flag in flags]
    fleet.expect(asks, [flag.get("value") for flag in flags])


def _tell(day: Day, played: Round) -> None:
    refused = played.status in {409, 503}
    told = f"{played.name}: answered {played.status}, {played.collected} lists collected"
    if not refused:
        day.note("damage", told)
    elif played.name.endswith("0"):
        day.note("blocked", told)


def _judge(day: Day, scene: Scene, played: list[Round], rounds: int) -> None:
    by = Counter(one.status for one in played)
    day.note("step", f"of {len(played)}, {by[409]} were told 409, and {by[503]} to read the head")
    refused = by[409] + by[503]
    reasons, missing = _left(day, scene, played)
    stale = sum(reason.startswith("delayed") for reason in reasons)
    day.measure("stale writes refused", refused, str(rounds), holds=refused == rounds)
    day.measure("stale writes in the journal", stale, "0", holds=not stale and bool(reasons))
    collected = sum(one.collected for one in played)
    day.measure(
        "lists collected that nothing named", collected, f"{rounds}", holds=collected >= rounds
    )
    day.measure("lists collected that something names", missing, "0", holds=not missing)
    kept_out = scene.offered.count(False)
    day.measure(
        "empty records, signed as they should be, refused", kept_out, str(rounds),
        holds=kept_out == rounds,
    )  # fmt: skip


def _left(day: Day, scene: Scene, played: list[Round]) -> tuple[list[str], int]:
    """Why each entry of the journal was written, and how many lists that one names are gone."""
    try:
        entries = list(scene.stores.journal.read())
    except HoldfastError as error:
        day.note("damage", f"the journal can't be read: {error}")
        return [], 0
    reasons = [entry.reason for entry in entries]
    named = {one.new for one in played} | {one.old for one in played if one.name in reasons}
    return reasons, sum(scene.stores.blobs.get(digest) is None for digest in named)


def _judge_clients(day: Day, fleet: Nodes) -> None:
    answered, wrong, failed = fleet.totals()
    for example in fleet.examples()[:5]:
        day.note("damage", example)
    day.measure("wrong answers at clients", wrong, f"0 of {answered}", holds=not wrong)
    day.measure("failed answers at clients", failed, f"0 of {answered}", holds=not failed)
    day.affected = "nobody" if not wrong + failed else f"{wrong + failed} of {answered} answers"


DRILL = Drill(
    name="aws-2025",
    title="A delayed publisher applies an old plan",
    outage=(
        "AWS us-east-1, 19-20 October 2025: a process that applied DNS plans was delayed, and put "
        "an old plan over a newer one; clean-up then deleted that plan as long outdated, and left "
        "an empty record."
    ),
    rehearsal=(
        "a control-plane node is stopped with SIGSTOP in the middle of publishing, before its "
        "write has left it or while a proxy holds its bytes; another node publishes newer, a day "
        "passes for the collection of garbage, and what the first one was about to publish is "
        "collected; it goes on. Each time a consumer is also offered an empty record, signed as "
        "it should be. Without protection, an append does not compare the head."
    ),
    run=run,
)
