"""The API of a control plane, on Litestar: the routes under `/v1`, health and metrics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypeAlias

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.di import Provide
from litestar.middleware.rate_limit import RateLimitConfig
from litestar.params import HeaderParameter
from litestar.stores.memory import MemoryStore

from holdfast.apps.control import (
    audit_schemas,
    contract_schemas,
    fleet_schemas,
    impact_schemas,
    openapi,
    policy_schemas,
    proposal_schemas,
    push_schemas,
    refusals,
    rollout_schemas,
    schemas,
)
from holdfast.apps.control.body import StrictBody
from holdfast.apps.control.door import PUBLIC, guard, known
from holdfast.apps.control.plane import Control
from holdfast.apps.control.repeats import attempt_digest
from holdfast.apps.control.routes import (
    access,
    audit,
    changes,
    contracts,
    evaluation,
    fleet,
    history,
    impact,
    operations,
    policies,
    pushes,
    rollouts,
    services,
)
from holdfast.core import limits
from holdfast.core.access import Grant
from holdfast.core.evaluate import Explanation
from holdfast.core.impact import Impact
from holdfast.core.reports import ReportBody

SWEEP_S = 30.0
"""Between two sweeps of what the rate limiter remembers of callers that went away."""
_RATES = "rates"
KEY_CHARS_MAX = 255

Key: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=KEY_CHARS_MAX,
        pattern="^[!-~]+$",
        description="Of the caller's choosing, another one for each commit: 128 bits of chance, "
        "say. The same request with the same key is committed once, however often it is sent and "
        "to whichever node. It needs `base_revision`.",
    ),
]

ROUTES = (
    *changes.ROUTES,
    *history.ROUTES,
    *audit.ROUTES,
    *services.ROUTES,
    *contracts.ROUTES,
    *evaluation.ROUTES,
    *access.ROUTES,
    *operations.ROUTES,
    *fleet.ROUTES,
    *rollouts.ROUTES,
    *policies.ROUTES,
    *pushes.ROUTES,
    *impact.ROUTES,
)
SHAPES = (
    schemas,
    audit_schemas,
    contract_schemas,
    fleet_schemas,
    rollout_schemas,
    impact_schemas,
    policy_schemas,
    proposal_schemas,
    push_schemas,
)
"""Modules of the structs in requests and answers."""
BODIES = (
    Explanation,
    Impact,
    ReportBody,
    *(
        each
        for shapes in SHAPES
        for each in vars(shapes).values()
        if isinstance(each, type)
        and issubclass(each, msgspec.Struct)
        and each.__module__ == shapes.__name__
    ),
)


def create_api(control: Control) -> Litestar:
    """The application; what runs behind it (`control.running`) is not its own to start."""
    store = MemoryStore()
    return Litestar(
        [*ROUTES, _document_route()],
        debug=False,
        dependencies={
            "control": Provide(lambda: control, sync_to_thread=False),
            "caller": Provide(caller_of, sync_to_thread=False),
            "attempt": Provide(attempt_of),
        },
        dto=StrictBody,
        return_dto=None,
        exception_handlers=refusals.handlers(control.metrics.refused),
        guards=[guard],
        lifespan=[lambda _app: _swept(store)],
        logging_config=None,
        middleware=[_rate_limit(control.settings.requests_per_s_max)],
        openapi_config=openapi.config(),
        request_max_body_size=limits.DOCUMENT_BYTES_MAX,
        stores={_RATES: store},
    )


def caller_of(request: Request[Any, Any, Any]) -> Grant | None:
    """The grant that the door remembered; routes that mind have been guarded."""
    return known(request.scope)


async def attempt_of(request: Request[Any, Any, Any], idempotency_key: Key = None) -> str:
    """What a repeat of this request is known by; empty where it has no key."""
    caller = known(request.scope)
    if idempotency_key is None or caller is None:
        return ""
    route = (request.method, request.url.path)
    return attempt_digest(caller.token, *route, idempotency_key, await request.body())


def _rate_limit(requests_per_s_max: int) -> Any:
    def identity(request: Request[Any, Any, Any]) -> str:
        caller = known(request.scope)
        if caller is not None:
            return f"token {caller.token}"
        return f"address {request.client.host if request.client else ''}"

    config = RateLimitConfig(
        rate_limit=("second", requests_per_s_max),
        identifier_for_request=identity,
        exclude=["^/healthz$", "^/readyz$"],
        set_rate_limit_headers=False,
        store=_RATES,
    )
    return config.middleware


@contextlib.asynccontextmanager
async def _swept(store: MemoryStore) -> AsyncIterator[None]:
    sweep = asyncio.create_task(_sweep(store))
    try:
        yield
    finally:
        sweep.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sweep


async def _sweep(store: MemoryStore) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        await store.delete_expired()


def _document_route() -> Any:
    encoded: list[bytes] = []

    @get(
        "/v1/openapi.json",
        summary="This document",
        sync_to_thread=False,
        include_in_schema=False,
        opt=PUBLIC,
    )
    def get_openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
        if not encoded:
            encoded.append(document_bytes(request.app))
        return Response(encoded[0], media_type="application/json")

    return get_openapi


def document_bytes(api: Litestar) -> bytes:
    """The OpenAPI document as it is served and kept in `docs/reference/openapi.json`."""
    document = openapi.document(api, BODIES)
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=1) + b"\n"
