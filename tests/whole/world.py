"""One installation in one process, on a simulated clock: door, automation, consumers, all real.

Nothing here is a twin but the stores and the wire: journal, proposals, blobs, caches and upstream
are in memory, and survive the crashes of whoever uses them. Time moves only when a test moves it.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from tests.end_to_end.honest import Keys

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.memory import MemoryBlobs, MemoryJournal, MemoryProposals
from holdfast.adapters.memory_cache import MemoryCache
from holdfast.core.access import Grant
from holdfast.core.checks import examine
from holdfast.core.contracts import World as Known
from holdfast.core.conversation import Command, Hinted, Report, Tick
from holdfast.core.delta import make_delta
from holdfast.core.errors import Conflict, HoldfastError, Unavailable
from holdfast.core.evaluate import Evaluator
from holdfast.core.follow import HINT_GAP_S
from holdfast.core.model import (
    Change,
    Edit,
    Environment,
    PutEnvironment,
    PutRoot,
    PutService,
    PutSetting,
    PutToken,
    Rule,
    Scope,
    Service,
    Setting,
    Split,
    Subject,
    Targeting,
    Token,
)
from holdfast.core.policies import Gates, Plan, Policy, Stage
from holdfast.core.reports import ConsumerReport, Outcomes, Refusal, Witness
from holdfast.core.snapshot import decode
from holdfast.core.trust import Generation
from holdfast.engine.advance import Advance
from holdfast.engine.fleet import Fleet
from holdfast.engine.judgement import Mandate
from holdfast.engine.publish import Publisher
from holdfast.engine.shelf import Shelf
from holdfast.engine.views import View
from holdfast.engine.waiting import Waiting
from holdfast.ports import Fetched, Source
from holdfast.sdk import follower as following
from holdfast.sdk.follower import Follower, Following
from holdfast.sdk.outcomes import Ledger
from holdfast.sdk.trials import Host

SHOP: Final = Subject("production", "shop")
PEOPLE: Final = ("ann", "bob", "eve")
USERS: Final = tuple(f"user-{number}" for number in range(12))
RINGS: Final = ("ring0", "ring1", "general", "general")
FIRST_RING: Final = "ring0"
BREAKS_REQUESTS: Final = 13
"""A valid value on which the consumer's requests fail."""
KILLS: Final = 666
"""A valid value that ends the consumer's process."""
SCOPES: Final = (Scope(("admin",)), Scope(("write",)), Scope(("read",)))
PLAN: Final = Plan(
    stages=(
        Stage("first", rings=(FIRST_RING,), bake_s=30),
        Stage("tenth", rings=("ring1",), percent=10, bake_s=30),
        Stage("all", percent=100),
    ),
    gates=Gates(alpha=0.001),
)
FAST: Final = Plan(
    stages=(Stage("first", rings=(FIRST_RING,), bake_s=2), Stage("all", percent=100))
)
POLICY: Final = Policy(approvals=1, rollout=PLAN, fast=FAST)


def setting(value: int, *, percent: int = 100, enabled: bool = True) -> Setting:
    """An integer that is `value` for a share of users, and 1 for all others."""
    rules = (Rule(split=Split({"new": percent, "old": 100 - percent})),) if percent < 100 else ()
    default = "old" if percent < 100 else "new"
    targeting = Targeting(default, enabled, rules)
    return Setting("integer", {"new": value, "old": 1}, {"production": targeting})


def grant(person: str) -> Grant:
    return Grant(person, person, SCOPES)


class Center:
    """One control-plane node without its HTTP face. Crashing loses all of it but the stores."""

    def __init__(self, keys: Keys, clock: Any, stores: tuple[Any, ...]) -> None:
        self.journal, self.blobs, self.proposals, ids = stores
        self.view = View(self.journal, clock, checkpoint_entries=8)
        self.shelf = Shelf(self.view, self.blobs, keys.sign, make_delta)
        self.publisher = Publisher(
            view=self.view,
            journal=self.journal,
            blobs=self.blobs,
            clock=clock,
            validate=partial(examine, world=Known(tables=lambda _: None, now_s=clock)),
        )
        self.waiting = Waiting(
            publisher=self.publisher,
            view=self.view,
            journal=self.journal,
            proposals=self.proposals,
            clock=clock,
            new_id=lambda: f"p{next(ids)}",
        )
        self.fleet = Fleet(clock, lambda: self.view.state.rollouts)
        self.advance = Advance(
            view=self.view,
            publisher=self.publisher,
            fleet=self.fleet,
            clock=clock,
            rights=grant("holdfast"),
        )


