"""Pushes that come home: what was signed offline is brought into the journal, or lifted again."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import post
from litestar.params import JSONBody

from holdfast.adapters.ed25519 import verify
from holdfast.apps.control import push_schemas as shapes
from holdfast.apps.control.door import needs
from holdfast.apps.control.openapi import WRITING, errors
from holdfast.apps.control.plane import Control
from holdfast.apps.control.routes.parameters import (
    Caller,
    EnvironmentName,
    ServiceName,
    SettingKey,
    TheControl,
)
from holdfast.apps.control.schemas import Revised
from holdfast.core.access import Grant
from holdfast.core.errors import Invalid, Problem, Untrusted
from holdfast.core.model import Subject
from holdfast.core.pushes import decode_push, take
from holdfast.core.wire import canonical

_WRITE: dict[str, Any] = {
    "opt": needs("write"),
    "responses": errors(*WRITING),
    "status_code": 200,
    "tags": ["pushes"],
}
_MET = (
    "somebody wrote meanwhile: it came in as revision {revision}, and every setting of its "
    "services counts as touched there"
)


@post("/v1/pushes", summary="Bring a push in", **_WRITE)
async def bring_push(
    control: TheControl, caller: Caller, data: JSONBody[shapes.PushBody]
) -> shapes.Brought:
    """Append what edges took offline; it stands over its settings until it is lifted."""
    return await control.write(_bring, control, caller, data)


@post(
    "/v1/pushes/{environment:str}/{service:str}/{key:str}", summary="Lift what was pushed", **_WRITE
)
async def lift_push(  # noqa: PLR0913, PLR0917  # the parts of the path
    control: TheControl,
    caller: Caller,
    environment: EnvironmentName,
    service: ServiceName,
    key: SettingKey,
    data: JSONBody[shapes.LiftBody],
) -> Revised:
    """Let the setting serve what its authors wrote; refused while that is something else."""
    where = Subject(environment, service)
    return await control.write(_lift, control, caller, where, key, data.reason)


def _bring(control: Control, caller: Grant, data: shapes.PushBody) -> shapes.Brought:
    try:
        push = decode_push(canonical(msgspec.to_builtins(data)))
        taken = take(push, control.roots, verify)
    except Untrusted as error:  # the system is well: it is the file that can't be believed
        hint = "give the file that holdfast edge push wrote, and keys of this installation"
        raise Invalid([Problem(code=error.code, message=str(error), hint=hint)]) from None
    home = control.pushes.bring(taken, caller.actor, caller)
    notes = (_MET.format(revision=home.revision),) if home.met else ()
    return shapes.Brought(home.revision, home.hash, notes)


def _lift(control: Control, caller: Grant, where: Subject, key: str, reason: str) -> Revised:
    made = control.pushes.lift(where, key, reason, caller.actor, caller)
    return Revised(made.revision, made.hash)


ROUTES = (bring_push, lift_push)
