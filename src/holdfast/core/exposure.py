"""Who is exposed to a change that is on its way: one condition, which every flagd obeys.

    {"or": [{"in": [{"var": "ring"}, ["ring0", "ring1"]]},
            {"and": [{"!==": [{"var": "tenant"}, null]},
                     {"===": [{"fractional": [{"cat": ["production.12/", {"var": "tenant"}]},
                                              ["in", 10000], ["out", 990000]]}, "in"]}]}]}

Exposure only grows from stage to stage: rings add up, and a share is the units whose hash is below
a limit that rises. The seed is the rollout's own, so that it is not always the same units that go
first.
"""

from __future__ import annotations

from typing import Any, Final

from holdfast.core.lower import Lowered
from holdfast.core.model import JSON, TARGETING_KEY
from holdfast.core.policies import PERCENT_PARTS, Plan
from holdfast.core.state import RolloutState
from holdfast.core.wire import canonical

PARTS: Final = 100 * PERCENT_PARTS
"""The weights of every share add up to this."""
EVERYBODY: Final[JSON] = {"==": [1, 1]}
NOBODY: Final[JSON] = {"==": [1, 0]}
PREFIX: Final = "rollout:"
"""What the names of exposure conditions among `$evaluators` begin with; no segment's does."""


def exposure(rollout: str, state: RolloutState) -> Lowered:
    """The exposure condition of the rollout's stage, as snapshots carry it."""
    return Lowered(
        name=PREFIX + rollout,
        revision=state.moved,
        body=canonical(condition(rollout, state.plan, state.stage)),
    )


def condition(rollout: str, plan: Plan, stage: int) -> JSON:
    """JsonLogic that is true for contexts that the rollout exposes at this stage."""
    percent, rings = percent_at(plan, stage), rings_at(plan, stage)
    if percent >= 100:
        return EVERYBODY
    ways: list[JSON] = []
    if rings:
        ways.append({"in": [{"var": plan.ring}, list(rings)]})
    weight = round(percent * PERCENT_PARTS)
    if weight:
        ways.append(_share(rollout, plan.unit, weight))
    if not ways:
        return NOBODY
    return ways[0] if len(ways) == 1 else {"or": ways}


def percent_at(plan: Plan, stage: int) -> float:
    """The share of units at this stage: the largest so far."""
    return max(one.percent for one in plan.stages[: stage + 1])


def rings_at(plan: Plan, stage: int) -> tuple[str, ...]:
    """The rings exposed at this stage, in the order in which they came."""
    return tuple(dict.fromkeys(ring for one in plan.stages[: stage + 1] for ring in one.rings))


def facts_of(state: RolloutState, settings: list[str]) -> dict[str, Any]:
    """What snapshots say of a rollout; `settings` are the keys that have two sides in it."""
    return {
        "stage": state.stage,
        "status": state.status,
        "unit": state.plan.unit,
        "objective_ms": state.plan.gates.objective_ms,
        "percent": percent_at(state.plan, state.stage),
        "rings": list(rings_at(state.plan, state.stage)),
        "ring": state.plan.ring,
        "settings": settings,
    }


def _share(rollout: str, unit: str, weight: int) -> JSON:
    """Who lacks the unit is in no share. Arms are texts: some flagds take no other."""
    there: JSON = (
        {"!!": [{"var": unit}]} if unit == TARGETING_KEY else {"!==": [{"var": unit}, None]}
    )
    key = {"cat": [f"{rollout}/", {"var": unit}]}
    arms = [["in", weight], ["out", PARTS - weight]]
    return {"and": [there, {"===": [{"fractional": [key, *arms]}, "in"]}]}