class Cache(MemoryCache):
    """A cache that outlives processes: it counts who died on what, as the one on disk does."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: Counter[str] = Counter()
        self.died: Counter[str] = Counter()

    def enter(self, name: str) -> None:
        self.inside[name] += 1

    def leave(self, name: str) -> None:
        self.inside.pop(name, None)

    def deaths(self, name: str) -> int:
        return self.died[name]

    def forgive(self, prefix: str) -> None:
        for name in [name for name in self.died if name.startswith(prefix)]:
            del self.died[name]

    def kill(self) -> None:
        """The process that used it is gone without a word."""
        self.died.update(self.inside)
        self.inside.clear()


class ByHand(Follower):
    """The follower's own loop, turned by the test and not by a thread."""

    def _run_thread(self, waiting: list[Command]) -> None:
        self.turn(waiting)

    def turn(self, commands: Sequence[Command]) -> None:
        """Perform commands and all that follows from them, until nothing is under way."""
        answers: deque[Any] = deque()
        self._perform(commands, answers)
        while answers:
            event = answers.popleft()
            self._perform(self._machine.step(event, self._clock()), answers)
            self._look(answers, None)
        self._look(answers, None)
        while answers:
            self._perform(self._machine.step(answers.popleft(), self._clock()), answers)

    def hear(self, event: Any) -> None:
        self.turn(self._machine.step(event, self._clock()))


