"""What to do next with a rollout: pure, from its plan, what was seen, and the time.

    watch = observed(watch, counts)                    after each look at the outcomes
    verdict = decide(rollout, watch, evidence, now_s)  advance, hold, roll back or wait

Roll back: a refusal of the rollout's snapshots, a crash streak, the error or latency gate, a query
over its bound. Hold, for a person to look: exposed consumers went silent. Advance: the stage has
baked for as long as its plan says. A held rollout is only ever rolled back by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, Final, Literal, TypeAlias

import msgspec

from holdfast.core import limits
from holdfast.core.gate import EProcess, interval, observe
from holdfast.core.model import JSON, RolloutStatus
from holdfast.core.state import RolloutState

Action: TypeAlias = Literal["advance", "hold", "roll-back", "wait"]
E_SHOWN_MAX: Final = 1e12
"""E-values above this are shown as this: JSON has no infinity."""


class Counts(msgspec.Struct, frozen=True, omit_defaults=True):
    """How requests went on one side since the last look."""

    requests: int = 0
    errors: int = 0
    slow: int = 0


class Watch(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that a rollout's outcomes told so far; JSON-able. `looks` counts those with requests.

    `exposed` and `other` are sums over its whole life; the tests go on from stage to stage.
    """

    errors: EProcess = EProcess()
    slow: EProcess = EProcess()
    exposed: Counts = Counts()
    other: Counts = Counts()
    looks: int = 0


class Evidence(msgspec.Struct, frozen=True, omit_defaults=True):
    """What else was seen, since the rollout began.

    - `refusals`: why consumers refused snapshots that the rollout is in, one line each.
    - `crashes`: crash streaks of consumers that had activated one.
    - `heard_s`: when an exposed consumer last told anything, in unix seconds; none for never.
    - `query`: the highest result of the plan's query; none when it could not be asked.
    """

    refusals: tuple[str, ...] = ()
    crashes: int = 0
    heard_s: float | None = None
    query: float | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What to do, why, and on what grounds. `stage` and `status` are what the rollout gets by it.

    `until_s`: to wait for, in unix seconds, when nothing else happens before.
    """

    action: Action
    reason: str
    stage: int
    status: RolloutStatus
    evidence: JSON
    until_s: float = 0.0


def observed(watch: Watch, exposed: Counts, other: Counts) -> Watch:
    """The watch after one more look; the exposed share is that of the look's own requests."""
    requests = exposed.requests + other.requests
    if requests <= 0:
        return watch
    rho = exposed.requests / requests
    return Watch(
        errors=observe(watch.errors, exposed.errors, other.errors, rho),
        slow=observe(watch.slow, exposed.slow, other.slow, rho),
        exposed=_sum(watch.exposed, exposed),
        other=_sum(watch.other, other),
        looks=watch.looks + 1,
    )


def decide(rollout: RolloutState, watch: Watch, evidence: Evidence, now_s: float) -> Verdict:
    """The verdict on a rollout that runs or is held."""
    grounds, stage = shown(rollout, watch, evidence), rollout.stage
    harm = next(filter(None, (check(rollout, watch, evidence) for check in _HARMS)), "")
    if harm:
        return Verdict("roll-back", harm, stage, "rolled-back", grounds)
    if rollout.status == "held":
        return Verdict("wait", "it is held until a person moves it", stage, "held", grounds)
    silent = _silence(rollout, evidence, now_s)
    if silent:
        return Verdict("hold", silent, stage, "held", grounds)
    until_s = rollout.moved_ms / 1000 + rollout.plan.stages[stage].bake_s
    if now_s < until_s:
        return Verdict("wait", "the stage has not baked yet", stage, "running", grounds, until_s)
    if rollout.plan.gates.query and evidence.query is None:
        return Verdict("wait", "the query has no answer", stage, "running", grounds)
    return _onward(rollout, grounds)


def _onward(rollout: RolloutState, grounds: JSON) -> Verdict:
    stages, stage = rollout.plan.stages, rollout.stage
    name = stages[stage].name or str(stage)
    if stage + 1 == len(stages):
        return Verdict("advance", f"{name}, the last stage, is over", stage, "completed", grounds)
    return Verdict("advance", f"stage {name} is over", stage + 1, "running", grounds)


