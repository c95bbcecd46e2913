"""Health, readiness, metrics, the API's own document, and uploads of long member lists."""

from __future__ import annotations

from typing import Any, cast

from litestar import Request, Response, get, put

from holdfast.apps.control import schemas
from holdfast.apps.control.door import PUBLIC, needs
from holdfast.apps.control.openapi import WRITING, errors
from holdfast.apps.control.refusals import as_litestar
from holdfast.apps.control.routes.parameters import TheControl
from holdfast.apps.observe import exposition
from holdfast.core import limits

_OPEN: dict[str, Any] = {"opt": PUBLIC, "tags": ["operations"]}


@get("/healthz", summary="Is the process alive", sync_to_thread=False, **_OPEN)
def healthz() -> schemas.Health:
    """200 as long as the process answers."""
    return schemas.Health("ok")


@get(
    "/readyz",
    summary="May it get traffic",
    sync_to_thread=False,
    responses=errors(503),
    **_OPEN,
)
def readyz(control: TheControl) -> Response[schemas.Health]:
    """200 once the journal is read and every snapshot is built; 503 before, and while draining.

    Nodes that follow are as ready as the one that leads: each reads, writes and serves.

    503 with the code `not-reproducible` when this build makes other bytes than were published: it
    says of which snapshots, and which settings differ.
    """
    if not control.ready:
        return cast("Response[schemas.Health]", as_litestar(control.unready()))
    return Response(schemas.Health("ready", "leader" if control.leader.leads else "follower"))


@get(
    "/metrics",
    summary="Prometheus metrics",
    media_type="text/plain",
    responses=errors(429, 503),
    **_OPEN,
)
async def metrics(control: TheControl) -> Response[str]:
    """In the text format of Prometheus. Names of settings and tokens are no labels."""
    body, media_type = await control.read(exposition, control.metrics.registry)
    return Response(body.decode(), media_type=media_type)


@put(
    "/v1/blobs",
    summary="Upload a member list",
    status_code=201,
    opt=needs("write"),
    request_max_body_size=limits.SEGMENT_BYTES_MAX,
    responses=errors(*WRITING),
    tags=["changes"],
)
async def put_blob(request: Request[Any, Any, Any], control: TheControl) -> schemas.Blob:
    """A segment's members, one a line, as the raw body in UTF-8; refer to the digest in a change.

    Lines are sorted and freed of duplicates on the way in: the same members have one digest.
    """
    body = b"".join([piece async for piece in request.stream()])
    return await control.write(control.desk.upload, body)


ROUTES = (healthz, readyz, metrics, put_blob)
