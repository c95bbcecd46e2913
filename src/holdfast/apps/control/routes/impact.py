"""What a change would do, before it does: who it moves; and what lint says of what stands."""

from __future__ import annotations

from typing import Annotated

from litestar import get, post
from litestar.params import JSONBody, QueryParameter

from holdfast.apps.control import impact_schemas as shapes
from holdfast.apps.control.door import needs
from holdfast.apps.control.openapi import READING, WRITING, errors
from holdfast.apps.control.routes.parameters import Caller, TheControl
from holdfast.core.impact import Impact


@post(
    "/v1/changes/impact",
    summary="Preview who a change moves",
    status_code=200,
    opt=needs("write"),
    responses=errors(*WRITING),
    tags=["changes"],
)
async def preview_impact(
    control: TheControl, caller: Caller, data: JSONBody[shapes.ImpactBody]
) -> Impact:
    """Old against new over contexts really seen: shares and counts of requests, tenants and users.

    Writes nothing. In environments with rollouts it is the effect of the whole change. Users are
    told apart by hashed keys: what splits by `targetingKey` moves the same share of them, and not
    the same ones.
    """
    sketch = await control.write(control.outlook.sketch, caller, data)
    return await control.read(control.outlook.impact, caller, sketch, data)


@get(
    "/v1/lint",
    summary="Find what is probably not meant",
    opt=needs("read"),
    responses=errors(*READING),
    tags=["services"],
)
async def lint(
    control: TheControl,
    caller: Caller,
    environment: Annotated[str, QueryParameter(description="As it is used there.")],
    service: Annotated[str, QueryParameter(description="Only this one.")] = "",
) -> shapes.Linted:
    """Dead rules, variants nobody gets, attributes that no sampled request carried, and the like.

    Of services that the token may read.
    """
    return await control.read(control.outlook.lint, caller, control.state(), environment, service)


ROUTES = (preview_impact, lint)
