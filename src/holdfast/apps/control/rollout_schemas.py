"""The shapes of rollouts in the control API's bodies.

Rates come as [lower bound, rate, upper bound]; the bounds hold at every look at once with 95 %.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from holdfast.apps.control.schemas import Reason
from holdfast.core.model import RolloutStatus
from holdfast.core.policies import Plan
from holdfast.engine.rollout_log import Move
from holdfast.engine.watched import Point


class RolloutLine(Struct, frozen=True):
    """One rollout. `stage` counts from 0; `percent` and `rings` are who is exposed by now.

    `verdict` is what was decided last, and why; `errors_e` against `halt_e` is the error gate: it
    rolls back when it reaches that.
    """

    id: str
    environment: str
    status: RolloutStatus
    stage: int
    stage_name: str
    stage_count: int
    percent: float
    rings: tuple[str, ...]
    services: tuple[str, ...]
    items: tuple[str, ...]
    revision: int
    started_ms: int
    moved_ms: int
    actor: str
    reason: str
    verdict: str
    errors_e: float
    halt_e: float


class Rollouts(Struct, frozen=True):
    """Newest first; `cursor` continues, null at the end."""

    rollouts: tuple[RolloutLine, ...]
    cursor: str | None


class RolloutSide(Struct, frozen=True):
    """How requests went on one side of a stage, as far as consumers told since the last start."""

    requests: int
    errors: int
    slow: int
    units: int
    error_rate: tuple[float, float, float]
    slow_rate: tuple[float, float, float]


class RolloutStage(Struct, frozen=True):
    """One stage of the plan; the sides are null where nothing was told of it."""

    stage: int
    name: str
    percent: float
    rings: tuple[str, ...]
    bake_s: float
    exposed: RolloutSide | None
    baseline: RolloutSide | None


class RolloutDetail(Struct, frozen=True):
    """One rollout with all that is known of it.

    `moves` are the verdicts as the journal has them, each with its evidence; `points` how it came
    about, look by look, since this control plane started. `grounds` is the evidence of now, null
    when it has ended or nothing was told yet.
    """

    rollout: RolloutLine
    plan: Plan
    stages: tuple[RolloutStage, ...]
    moves: tuple[Move, ...]
    points: tuple[Point, ...]
    refusals: tuple[str, ...]
    refusal_count: int
    crashes: int
    bakes_until_ms: int | None
    grounds: Annotated[Any, Meta(description="As in `evidence` of a move.")]


class RolloutBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Why it is moved by hand."""

    reason: Reason = ""
