"""Services, settings, segments and environments as their authors wrote them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

from litestar import Request, Response, get, put
from litestar.params import JSONBody, QueryParameter

from holdfast.apps.control import schemas
from holdfast.apps.control.door import needs, require, require_somewhere
from holdfast.apps.control.openapi import READING, WRITING, errors
from holdfast.apps.control.plane import Control
from holdfast.apps.control.reading import Query, setting_line
from holdfast.apps.control.routes.parameters import (
    Caller,
    Cursor,
    EnvironmentName,
    Limit,
    SegmentName,
    ServiceName,
    SettingKey,
    TheControl,
)
from holdfast.core.access import EVERY
from holdfast.core.errors import NotFound
from holdfast.core.model import Segment, SettingType
from holdfast.core.state import ServiceState, State

T = TypeVar("T")
YAML = "application/yaml"

_READ: dict[str, Any] = {"opt": needs("read"), "responses": errors(*READING), "tags": ["services"]}


@get("/v1/services", summary="List services", sync_to_thread=False, **_READ)
def list_services(
    control: TheControl,
    caller: Caller,
    cursor: Cursor = None,
    limit: Limit = schemas.PAGE,
) -> schemas.Services:
    """Services that the token may see, by name."""
    state = control.state()
    names = [name for name in state.services if caller.allows_somewhere("read", name)]
    page, more = paged(names, cursor, limit, lambda name: name)
    lines = (_service_line(control, name, state.services[name]) for name in page)
    return schemas.Services(tuple(lines), more)


@get("/v1/services/{service:str}", summary="Get a service", **_READ)
async def get_service(
    request: Request[Any, Any, Any],
    control: TheControl,
    caller: Caller,
    service: ServiceName,
    format: Annotated[  # noqa: A002  # the name of the query parameter
        str | None,
        QueryParameter(
            pattern="^(json|yaml)$",
            description="`yaml`: the document that, committed again, changes nothing.",
        ),
    ] = None,
) -> Response[schemas.ServiceDetail]:
    """Everything of one service, or its YAML document (`?format=yaml`, or `Accept`)."""
    require_somewhere(caller, "read", service)
    found = service_of(control.state(), service)
    accepts = request.headers.get("accept", "")
    if format == "yaml" or (format is None and "yaml" in accepts):
        text = await control.read(control.document, service, found)
        return Response(text, media_type=YAML)  # type: ignore[arg-type]  # the same route
    return Response(
        schemas.ServiceDetail(
            service=service,
            info=found.info,
            settings={key: each.setting for key, each in sorted(found.settings.items())},
            segments={name: each.segment for name, each in sorted(found.segments.items())},
            subjects=control.subjects_of(service),
        )
    )


@get(
    "/v1/services/{service:str}/settings",
    summary="List a service's settings",
    sync_to_thread=False,
    **_READ,
)
def list_settings(
    control: TheControl,
    caller: Caller,
    service: ServiceName,
    cursor: Cursor = None,
    limit: Limit = schemas.PAGE,
) -> schemas.Settings:
    """Settings of one service, by key; included ones are listed with the service that owns them."""
    require_somewhere(caller, "read", service)
    found = service_of(control.state(), service)
    page, more = paged(found.settings, cursor, limit, lambda key: key)
    return schemas.Settings(
        tuple(setting_line(service, key, found.settings[key]) for key in page), more
    )


@get(
    "/v1/services/{service:str}/settings/{key:str}",
    summary="Get a setting",
    sync_to_thread=False,
    **_READ,
)
def get_setting(
    control: TheControl, caller: Caller, service: ServiceName, key: SettingKey
) -> schemas.SettingBody:
    """One setting as its authors wrote it, and the revisions that last touched it."""
    require_somewhere(caller, "read", service)
    found = service_of(control.state(), service).settings.get(key)
    if found is None:
        raise NotFound(f"{service} has no setting {key!r}")
    return schemas.SettingBody(service, key, found.setting, found.revisions)


@get(
    "/v1/services/{service:str}/segments",
    summary="List a service's segments",
    sync_to_thread=False,
    **_READ,
)
def list_segments(
    control: TheControl,
    caller: Caller,
    service: ServiceName,
    cursor: Cursor = None,
    limit: Limit = schemas.PAGE,
) -> schemas.Segments:
    """Segments of one service, by name."""
    require_somewhere(caller, "read", service)
    found = service_of(control.state(), service)
    page, more = paged(found.segments, cursor, limit, lambda name: name)
    return schemas.Segments(tuple(_segment_line(name, found) for name in page), more)


@get(
    "/v1/services/{service:str}/segments/{segment:str}",
    summary="Get a segment",
    sync_to_thread=False,
    **_READ,
)
def get_segment(
    control: TheControl, caller: Caller, service: ServiceName, segment: SegmentName
) -> schemas.SegmentBody:
    """One segment; a long member list is named by its digest only."""
    require_somewhere(caller, "read", service)
    found = service_of(control.state(), service).segments.get(segment)
    if found is None:
        raise NotFound(f"{service} has no segment {segment!r}")
    return schemas.SegmentBody(service, segment, found.segment, found.revisions)


@get("/v1/settings", summary="Search settings", **_READ)
async def search_settings(  # noqa: PLR0913  # the parameters of a query
    *,
    control: TheControl,
    caller: Caller,
    q: Annotated[
        str,
        QueryParameter(
            max_length=256,
            description="Words in names of services, keys and descriptions; all match.",
        ),
    ] = "",
    service: Annotated[str | None, QueryParameter(description="Only of this service.")] = None,
    environment: Annotated[
        str | None, QueryParameter(description="Only those that stand there.")
    ] = None,
    type: Annotated[  # noqa: A002  # the name of the query parameter
        SettingType | None, QueryParameter(description="Only of this type.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = schemas.PAGE,
) -> schemas.Settings:
    """Settings in all services that the token may see, by service and key."""
    query = Query(q, service, environment, type, cursor, limit)
    return await control.read(control.reading.search, caller, query)


@get(
    "/v1/environments",
    summary="List environments",
    sync_to_thread=False,
    opt=needs("read"),
    responses=errors(*READING),
    tags=["environments"],
)
def list_environments(control: TheControl, caller: Caller) -> schemas.Environments:
    """Environments in which the token may read anything, by name."""
    return schemas.Environments(
        tuple(
            schemas.EnvironmentLine(
                name,
                each.environment.bucketing,
                each.environment.description,
                each.revision,
                each.environment.ahead,
                each.environment.pacing,
            )
            for name, each in sorted(control.state().environments.items())
            if any(scope.environment in (EVERY, name) for scope in caller.scopes)
        )
    )


@put(
    "/v1/environments/{environment:str}",
    summary="Create or change an environment",
    opt=needs("admin"),
    responses=errors(*WRITING),
    tags=["environments"],
)
async def put_environment(
    control: TheControl,
    caller: Caller,
    environment: EnvironmentName,
    data: JSONBody[schemas.EnvironmentBody],
) -> schemas.Revised:
    """One commit; the policy stays. A changed bucketing moves users between the arms of every
    split there.
    """
    require(caller, "admin", environment, EVERY)
    committed = await control.write(control.environments.put, caller, environment, data)
    return schemas.Revised(committed.revision, committed.hash)


ROUTES = (
    list_services,
    get_service,
    list_settings,
    get_setting,
    list_segments,
    get_segment,
    search_settings,
    list_environments,
    put_environment,
)


def service_of(state: State, service: str) -> ServiceState:
    """Raises `NotFound`."""
    found = state.services.get(service)
    if found is None:
        raise NotFound(f"there is no service {service!r}")
    return found


def paged(
    items: Iterable[T], cursor: str | None, limit: int, key: Callable[[T], str]
) -> tuple[list[T], str | None]:
    """One page in the order of `key`, after `cursor`; and the next page's cursor, if any."""
    ordered = sorted((item for item in items if cursor is None or key(item) > cursor), key=key)
    page = ordered[:limit]
    return page, key(page[-1]) if len(ordered) > limit else None


def _service_line(control: Control, name: str, found: ServiceState) -> schemas.ServiceLine:
    return schemas.ServiceLine(
        service=name,
        owners=found.info.owners,
        description=found.info.description,
        setting_count=len(found.settings),
        segment_count=len(found.segments),
        subjects=control.subjects_of(name),
    )


def _segment_line(name: str, found: ServiceState) -> schemas.SegmentLine:
    state = found.segments[name]
    segment: Segment = state.segment
    audience = segment.audience
    return schemas.SegmentLine(
        segment=name,
        description=segment.description,
        by=audience.by,
        member_count=audience.member_count or len(audience.members),
        revision=max(state.revisions.values(), default=0),
    )