def shown(rollout: RolloutState, watch: Watch, evidence: Evidence) -> dict[str, Any]:
    """The grounds of a verdict as JSON: rates with intervals valid at every look, and E-values."""
    alpha = rollout.plan.gates.alpha
    found: dict[str, Any] = {
        "looks": watch.looks,
        "exposed": _rates(watch.exposed, rollout),
        "baseline": _rates(watch.other, rollout),
        "errors_e": _e(watch.errors),
        "halt_e": round(1 / alpha, 1),
    }
    if rollout.plan.gates.objective_ms:
        found["slow_e"] = _e(watch.slow)
    if evidence.refusals:
        found["refusals"] = list(evidence.refusals)
    if evidence.crashes:
        found["crashes"] = evidence.crashes
    if evidence.query is not None and isfinite(evidence.query):
        found["query"] = evidence.query
    return found


def _sum(one: Counts, other: Counts) -> Counts:
    """Within what an entry of the journal can hold: a verdict that can't be written is none."""
    most = limits.SAFE_INTEGER_MAX
    return Counts(
        min(most, one.requests + other.requests),
        min(most, one.errors + other.errors),
        min(most, one.slow + other.slow),
    )


def _e(test: EProcess) -> float:
    return float(f"{min(test.value, E_SHOWN_MAX):.4g}")


def _rates(counts: Counts, rollout: RolloutState) -> dict[str, Any]:
    shown: dict[str, Any] = {"requests": counts.requests, "errors": counts.errors}
    shown["error_rate"] = _bounds(counts.errors, counts.requests)
    if rollout.plan.gates.objective_ms:
        shown["slow"] = counts.slow
        shown["slow_rate"] = _bounds(counts.slow, counts.requests)
    return shown


def _bounds(events: int, requests: int) -> list[float]:
    """Lower bound, rate, upper bound."""
    low, high = interval(events, requests)
    rate = events / requests if requests else 0.0
    return [float(f"{one:.4g}") for one in (low, rate, high)]


def _refused(rollout: RolloutState, watch: Watch, evidence: Evidence) -> str:  # noqa: ARG001
    if not evidence.refusals:
        return ""
    more = len(evidence.refusals) - 1
    return f"refused by consumers: {evidence.refusals[0]}" + (f" and {more} more" if more else "")


def _crashed(rollout: RolloutState, watch: Watch, evidence: Evidence) -> str:  # noqa: ARG001
    if not evidence.crashes:
        return ""
    return f"{evidence.crashes} consumer{'s' * (evidence.crashes > 1)} crashed with it"


def _failing(rollout: RolloutState, watch: Watch, evidence: Evidence) -> str:  # noqa: ARG001
    return _gate("fail", watch.errors, rollout.plan.gates.alpha)


def _slow(rollout: RolloutState, watch: Watch, evidence: Evidence) -> str:  # noqa: ARG001
    gates = rollout.plan.gates
    return _gate("are slow", watch.slow, gates.alpha) if gates.objective_ms else ""


def _gate(what: str, test: EProcess, alpha: float) -> str:
    """The highest E counts: that of a look which came between two decisions halts all the same."""
    if test.peak < 1 / alpha:
        return ""
    return f"exposed requests {what} more often (E reached {min(test.peak, E_SHOWN_MAX):.4g})"


def _over(rollout: RolloutState, watch: Watch, evidence: Evidence) -> str:  # noqa: ARG001
    gates = rollout.plan.gates
    if not gates.query or evidence.query is None or evidence.query <= gates.query_max:
        return ""
    return f"the query gives {evidence.query:g}, above {gates.query_max:g}"


def _silence(rollout: RolloutState, evidence: Evidence, now_s: float) -> str:
    silence_s = rollout.plan.gates.silence_s
    since_s = max(rollout.moved_ms / 1000, evidence.heard_s or 0.0)
    if not silence_s or now_s - since_s < silence_s:
        return ""
    return f"no exposed consumer told anything for {now_s - since_s:.0f} s"


_HARMS: Final[tuple[Callable[[RolloutState, Watch, Evidence], str], ...]] = (
    _refused,
    _crashed,
    _failing,
    _slow,
    _over,
)
