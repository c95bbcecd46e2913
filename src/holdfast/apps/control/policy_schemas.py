"""The shapes of policies, and of broken glass."""

from __future__ import annotations

from msgspec import Struct

from holdfast.apps.control.schemas import Reason
from holdfast.core.policies import Freeze, Policy


class PolicyBody(Struct, frozen=True):
    """What an environment asks of every change. `freeze` is the window that stands now, if any."""

    environment: str
    policy: Policy
    freeze: Freeze | None


class PutPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole policy; what it leaves out gets its default."""

    policy: Policy
    reason: Reason = ""


class BrokenGlass(Struct, frozen=True):
    """One commit that skipped approval, freeze or waiting. `until_s` is in unix seconds."""

    revision: int
    at_ms: int
    actor: str
    environment: str
    reason: str
    until_s: int
    open: bool


class BrokenGlasses(Struct, frozen=True):
    """Newest first."""

    broken: tuple[BrokenGlass, ...]
