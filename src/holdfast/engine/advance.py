"""Rollouts go on, are held and are rolled back: `core.rollout.decide`, and the write door.

    look at the alarms and at what went by, decide on each rollout, commit what is decided

Nothing here writes but through `Publisher`. What can't be committed is tried again at a later tick,
on the head as it is by then. Of many nodes only the one that leads decides; the others keep the
sums of what they hear, so that whoever leads next has heard it already. Not thread-safe but for
reading: one thread ticks, and whoever moves a rollout by hand goes through the door, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from holdfast.core import limits
from holdfast.core.authority import Rights
from holdfast.core.errors import (
    Conflict,
    Fenced,
    Guarded,
    HoldfastError,
    Invalid,
    NotFound,
    Problem,
)
from holdfast.core.model import Change, Edit, MoveRollout, Subject
from holdfast.core.policy import policy_of
from holdfast.core.rollout import Verdict, decide, move, rolled_back, shown
from holdfast.core.state import RolloutState, State
from holdfast.engine.blame import blamed, rollouts_of
from holdfast.engine.fleet import Fleet
from holdfast.engine.judgement import AUTOMATION
from holdfast.engine.publish import Committed, Publisher
from holdfast.engine.views import View
from holdfast.engine.watched import Watched
from holdfast.ports import Clock

ATTEMPTS_MAX: Final = 8
"""Tries of one move while others write, too."""
REST_S: Final = 10.0
"""After a move that the door refused, until it is tried again."""
SETTLE_S: Final = 25.0
"""After a start, or another node's end, what was under way waits for consumers' counts to come
again: all of them report within so long."""
ENDED_MAX: Final = 100
"""Ended rollouts whose history is still in memory."""
AUTOMATON: Final = "holdfast"
"""Who moves rollouts by itself, in the journal."""

Way: TypeAlias = Literal["advance", "hold", "resume", "roll-back"]
Ask: TypeAlias = Callable[[str, str, str], "float | None"]
"""(rollout, URL, PromQL) -> the highest result known by now; must not wait."""


class Moved(msgspec.Struct, frozen=True):
    """A verdict that was committed, or `error` why it was not."""

    rollout: str
    verdict: Verdict
    revision: int = 0
    error: str = ""


class _Outdated(Exception):
    """Somebody moved the rollout since it was judged."""


def _unasked(_rollout: str, _url: str, _query: str) -> None:
    """No query is asked: gates with one wait."""


class Advance:
    """The automation of one node; `rights` are what it may do. `ask` answers the plans' queries.

    `fence()` gives the token of the lease to write under, and raises `Fenced` without one.
    """

    def __init__(  # noqa: PLR0913 - every part by name
        self,
        *,
        view: View,
        publisher: Publisher,
        fleet: Fleet,
        clock: Clock,
        rights: Rights,
        ask: Ask = _unasked,
        fence: Callable[[], int] = lambda: 0,
    ) -> None:
        self._view = view
        self._publisher = publisher
        self._fleet = fleet
        self._clock = clock
        self._rights = rights
        self._ask = ask
        self._fence = fence
        self._started_s = clock()
        self._watched: dict[str, Watched] = {}
        self.failures = 0
        """Verdicts that the door refused."""

    def lead(self) -> None:
        """This node leads from now on: others may have heard what it did not, so it waits."""
        self._started_s = self._clock()

    @property
    def settled(self) -> bool:
        """Whether all consumers had time to report since this node started, or began to lead."""
        return self._clock() >= self._started_s + SETTLE_S

    def tick(self, *, leads: bool = True) -> list[Moved]:
        """Look at every rollout once; what was decided and is not to wait.

        A node that does not lead takes in what consumers told, and decides nothing.
        """
        state = self._view.state
        self._take_alarms(state)
        moved = []
        for name in list(state.rollouts):
            decided = self._look(name, leads=leads)
            if decided is not None:
                moved.append(decided)
        self._forget(self._view.state.rollouts)
        return moved

    def due_s(self) -> float | None:
        """When the next stage will have baked, in unix seconds; none when nothing bakes."""
        running = self._view.state.rollouts
        waits = [
            each.verdict.until_s
            for name, each in self._watched.items()
            if name in running and each.verdict is not None and each.verdict.until_s
        ]
        return min(waits, default=None)

    def watched(self, rollout: str) -> Watched | None:
        """What is in memory of a rollout that runs, or has ended not long ago."""
        return self._watched.get(rollout)

    def go(self, rollout: str, way: Way, actor: str, rights: Rights, reason: str) -> Committed:
        """Move a rollout by hand. Raises `NotFound` for one that does not run, `Invalid` for a move
        that it can't make, `Guarded` for whoever began it and would not wait where the policy asks
        for approvals, `Forbidden`, and as `Publisher.commit` does."""

        def edits(state: State) -> tuple[Edit, ...]:
            running = state.rollouts.get(rollout)
            if running is None:
                raise NotFound(f"no rollout {rollout[:128]!r} is under way")
            if way == "advance" and policy_of(state, running.environment).approvals:
                _refuse_the_same(rollout, running, actor)
            grounds = self._grounds(rollout, running)
            if way == "roll-back":
                return rolled_back(state, rollout, reason, grounds)
            return (_by_hand(rollout, running, way, reason, grounds),)

        return self._commit(edits, actor, rights, f"{way} {rollout}: {reason}")

    def _take_alarms(self, state: State) -> None:
        for alarm in self._fleet.alarms():
            for name in blamed(alarm, state):
                self._of(name).blame(alarm)

    def _look(self, name: str, *, leads: bool) -> Moved | None:
        running, now_s = self._view.state.rollouts.get(name), self._clock()
        if running is None:
            return None
        watched = self._of(name)
        watched.look(self._fleet.look(name), now_s)
        if not leads:
            watched.note(running.stage, now_s)
            return None
        try:
            fence = self._fence()  # before anything is decided: a later one is of another turn
        except Fenced:
            return None
        # Silence before this node listened is nobody's: what was told then, another one heard.
        heard_s = self._heard_s(name, running)
        watched.heard_s = max(heard_s or 0.0, self._started_s)
        gates = running.plan.gates
        watched.query = self._ask(name, gates.query_url, gates.query) if gates.query else None
        watched.note(running.stage, now_s)
        verdict = decide(running, watched.watch, watched.evidence(), now_s)
        watched.verdict = verdict
        if verdict.action == "wait" or now_s < watched.rest_until_s:
            return None
        if verdict.action == "advance" and self._is_settling(running, heard_s):
            return None
        return self._perform(name, running, watched, verdict, fence)

    def _perform(
        self, name: str, judged: RolloutState, watched: Watched, verdict: Verdict, fence: int
    ) -> Moved | None:
        """None when somebody moved it meanwhile: the verdict was on what stood before."""

        def edits(state: State) -> tuple[Edit, ...]:
            running = state.rollouts.get(name)
            if running is None:
                raise _Outdated
            if running.moved != judged.moved and verdict.action != "roll-back":
                raise _Outdated
            if verdict.action == "roll-back":
                return rolled_back(state, name, verdict.reason, verdict.evidence)
            return (move(name, verdict),)

        reason = f"{verdict.action} {name}: {verdict.reason}"
        try:
            committed = self._commit(edits, AUTOMATON, self._rights, reason, fence)
        except _Outdated:
            return None
        except HoldfastError as error:
            self.failures += 1
            watched.rest_until_s = self._clock() + REST_S
            return Moved(name, verdict, error=str(error))
        return Moved(name, verdict, committed.revision)

    def _commit(
        self,
        edits: Callable[[State], tuple[Edit, ...]],
        actor: str,
        rights: Rights,
        reason: str,
        fence: int = 0,
    ) -> Committed:
        """Commit what `edits` gives on exactly the head that it is worked out on."""
        mandate = msgspec.structs.replace(AUTOMATION, fence=fence)
        for attempt in range(ATTEMPTS_MAX):
            self._view.catch_up()
            state = self._view.state
            change = Change(edits(state), reason[: limits.TEXT_CHARS_MAX], state.head.revision)
            try:
                return self._publisher.commit(change, actor, rights, mandate)
            except Conflict:
                if attempt + 1 == ATTEMPTS_MAX:
                    raise
        raise AssertionError  # the last attempt returns or raises

    def _heard_s(self, name: str, running: RolloutState) -> float | None:
        """When an exposed consumer last told anything.

        Where consumers count outcomes, exposed requests are the sign of life; where none does, a
        report of one that has the rollout's snapshot.
        """
        if not running.plan.gates.silence_s:
            return None
        if self._fleet.counts_outcomes(name):
            return self._fleet.exposed_s(name)
        state, reached = self._view.state, {}
        newest: float | None = None
        for each in self._fleet.consumers(running.environment):
            if each.report.revision < running.started:
                continue
            subject: Subject = each.subject
            if subject not in reached:
                reached[subject] = name in rollouts_of(state, subject)
            if reached[subject]:
                newest = max(newest or 0.0, each.seen_s)
        return newest

    def _is_settling(self, running: RolloutState, heard_s: float | None) -> bool:
        """Whether those who told others may not have told this node yet."""
        if running.moved_ms / 1000 >= self._started_s:
            return False
        unheard = running.plan.gates.silence_s > 0 and heard_s is None
        return unheard or not self.settled

    def _grounds(self, name: str, running: RolloutState) -> Mapping[str, object]:
        watched = self._of(name)
        return shown(running, watched.watch, watched.evidence())

    def _of(self, name: str) -> Watched:
        return self._watched.setdefault(name, Watched())

    def _forget(self, running: Iterable[str]) -> None:
        kept = frozenset(running)
        self._fleet.forget(kept)
        ended = [name for name in self._watched if name not in kept]
        for name in ended[: max(0, len(ended) - ENDED_MAX)]:
            del self._watched[name]


def _refuse_the_same(name: str, running: RolloutState, actor: str) -> None:
    """Nobody hurries a rollout of their own: with one token alone it would be everywhere at once.

    A person is known by the name before the token's id (`core.access.Grant.actor`).
    """
    if _person(running.actor) == _person(actor):
        message = f"{running.actor} began {name}, and can't be the one who does not wait for it"
        hint = (
            "let somebody else advance it; in an emergency roll it back and commit the change with "
            "--break-glass REASON"
        )
        raise Guarded([Problem(code="approval-needed", message=message, hint=hint)])


def _person(actor: str) -> str:
    return actor.rpartition(" (")[0] or actor


def _by_hand(
    name: str, running: RolloutState, way: Way, reason: str, grounds: Mapping[str, object]
) -> MoveRollout:
    """Raises `Invalid` for a move that the rollout's status does not allow."""
    stage, last = running.stage, running.stage + 1 == len(running.plan.stages)
    match way, running.status:
        case "hold", "running":
            return MoveRollout(name, stage, "held", reason, grounds)
        case "resume", "held":
            return MoveRollout(name, stage, "running", reason, grounds)
        case "advance", _ if last:
            return MoveRollout(name, stage, "completed", reason, grounds)
        case "advance", _:
            return MoveRollout(name, stage + 1, "running", reason, grounds)
    message = f"{name} is {running.status}: there is nothing to {way}"
    hint = "holdfast rollout show tells how it stands"
    raise Invalid([Problem(code="rollout-status", message=message, hint=hint)])
