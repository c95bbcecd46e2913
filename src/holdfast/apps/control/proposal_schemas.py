"""The shapes of waiting changes: proposed, approved, rejected, scheduled, committed."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from holdfast.apps.control.schemas import BreakGlassReason, Checked, Digest, Reason
from holdfast.core import limits
from holdfast.core.model import Edit

Status: TypeAlias = Literal["waiting", "scheduled", "rejected", "failed"]
"""`failed`: its time had come and it was not committed; it waits on."""


class ApprovalLine(Struct, frozen=True):
    """Who vouched for the change as it is now, and when."""

    actor: str
    at_ms: int


class RejectionBody(Struct, frozen=True):
    actor: str
    at_ms: int
    reason: str


class FailureBody(Struct, frozen=True):
    """Why a scheduled change was not committed."""

    at_ms: int
    code: str
    message: str


class Proposed(Struct, frozen=True):
    """A change that waits for its commit. `scheduled_s` is in unix seconds, null for no time."""

    id: str
    digest: str
    author: str
    at_ms: int
    reason: str
    base_revision: int | None
    edit_count: int
    status: Status
    approvals: tuple[ApprovalLine, ...]
    scheduled_s: int | None = None
    rejection: RejectionBody | None = None
    failure: FailureBody | None = None


class ProposedDetail(Struct, frozen=True):
    """A waiting change, with what it would do on the newest revision.

    `approvals_counted` is how many of its approvals count today; `check.approvals_needed` says how
    many it takes.
    """

    change: Proposed
    edits: tuple[Edit, ...]
    approvals_counted: int
    check: Checked


class Proposals(Struct, frozen=True):
    changes: tuple[Proposed, ...]


class CommitProposed(Struct, frozen=True, forbid_unknown_fields=True):
    """`digest`, when given, must be that of the change: what was looked at is what is committed."""

    digest: Digest | None = None
    break_glass: BreakGlassReason = ""


class ApproveBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`digest` is that of the change as it was looked at."""

    digest: Digest


class RejectBody(Struct, frozen=True, forbid_unknown_fields=True):
    reason: Reason = ""


class ScheduleBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`at_s` in unix seconds, null to take a schedule back."""

    at_s: Annotated[int, Meta(ge=1, le=limits.SAFE_INTEGER_MAX)] | None
