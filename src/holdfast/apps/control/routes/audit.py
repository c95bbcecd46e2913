"""Whether the journal is still what consumers saw of it."""

from __future__ import annotations

from litestar import get

from holdfast.apps.control import audit_schemas as shapes
from holdfast.apps.control.door import needs
from holdfast.apps.control.openapi import READING, errors
from holdfast.apps.control.routes.parameters import TheControl


@get(
    "/v1/audit",
    summary="Compare the journal with what was seen of it",
    opt=needs("read"),
    responses=errors(*READING),
    tags=["history"],
)
async def get_audit(control: TheControl) -> shapes.AuditBody:
    """Reads every entry again whose hash this node or a consumer has seen.

    A finding means that somebody rewrote the store: `holdfast audit verify` says more.
    """
    await control.read(control.look_at_journal)
    head = control.state().head
    return shapes.AuditBody(
        revision=head.revision,
        hash=head.hash,
        witnessed=len(control.fleet.heads()),
        looks=control.sentry.looks,
        findings=control.sentry.findings,
    )


ROUTES = (get_audit,)
