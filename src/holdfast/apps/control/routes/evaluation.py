"""Why an answer is what it is; flagd files in and out."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Response, get, post
from litestar.params import JSONBody, QueryParameter

from holdfast.apps.control import schemas
from holdfast.apps.control.door import needs, require
from holdfast.apps.control.openapi import READING, WRITING, errors
from holdfast.apps.control.routes.parameters import Caller, TheControl
from holdfast.core.evaluate import Explanation

_READ: dict[str, Any] = {"opt": needs("read"), "tags": ["evaluation"]}


@post(
    "/v1/explain",
    summary="Explain an answer",
    status_code=200,
    responses=errors(*READING, 408, 413),
    **_READ,
)
async def explain(
    control: TheControl, caller: Caller, data: JSONBody[schemas.ExplainBody]
) -> Explanation:
    """Which rule decided, each condition with its value, the bucket: on the newest snapshot."""
    require(caller, "read", data.environment, data.service)
    return await control.read(control.answers.explain, data)


@get(
    "/v1/export/flagd",
    summary="Export as a flagd file",
    responses=errors(*READING),
    media_type="application/json",
    **_READ,
)
async def export_flagd(
    control: TheControl,
    caller: Caller,
    service: Annotated[str, QueryParameter(description="The service to export.")],
    environment: Annotated[str, QueryParameter(description="The environment to export.")],
) -> Response[dict[str, Any]]:
    """The newest snapshot as flagd flag definitions: flagd answers what Holdfast answers."""
    require(caller, "read", environment, service)
    body = await control.read(control.export_flagd, service, environment)
    return Response(body, media_type="application/json")  # type: ignore[arg-type]  # encoded


@post(
    "/v1/import/flagd",
    summary="Import a flagd file",
    status_code=200,
    opt=needs("write"),
    responses=errors(*WRITING),
    tags=["evaluation"],
)
async def import_flagd(
    control: TheControl, caller: Caller, data: JSONBody[schemas.ImportBody]
) -> schemas.Imported:
    """Take a flagd file over into one environment of a service, as one change."""
    require(caller, "write", data.environment, data.service)
    return await control.write(control.desk.import_flagd, caller, data)


ROUTES = (explain, export_flagd, import_flagd)
