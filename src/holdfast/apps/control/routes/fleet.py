"""What consumers tell, and who runs what."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, get, post
from litestar.params import JSONBody, QueryParameter

from holdfast.adapters.http_relay import HOP
from holdfast.apps.control import fleet_schemas as shapes
from holdfast.apps.control import schemas
from holdfast.apps.control.door import needs
from holdfast.apps.control.openapi import READING, errors
from holdfast.apps.control.routes.parameters import Caller, Limit, TheControl
from holdfast.apps.http import token_text
from holdfast.core.limits import NAME_CHARS_MAX
from holdfast.core.reports import BODY_BYTES_MAX, ReportBody


@post(
    "/v1/reports",
    summary="Report as a consumer",
    status_code=202,
    opt=needs("read"),
    responses=errors(*READING, 408, 413),
    request_max_body_size=BODY_BYTES_MAX,
    tags=["fleet"],
)
async def take_reports(
    request: Request[Any, Any, Any],
    control: TheControl,
    caller: Caller,
    data: JSONBody[ReportBody],
) -> shapes.Taken:
    """What clients and edges have, refused and counted. Counters are cumulative.

    Reports of what the token may not read are passed over. Any node takes them; the one that leads
    hears of them.
    """
    taken = await control.read(control.telemetry.take, caller, data.reports)
    if HOP not in request.headers:
        token = token_text(request.scope["headers"]) or ""
        control.relaying.owe(token, taken)  # not what this token may not tell: it would be refused
    return shapes.Taken(len(taken))


@get(
    "/v1/fleet",
    summary="List consumers",
    opt=needs("read"),
    responses=errors(*READING),
    tags=["fleet"],
)
async def list_fleet(  # noqa: PLR0913  # the parameters of a query
    *,
    control: TheControl,
    caller: Caller,
    environment: Annotated[str, QueryParameter(description="Only those of this one.")] = "",
    service: Annotated[str, QueryParameter(description="Only those of this one.")] = "",
    cursor: Annotated[
        str | None,
        QueryParameter(
            max_length=4 * NAME_CHARS_MAX,
            description="Where the page before ended: its `cursor`.",
        ),
    ] = None,
    limit: Limit = schemas.PAGE,
) -> shapes.FleetBody:
    """Who runs what, how old it is, and who refused what and why."""
    return await control.read(control.telemetry.fleet, caller, environment, service, cursor, limit)


@get(
    "/v1/running",
    summary="List running versions",
    opt=needs("write"),
    responses=errors(*READING),
    tags=["fleet"],
)
async def list_running(control: TheControl, caller: Caller) -> shapes.RunningBody:
    """Which revisions of the services that you may write are run, and by whom.

    Changes of schemas are checked against them. Nodes ask the one that leads, who hears of all.
    """
    return await control.read(control.running_versions, caller)


ROUTES = (take_reports, list_fleet, list_running)
