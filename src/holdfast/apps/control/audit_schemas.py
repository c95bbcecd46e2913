"""The shape of a node's look at its own journal."""

from __future__ import annotations

from msgspec import Struct

from holdfast.core.audit import Finding


class AuditBody(Struct, frozen=True):
    """What the node's last look found: empty when all that was seen of the journal still stands.

    `witnessed` counts the heads that consumers have reported, `looks` those since the start.
    """

    revision: int
    hash: str
    witnessed: int
    looks: int
    findings: tuple[Finding, ...]
