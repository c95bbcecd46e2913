"""Rollouts on behalf of callers: the journal's record and the watch in memory in one shape."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.apps.control import rollout_schemas as shapes
from holdfast.apps.control.schemas import Revised
from holdfast.core.access import Grant
from holdfast.core.errors import Forbidden
from holdfast.core.exposure import percent_at, rings_at
from holdfast.core.gate import interval
from holdfast.core.model import RolloutStatus
from holdfast.core.rollout import shown
from holdfast.core.state import State
from holdfast.engine.advance import Advance, Way
from holdfast.engine.fleet import Counts, Sides
from holdfast.engine.rollout_log import RolloutLog, Told
from holdfast.engine.watched import E_MAX, Watched


class RolloutDesk:
    """Reading is thread-safe; `go` belongs to the writer thread."""

    def __init__(self, log: RolloutLog, advance: Advance, state: Callable[[], State]) -> None:
        self._log = log
        self._advance = advance
        self._state = state

    def listed(  # noqa: PLR0913  # the parameters of a query
        self,
        caller: Grant,
        *,
        environment: str,
        service: str,
        status: RolloutStatus | None,
        cursor: str | None,
        limit: int,
    ) -> shapes.Rollouts:
        """One page of what the caller may see, newest first."""
        before = int(cursor) if cursor and cursor.isascii() and cursor.isdecimal() else None
        found = [
            told
            for told in self._log.all()
            if _sees(caller, told)
            and environment in ("", told.environment)
            and (not service or service in told.services)
            and status in (None, told.status)
            and (before is None or told.revision < before)
        ]
        page = found[:limit]
        more = str(page[-1].revision) if len(found) > limit else None
        return shapes.Rollouts(tuple(map(self._line, page)), more)

    def one(self, caller: Grant, rollout: str) -> shapes.RolloutDetail:
        """Raises `NotFound`, `Forbidden`."""
        told = self._log.one(rollout)
        if not _sees(caller, told):
            raise Forbidden(f"the token {caller.token} may not read what {rollout} is of")
        watched = self._advance.watched(rollout) or Watched()
        running = self._state().rollouts.get(rollout)
        verdict = watched.verdict
        return shapes.RolloutDetail(
            rollout=self._line(told),
            plan=told.plan,
            stages=tuple(_stage(told, number, watched) for number in range(len(told.plan.stages))),
            moves=tuple(told.moves),
            points=tuple(watched.points),
            refusals=tuple(watched.refusals),
            refusal_count=watched.refusal_count,
            crashes=watched.crashes,
            bakes_until_ms=(
                int(verdict.until_s * 1000) if running and verdict and verdict.until_s else None
            ),
            grounds=shown(running, watched.watch, watched.evidence()) if running else None,
        )

    def go(self, caller: Grant, rollout: str, way: Way, reason: str) -> Revised:
        """Move one by hand. Raises `NotFound`, `Invalid`, `Forbidden`."""
        told = self._log.one(rollout)
        if not _sees(caller, told):
            raise Forbidden(f"the token {caller.token} may not read what {rollout} is of")
        done = self._advance.go(rollout, way, caller.actor, caller, reason or "by hand")
        return Revised(done.revision, done.hash)

    def _line(self, told: Told) -> shapes.RolloutLine:
        watched = self._advance.watched(told.rollout) or Watched()
        last = told.moves[-1] if told.moves else None
        verdict = watched.verdict.reason if watched.verdict else ""
        return shapes.RolloutLine(
            id=told.rollout,
            environment=told.environment,
            status=told.status,
            stage=told.stage,
            stage_name=told.plan.stages[told.stage].name,
            stage_count=len(told.plan.stages),
            percent=0.0 if told.status == "rolled-back" else percent_at(told.plan, told.stage),
            rings=() if told.status == "rolled-back" else rings_at(told.plan, told.stage),
            services=told.services,
            items=told.items,
            revision=told.revision,
            started_ms=told.at_ms,
            moved_ms=last.at_ms if last else told.at_ms,
            actor=told.actor,
            reason=told.reason,
            verdict=last.reason if last and (told.status != "running" or not verdict) else verdict,
            errors_e=_errors_e(told, watched),
            halt_e=1 / told.plan.gates.alpha,
        )


def _sees(caller: Grant, told: Told) -> bool:
    """A rollout is seen by who may read a service of it, there."""
    if not told.services:
        return caller.allows("read", told.environment, "*")
    return any(caller.allows("read", told.environment, service) for service in told.services)


def _errors_e(told: Told, watched: Watched) -> float:
    """Of one that has ended as its last verdict tells: what is in memory may have begun anew."""
    evidence = told.moves[-1].evidence if told.ended else None
    if isinstance(evidence, dict) and isinstance(found := evidence.get("errors_e"), int | float):
        return min(float(found), E_MAX)
    return min(watched.watch.errors.value, E_MAX)


def _stage(told: Told, number: int, watched: Watched) -> shapes.RolloutStage:
    stage, sides = told.plan.stages[number], watched.stages.get(number)
    return shapes.RolloutStage(
        stage=number,
        name=stage.name,
        percent=percent_at(told.plan, number),
        rings=rings_at(told.plan, number),
        bake_s=stage.bake_s,
        exposed=_side(sides, exposed=True),
        baseline=_side(sides, exposed=False),
    )


def _side(sides: Sides | None, *, exposed: bool) -> shapes.RolloutSide | None:
    if sides is None:
        return None
    counts = sides.exposed if exposed else sides.baseline
    return shapes.RolloutSide(
        requests=counts.requests,
        errors=counts.errors,
        slow=counts.slow,
        units=counts.units,
        error_rate=_rate(counts.errors, counts),
        slow_rate=_rate(counts.slow, counts),
    )


def _rate(events: int, counts: Counts) -> tuple[float, float, float]:
    low, high = interval(events, counts.requests)
    return low, events / counts.requests if counts.requests else 0.0, high
