"""A simulated rollout: the control plane looks at what exposed requests tell, and moves it.

Who is exposed has activated a snapshot of the rollout and is of the stage's share of the units.
Requests and errors are drawn as `core.power` draws them; `core.rollout` observes and decides.
"""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.core.model import RolloutStatus
from holdfast.core.policies import Gates, Plan, Stage
from holdfast.core.power import Traffic
from holdfast.core.rollout import Counts, Evidence, Watch, decide, observed
from holdfast.core.state import Before, RolloutState
from holdfast.engine.watched import LOOK_S
from holdfast.gameday.simulation.parameters import Rollout
from holdfast.gameday.simulation.world import World

MS: Final = 1_000


class Moved(msgspec.Struct, frozen=True):
    """A move of a rollout: when, how many are exposed from then on, why, and by which commit."""

    at_s: float
    percent: float
    status: str
    why: str
    commit: int | None


class Rolling:
    """One rollout, from its first stage to its end; `moves` are all of them."""

    def __init__(self, world: World, asked: Rollout) -> None:
        self._world = world
        self._asked = asked
        self._subject = world.publication.subjects[asked.service]
        stages = tuple(Stage(percent=one.percent, bake_s=one.bake_s) for one in asked.stages)
        plan = Plan(stages=stages, gates=Gates(alpha=asked.alpha))
        revision = self._publish(f"{self._subject.service} to {stages[0].percent:g} %")
        self._state = RolloutState("production", plan, Before(), revision, revision, self._now_ms())
        self._watch = Watch()
        self._percents: dict[int, float] = {revision: stages[0].percent}
        self.exposed_requests = self.exposed_errors = 0
        self.moves: list[Moved] = []
        self._note(stages[0].percent, "running", "it begins")
        world.clock.after(LOOK_S, self._look)

    @property
    def service(self) -> str:
        return self._subject.service

    def _now_ms(self) -> int:
        return int(self._world.clock.now_s * MS)

    def _publish(self, what: str) -> int:
        """The revision of the subject's next snapshot; what it was when nobody could publish."""
        self._world.commit([self._subject], what)
        return self._world.publication.newest(self._subject).standing.revision

    def _exposed_share(self) -> float:
        """Of all clients of the service: those whose snapshot exposes them."""
        held = self._world.held[self._subject]
        clients = sum(held.values())
        exposed, percent = 0.0, 0.0
        for revision in sorted(held):
            percent = self._percents.get(revision, percent)
            exposed += held[revision] * percent / 100
        return exposed / clients if clients else 0.0

    def _look(self) -> None:
        asked, world = self._asked, self._world
        clients = sum(world.held[self._subject].values())
        requests = round(clients * asked.requests_per_s * LOOK_S)
        traffic = Traffic(asked.error_rate, asked.ratio, self._exposed_share(), requests)
        (exposed, bad), (other, failed) = traffic.look(world.draw)
        self.exposed_requests += exposed
        self.exposed_errors += bad
        self._watch = observed(self._watch, Counts(exposed, bad), Counts(other, failed))
        evidence = Evidence(heard_s=world.clock.now_s)
        verdict = decide(self._state, self._watch, evidence, world.clock.now_s)
        if verdict.action in {"advance", "roll-back"}:
            self._move(verdict.stage, verdict.status, verdict.reason)
        if self._state.status == "running":
            world.clock.after(LOOK_S, self._look)

    def _move(self, stage: int, status: RolloutStatus, why: str) -> None:
        percent = {"completed": 100.0, "rolled-back": 0.0}.get(
            status, self._asked.stages[stage].percent
        )
        revision = self._publish(f"{self._subject.service} to {percent:g} %, {status}")
        self._percents[revision] = percent
        self._state = msgspec.structs.replace(
            self._state,
            stage=stage,
            status=status,
            moved=revision,
            moved_ms=self._now_ms(),
        )
        self._note(percent, status, why)

    def _note(self, percent: float, status: str, why: str) -> None:
        newest = self._world.publication.newest(self._subject)
        commit = self._world.commit_of(newest)
        self.moves.append(Moved(self._world.clock.now_s, percent, status, why, commit))
