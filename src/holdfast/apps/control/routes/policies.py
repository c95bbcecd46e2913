"""What environments ask of changes, and where that was skipped."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import get, post, put
from litestar.params import JSONBody, QueryParameter

from holdfast.apps.control import policy_schemas, proposal_schemas, schemas
from holdfast.apps.control.door import needs, require
from holdfast.apps.control.openapi import READING, WRITING, errors
from holdfast.apps.control.routes.parameters import Caller, EnvironmentName, TheControl
from holdfast.core import limits
from holdfast.core.access import EVERY
from holdfast.core.errors import Forbidden

RECENT_S: Final = 86_400
"""Broken glass is told for so long, unless asked otherwise."""

_READ: dict[str, Any] = {
    "opt": needs("read"),
    "responses": errors(*READING),
    "tags": ["environments"],
}
_WRITE: dict[str, Any] = {
    "opt": needs("admin"),
    "responses": errors(*WRITING),
    "tags": ["environments"],
}


@get(
    "/v1/environments/{environment:str}/policy",
    summary="Get a policy",
    sync_to_thread=False,
    **_READ,
)
def get_policy(
    control: TheControl, caller: Caller, environment: EnvironmentName
) -> policy_schemas.PolicyBody:
    """What an environment asks of every change: approvals, caps, freezes, rollout."""
    if not any(scope.environment in (EVERY, environment) for scope in caller.scopes):
        raise Forbidden(f"the token {caller.token} may not read anything in {environment}")
    return control.environments.policy(environment)


@put("/v1/environments/{environment:str}/policy", summary="Set a policy", **_WRITE)
async def put_policy(
    control: TheControl,
    caller: Caller,
    environment: EnvironmentName,
    data: JSONBody[policy_schemas.PutPolicy],
) -> schemas.Revised:
    """One commit, judged by the policy that stands before it."""
    require(caller, "admin", environment, EVERY)
    done = await control.write(control.environments.put_policy, caller, environment, data)
    return schemas.Revised(done.revision, done.hash)


@post(
    "/v1/environments/{environment:str}/policy/changes",
    summary="Propose a policy",
    status_code=201,
    **_WRITE,
)
async def propose_policy(
    control: TheControl,
    caller: Caller,
    environment: EnvironmentName,
    data: JSONBody[policy_schemas.PutPolicy],
) -> proposal_schemas.Proposed:
    """Keep it for approval by others, as the policy that stands asks for."""
    require(caller, "admin", environment, EVERY)
    return await control.write(control.environments.propose_policy, caller, environment, data)


@get("/v1/break-glass", summary="List broken glass", **_READ)
async def list_break_glass(
    control: TheControl,
    since_s: Annotated[
        int | None,
        QueryParameter(
            ge=0,
            le=limits.SAFE_INTEGER_MAX,
            description="From this time on, in unix seconds; else the last 24 hours.",
        ),
    ] = None,
) -> policy_schemas.BrokenGlasses:
    """Commits that skipped approval, freeze or waiting, and why; newest first."""
    from_s = control.clock() - RECENT_S if since_s is None else since_s
    return await control.read(control.environments.broken, from_s)


ROUTES = (get_policy, put_policy, propose_policy, list_break_glass)