class Consumer:
    """One program that reads settings: its process may die, its disk stays."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.ring = RINGS[number % len(RINGS)]
        self.cache = Cache()
        self.starts = self.sequence = 0
        self.process: ByHand | None = None
        self.bodies: dict[str, Generation] = {}
        self.was: Generation | None = None
        self.allowed_back = False

    def start(self) -> None:
        self.starts += 1
        self.sequence = 0
        self.was = None
        self.refusals: list[Refusal] = []
        self.heads: dict[int, str] = {}
        self.ledger = Ledger(self.world.clock)
        self.process = ByHand(
            Following(
                sources=lambda: (Upstream(self.world),),
                cache=self.cache,
                verify=verify,
                subjects=(SHOP,),
                root=self.world.keys.roots,
                on_activate=self._activated,
                on_report=self._refused,
                streams=False,
                host=Host(probation_s=60),
            ),
            self.world.clock,
        )
        self.process.start()

    def poll(self) -> None:
        """Hear that something changed, and ask."""
        process, newest = self.process, self.world.newest_digest()
        if process is None:
            return
        process.hear(Hinted({SHOP: newest}))
        self.world.now_s += 2 * HINT_GAP_S
        process.hear(Tick())

    def die(self) -> None:
        """kill -9."""
        self.process = None
        self.cache.kill()

    def stop(self) -> None:
        """A clean end: nothing is held against what it ran on."""
        if self.process is not None:
            self.process.close()
            self.process = None

    @property
    def generation(self) -> Generation | None:
        return self.process.generation(SHOP) if self.process else None

    def context(self, user: str) -> dict[str, Any]:
        return {"targetingKey": f"{user}-{self.number}", "ring": self.ring}

    def serve(self) -> None:
        """One request of each user; a value that kills ends the process, one that breaks fails."""
        for user in USERS:
            if self.generation is None:
                return
            context = self.context(user)
            values = [self.answer(key, context) for key in self.generation.evaluator.keys()]  # noqa: SIM118
            if KILLS in values:
                self.die()
                return
            self.ledger.count(context, ok=BREAKS_REQUESTS not in values)

    def answer(self, key: str, context: Mapping[str, Any]) -> Any:
        assert self.generation is not None
        outcome = self.generation.evaluator.evaluate(key, context)
        assert outcome.error_code is None, (key, outcome)
        return outcome.value

    def report(self) -> ConsumerReport | None:
        generation, process = self.generation, self.process
        if generation is None or process is None:
            return None
        self.sequence += 1
        mine = process.status().subjects[SHOP]
        if mine.freshness is not None:
            self.heads[mine.freshness.journal_revision] = mine.freshness.journal_head
        return ConsumerReport(
            consumer=f"c{self.number}.{self.starts}",
            service=SHOP.service,
            environment=SHOP.environment,
            kind="sdk",
            build="test",
            sequence=self.sequence,
            at_ms=int(self.world.now_s * 1000),
            ring=self.ring,
            revision=generation.revision,
            digest=generation.digest,
            trust=mine.trust,
            crashes=mine.crashes,
            refusals=tuple(self.refusals[-16:]),
            outcomes=tuple(
                Outcomes(rollout, stage, exposed, side.requests, side.errors, side.slow, side.units)
                for rollout, stage, exposed, side in self.ledger.rows()
            ),
            heads=tuple(Witness(*each) for each in list(self.heads.items())[-8:]),
        )

    def _activated(self, _: Subject, generation: Generation) -> None:
        self.ledger.replace(generation.snapshot)
        self.world.check_activation(self, self.was, generation)
        self.was = generation

    def _refused(self, report: Report) -> None:
        at_ms = int(self.world.now_s * 1000)
        self.allowed_back = report.code in {"crash-streak", "health"}
        self.refusals.append(
            Refusal(report.revision, report.digest, report.code, report.message, at_ms, report.key)
        )


class Upstream(Source):
    """The center's shelf as a consumer's upstream; nobody is there while the center is down."""

    name = "center"

    def __init__(self, world: World) -> None:
        self._world = world

    def within(self, total_s: float) -> None: ...

    def catalogue(self) -> Mapping[Subject, str]:
        return {SHOP: self._world.newest_digest()}

    def snapshot(self, subject: Subject, have: str | None) -> Fetched:
        center = self._world.up()
        center.view.catch_up()  # as its thread does all the time
        shelf = center.shelf
        newest = shelf.newest(subject)
        assert newest is not None
        freshness = shelf.freshness(subject)
        if newest.digest == have:
            return Fetched(None, freshness)
        delta = shelf.delta(subject, have) if have else None
        return Fetched(delta or newest.bundle, freshness)

    def segment(self, subject: Subject, digest: str) -> bytes:
        return self._world.up().shelf.segment(subject, digest) or b""

    def hints(self) -> Any:
        raise Unavailable("no streams here")

    def close(self) -> None: ...


class World:
    """All of it, and what must hold of it at every moment."""

    def __init__(self, seed: int, policy: Policy = POLICY) -> None:
        self.now_s = 1_700_000_000.0
        self.keys = Keys()
        self.chance = random.Random(seed)
        following.draw = self.chance.random
        self.journal = MemoryJournal()
        self.stores = (self.journal, MemoryBlobs(), MemoryProposals(), itertools.count(1))
        self.center: Center | None = Center(self.keys, self.clock, self.stores)
        first: list[Edit] = [PutRoot(1, self.keys.chain[0])]
        first += [PutToken(name, Token(name, "0" * 64, SCOPES)) for name in PEOPLE]
        first += [PutEnvironment("production", Environment()), PutService("shop", Service())]
        first += self._settings()
        self.publish(first)
        self.publish([PutEnvironment("production", Environment(policy=policy))])
        self.guarded_since = self.head
        self.consumers = [Consumer(self, number) for number in range(len(RINGS))]
        for consumer in self.consumers:
            consumer.start()
            consumer.poll()

    def clock(self) -> float:
        return self.now_s

    def up(self) -> Center:
        if self.center is None:
            raise Unavailable("the center is down")
        return self.center

    def restart(self) -> None:
        self.center = Center(self.keys, self.clock, self.stores)

    def publish(self, edits: Sequence[Edit]) -> None:
        self.up().publisher.commit(Change(tuple(edits), "first"), "ann", grant("ann"))

    @property
    def head(self) -> int:
        return self.journal.head().revision

    def newest_digest(self) -> str:
        newest = self.center.shelf.newest(SHOP) if self.center else None
        return newest.digest if newest else ""

    def evaluator(self, body: bytes) -> Evaluator:
        snapshot = decode(body)
        return Evaluator(
            snapshot.flags,
            evaluators=snapshot.evaluators,
            bucketing=snapshot.holdfast.semantics.bucketing,
            now_s=self.clock,
        )

    def commit(self, person: str, edits: Sequence[Edit], break_glass: str = "") -> bool:
        """Whether the door let the change through."""
        mandate = Mandate(break_glass=break_glass)
        try:
            before = self.head
            change = Change(tuple(edits), "a change")
            self.up().publisher.commit(change, person, grant(person), mandate)
        except (HoldfastError, Conflict):
            assert self.head == before
            return False
        return self.head > before

    def _settings(self) -> list[Edit]:
        return [PutSetting("shop", f"key-{number}", setting(10 + number)) for number in range(3)]

    def check_activation(self, consumer: Consumer, old: Generation | None, new: Generation) -> None:
        """Invariants 3 and 4, at the moment at which a generation begins to answer."""
        if old is None:
            return
        pinned = consumer.process is not None and bool(consumer.process._trials.pin(SHOP))
        if new.revision < old.revision:
            assert consumer.allowed_back or pinned, (old.revision, new.revision)
            consumer.allowed_back = False
            return
        for key in set(old.evaluator.keys()) & set(new.evaluator.keys()):
            if new.snapshot.setting(key).revision > old.revision:
                continue
            for user in USERS:
                context = consumer.context(user)
                was, now = (one.evaluator.evaluate(key, context).value for one in (old, new))
                assert was == now, f"{key} moved from {was} to {now}, and no entry says why"
