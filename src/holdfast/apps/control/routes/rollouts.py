"""Rollouts: which are under way, how each stands and came about, and moving one by hand."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import get, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from holdfast.apps.control import rollout_schemas as shapes
from holdfast.apps.control import schemas
from holdfast.apps.control.door import needs
from holdfast.apps.control.openapi import READING, WRITING, errors
from holdfast.apps.control.routes.parameters import Caller, Cursor, Limit, TheControl
from holdfast.core.limits import NAME_CHARS_MAX
from holdfast.core.model import RolloutStatus

RolloutId = Annotated[
    str,
    PathParameter(max_length=NAME_CHARS_MAX, description="`<environment>.<revision>`."),
]
_READ: dict[str, Any] = {"opt": needs("read"), "responses": errors(*READING), "tags": ["rollouts"]}
_WRITE: dict[str, Any] = {
    "opt": needs("write"),
    "responses": errors(*WRITING),
    "status_code": 200,
    "tags": ["rollouts"],
}


@get("/v1/rollouts", summary="List rollouts", **_READ)
async def list_rollouts(  # noqa: PLR0913  # the parameters of a query
    *,
    control: TheControl,
    caller: Caller,
    environment: Annotated[str, QueryParameter(description="Only those of this one.")] = "",
    service: Annotated[str, QueryParameter(description="Only those that touch this one.")] = "",
    status: Annotated[
        RolloutStatus | None, QueryParameter(description="Only those that stand so.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = schemas.PAGE,
) -> shapes.Rollouts:
    """Rollouts under way and those that ended, newest first."""
    return await control.read(
        control.rollouts.listed,
        caller,
        environment=environment,
        service=service,
        status=status,
        cursor=cursor,
        limit=limit,
    )


@get("/v1/rollouts/{rollout:str}", summary="Get a rollout", **_READ)
async def get_rollout(
    control: TheControl, caller: Caller, rollout: RolloutId
) -> shapes.RolloutDetail:
    """Its stages with error rates on both sides, its gates, and every verdict with its evidence."""
    return await control.read(control.rollouts.one, caller, rollout)


@post("/v1/rollouts/{rollout:str}/advance", summary="Advance a rollout", **_WRITE)
async def advance_rollout(
    control: TheControl, caller: Caller, rollout: RolloutId, data: JSONBody[shapes.RolloutBody]
) -> schemas.Revised:
    """Go on to the next stage before this one has baked; from the last one, complete it."""
    return await control.write(control.rollouts.go, caller, rollout, "advance", data.reason)


@post("/v1/rollouts/{rollout:str}/hold", summary="Hold a rollout", **_WRITE)
async def hold_rollout(
    control: TheControl, caller: Caller, rollout: RolloutId, data: JSONBody[shapes.RolloutBody]
) -> schemas.Revised:
    """Stay at this stage until it is resumed. A held rollout is still rolled back by its gates."""
    return await control.write(control.rollouts.go, caller, rollout, "hold", data.reason)


@post("/v1/rollouts/{rollout:str}/resume", summary="Resume a rollout", **_WRITE)
async def resume_rollout(
    control: TheControl, caller: Caller, rollout: RolloutId, data: JSONBody[shapes.RolloutBody]
) -> schemas.Revised:
    """Go on from a hold; the stage bakes anew."""
    return await control.write(control.rollouts.go, caller, rollout, "resume", data.reason)


@post("/v1/rollouts/{rollout:str}/roll-back", summary="Roll a rollout back", **_WRITE)
async def roll_back_rollout(
    control: TheControl, caller: Caller, rollout: RolloutId, data: JSONBody[shapes.RolloutBody]
) -> schemas.Revised:
    """Put back what its change found, for everybody, in one entry."""
    return await control.write(control.rollouts.go, caller, rollout, "roll-back", data.reason)


ROUTES = (
    list_rollouts,
    get_rollout,
    advance_rollout,
    hold_rollout,
    resume_rollout,
    roll_back_rollout,
)
