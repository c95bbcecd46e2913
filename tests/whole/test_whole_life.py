"""Whole lives of an installation: propose, approve, edit, commit, roll out, report, crash, restart,
roll back, pin. After every step what Holdfast promises holds, and at the end of every history the
journal tells all of it again.

Which promise is looked at where (DESIGN.md, section 1; 7 and 8 are about load, and nothing here
sheds or herds):

1  one write door               `check_journal`: no entry but by the door's own rules
2  the same bytes               `check_bytes`: built again from nothing
3  no unexplained change        `World.check_activation`
4  last proven good             `check_activation`, `check_answers`
5  nothing everywhere at once   `check_rings`
6  reads wait for no writes     `check_answers`, the center being down or not
9  everything is bounded        `check_bounds`
10 the past can't be rewritten  `check_journal`, `check_witnesses`
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.whole.world import (
    BREAKS_REQUESTS,
    KILLS,
    PEOPLE,
    SHOP,
    USERS,
    Consumer,
    World,
    grant,
    setting,
)

from holdfast.core import lineage
from holdfast.core.errors import HoldfastError
from holdfast.core.history import fold, verify_link
from holdfast.core.lineage import Standing
from holdfast.core.model import (
    GENESIS,
    Approve,
    BreakGlass,
    Change,
    DeleteSetting,
    Edit,
    Entry,
    MoveRollout,
    PutSetting,
    StartRollout,
)
from holdfast.core.policies import Policy
from holdfast.core.state import EMPTY
from holdfast.sdk import follower as following

HISTORIES = 1_000
STEPS = 20
KEYS = tuple(f"key-{number}" for number in range(4))

people = st.sampled_from(PEOPLE)
consumers = st.integers(0, 3)
values = st.sampled_from((2, 3, 5, 8, BREAKS_REQUESTS, KILLS))


@st.composite
def edits(draw: Callable[..., Any]) -> list[Edit]:
    """Values, splits and kill switches, mostly; a deletion now and then."""
    made: list[Edit] = []
    for key in draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=2, unique=True)):
        if draw(st.integers(0, 5)) == 0:
            made.append(DeleteSetting("shop", key))
            continue
        percent = draw(st.sampled_from((100, 100, 30)))
        enabled = draw(st.integers(0, 5)) > 0
        made.append(
            PutSetting("shop", key, setting(draw(values), percent=percent, enabled=enabled))
        )
    return made


class WholeLife(RuleBasedStateMachine):
    """The rules are what people, programs and machines do; each may fail, none may do harm.

    `seen` counts what came about in all histories: a promise that was never put to the test holds
    for nothing.
    """

    seen: ClassVar[Counter[str]] = Counter()

    @initialize(number=st.integers(0, 2**32))
    def begin(self, number: int) -> None:
        self.world = World(number)
        self.waiting: list[str] = []
        self.authors: defaultdict[str, set[str]] = defaultdict(set)  # of changes, by digest

    # People

    @rule(person=people, edits=edits())
    def propose(self, person: str, edits: list[Edit]) -> None:
        self._try(lambda: self.waiting.append(self._propose(person, edits)))

    def _propose(self, person: str, edits: list[Edit]) -> str:
        change = Change(tuple(edits), "proposed", self.world.head)
        name = self.world.up().waiting.propose(change, grant(person)).proposal
        return self._written(name)

    def _written(self, name: str) -> str:
        kept = self.world.up().waiting.get(name)
        self.authors[kept.digest].add(kept.author)
        return name

    @precondition(lambda self: self.waiting)
    @rule(person=people, edits=edits(), data=st.data())
    def edit(self, person: str, edits: list[Edit], data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.waiting))
        change = Change(tuple(edits), "edited", self.world.head)

        def revise() -> None:
            self.world.up().waiting.revise(name, change, grant(person))
            self._written(name)

        self._try(revise)

    @precondition(lambda self: self.waiting)
    @rule(person=people, data=st.data())
    def approve(self, person: str, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.waiting))

        def vouch() -> None:
            waiting = self.world.up().waiting
            waiting.approve(name, grant(person), waiting.get(name).digest)

        self._try(vouch)

    @precondition(lambda self: self.waiting)
    @rule(person=people, data=st.data())
    def commit(self, person: str, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.waiting))
        self._guarded(lambda: self.world.up().waiting.commit(name, grant(person)))

    @rule(pair=st.permutations(PEOPLE), edits=edits())
    def agree_and_commit(self, pair: list[str], edits: list[Edit]) -> None:
        """The way that most changes go."""

        def whole() -> None:
            waiting = self.world.up().waiting
            name = self._propose(pair[0], edits)
            waiting.approve(name, grant(pair[1]), waiting.get(name).digest)
            waiting.commit(name, grant(pair[0]))

        self._guarded(whole)

    @rule(person=people, edits=edits())
    def commit_alone(self, person: str, edits: list[Edit]) -> None:
        assert not self.world.commit(person, edits), "nobody changes production alone"

    @rule(person=people, edits=edits())
    def break_the_glass(self, person: str, edits: list[Edit]) -> None:
        self._guarded(lambda: self.world.commit(person, edits, "it burns"))

    @rule(person=people, way=st.sampled_from(("advance", "hold", "resume", "roll-back")))
    def move_by_hand(self, person: str, way: Any) -> None:
        center = self.world.center
        for name in list(center.view.state.rollouts) if center else ():
            self._try(partial(self._move, name, way, person))

    def _move(self, name: str, way: Any, person: str) -> None:
        self.world.up().advance.go(name, way, person, grant(person), "by hand")

    # Programs

    @rule(number=consumers)
    def live(self, number: int) -> None:
        """Poll, serve, report: what a consumer does all day."""
        consumer = self.world.consumers[number]
        consumer.poll()
        consumer.serve()
        self._report(consumer)

    @rule(number=consumers)
    def crash(self, number: int) -> None:
        self.world.consumers[number].die()

    @rule(number=consumers, clean=st.booleans())
    def restart(self, number: int, clean: bool) -> None:
        consumer = self.world.consumers[number]
        if clean:
            consumer.stop()
        if consumer.process is None:
            consumer.start()

    @rule(number=consumers)
    def pin(self, number: int) -> None:
        process, generation = self.world.consumers[number].process, self._generation(number)
        if process and generation:
            process.pin(SHOP, generation.revision)

    @rule(number=consumers)
    def unpin(self, number: int) -> None:
        process = self.world.consumers[number].process
        if process:
            process.unpin(SHOP)

    # Machines and time

    @rule()
    def center_crashes(self) -> None:
        self.world.center = None

    @rule()
    def center_starts(self) -> None:
        self.world.restart()

    @rule(seconds=st.sampled_from((1, 5, 35, 65)))
    def time_goes_by(self, seconds: int) -> None:
        self.world.now_s += seconds
        self._guarded(self._tick)

    @rule()
    def a_minute_of_everything(self) -> None:
        for _ in range(2):
            for consumer in self.world.consumers:
                if consumer.process is None:
                    consumer.start()
                consumer.poll()
                consumer.serve()
                self._report(consumer)
            self.time_goes_by(35)

    # What holds

    @invariant()
    def check_answers(self) -> None:
        """4 and 6: who ever had settings answers every one of them, whoever is down."""
        for consumer in self.world.consumers if hasattr(self, "world") else ():
            if consumer.process is None:
                continue
            assert consumer.generation is not None
            for key in consumer.generation.evaluator.keys():  # noqa: SIM118
                consumer.answer(key, consumer.context(USERS[0]))

    @invariant()
    def check_bounds(self) -> None:
        """9: what grows with reports and changes stops somewhere."""
        if hasattr(self, "world") and self.world.center is not None:
            center = self.world.center
            assert len(center.view.state.rollouts) <= len(KEYS)
            assert len(center.fleet.consumers()) <= sum(c.starts for c in self.world.consumers)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        entries = tuple(self.world.journal.read(0))
        check_journal(entries, self.world.guarded_since, self.authors)
        check_bytes(self.world, entries)
        check_witnesses(self.world, entries)
        self.seen.update(happened(self.world, entries))

    def _tick(self) -> None:
        self.world.up().advance.tick()

    def _generation(self, number: int) -> Any:
        return self.world.consumers[number].generation

    def _report(self, consumer: Consumer) -> None:
        report = consumer.report()
        if report is not None and self.world.center is not None:
            self.world.center.fleet.take((report,))

    def _try(self, work: Callable[[], Any]) -> None:
        """Do it, or be refused; then nothing was written."""
        before = self.world.head
        try:
            work()
        except HoldfastError:
            assert self.world.head == before

    def _guarded(self, work: Callable[[], Any]) -> None:
        """5: whatever it was, only those who are exposed are answered otherwise by it."""
        center = self.world.center
        old = center.shelf.newest(SHOP) if center else None
        before = self.world.head
        self._try(work)
        if old is not None and self.world.head > before:
            check_rings(self.world, old, before)


def happened(world: World, entries: tuple[Entry, ...]) -> Iterator[str]:
    """What there was in one history, by names of its own."""
    for entry in entries:
        for edit in entry.edits:
            yield type(edit).__name__
            if isinstance(edit, MoveRollout):
                yield f"{edit.status} by {'the gate' if 'fail' in edit.reason else 'another way'}"
    for consumer in world.consumers:
        yield from (one.code for one in consumer.refusals)
        if consumer.process is not None:
            yield consumer.process.status().subjects[SHOP].trust


def check_rings(world: World, old: Any, before: int) -> None:
    """5: right after a change went in, those outside of the first ring are answered as before."""
    entries = tuple(world.journal.read(before))
    if any(isinstance(edit, MoveRollout) for entry in entries for edit in entry.edits):
        return
    newest = world.up().shelf.newest(SHOP)
    assert newest is not None
    was, now = world.evaluator(old.body), world.evaluator(newest.body)
    for ring in ("general", "ring1", "nowhere"):
        for user in USERS:
            context = {"targetingKey": user, "ring": ring}
            for key in was.keys():  # noqa: SIM118
                assert now.evaluate(key, context).value == was.evaluate(key, context).value


def check_journal(
    entries: tuple[Entry, ...], guarded_since: int, authors: Mapping[str, set[str]]
) -> None:
    """1 and 10: an unbroken chain, and every change of settings was vouched for or said why not."""
    head, state = GENESIS, EMPTY
    for entry in entries:
        verify_link(head, entry)
        kinds = {type(edit) for edit in entry.edits}
        if entry.revision > guarded_since and kinds & {PutSetting, DeleteSetting}:
            moved = [edit for edit in entry.edits if isinstance(edit, MoveRollout)]
            approved = any(
                authors[edit.digest] - {edit.actor}
                for edit in entry.edits
                if isinstance(edit, Approve)
            )
            assert moved or BreakGlass in kinds or approved, entry
            assert moved or StartRollout in kinds, entry
        state = fold(state, entry)
        head = state.head


def check_bytes(world: World, entries: tuple[Entry, ...]) -> None:
    """2: from nothing, entry by entry, come the very bytes that consumers were given."""
    standing, digests = Standing(), set()
    for entry in entries:
        standing = lineage.step(standing, entry).standing
        digests.add(standing.lineages[SHOP].digest if SHOP in standing.lineages else "")
    for consumer in world.consumers:
        if consumer.generation is not None:
            assert consumer.generation.digest in digests


def check_witnesses(world: World, entries: tuple[Entry, ...]) -> None:
    """10: every head that a consumer saw is in the chain."""
    hashes = {entry.revision: entry.hash for entry in entries}
    for consumer in world.consumers:
        for revision, head in consumer.heads.items():
            assert hashes[revision] == head


@pytest.fixture(autouse=True)
def chance_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world draws the follower's chance from its own seed."""
    monkeypatch.setattr(following, "draw", following.draw)


@pytest.mark.timeout(900)
def test_the_invariants_hold_in_a_thousand_histories() -> None:
    run_state_machine_as_test(
        seed(20220720)(WholeLife),
        settings=settings(
            max_examples=HISTORIES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
    wanted = {"Approve", "BreakGlass", "DeleteSetting", "StartRollout"}
    wanted |= {"completed by another way", "held by another way", "rolled-back by the gate"}
    wanted |= {"crash-streak", "probation", "proven", "pinned"}
    assert wanted <= WholeLife.seen.keys()


def test_without_stages_a_change_reaches_everybody_at_once() -> None:
    """The protection off: what `check_rings` would find, were changes not staged."""
    world = World(1, Policy(approvals=0))
    old = world.up().shelf.newest(SHOP)
    before = world.head
    assert world.commit("ann", [PutSetting("shop", KEYS[0], setting(BREAKS_REQUESTS))])
    with pytest.raises(AssertionError):
        check_rings(world, old, before)
