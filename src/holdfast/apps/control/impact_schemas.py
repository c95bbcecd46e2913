"""The shapes of impact and lint in the control API's bodies."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from holdfast.apps.control import schemas
from holdfast.core.errors import Problem

CONTEXTS_MAX = 100_000


class Given(Struct, frozen=True, forbid_unknown_fields=True):
    """A context to try the change on, and how many requests it stands for."""

    context: dict[str, Any]
    count: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 1


class ImpactBody(schemas.ChangeBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A change, as for a check; and on what to try it.

    Without `environment` it is all of them. Without `contexts` it is what clients and edges
    sampled; with them, each stands for requests of every service.
    """

    environment: schemas.Name | None = None
    contexts: Annotated[tuple[Given, ...], Meta(max_length=CONTEXTS_MAX)] | None = None


class Linted(Struct, frozen=True):
    """What is allowed and probably not meant, by service and setting."""

    findings: tuple[Problem, ...]
