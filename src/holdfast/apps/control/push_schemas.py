"""The shapes of pushes in the control API's bodies."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from holdfast.apps.control.schemas import Reason
from holdfast.core.pushes import SUBJECTS_MAX


class PushBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The file that `holdfast edge push` wrote: a signed entry, and a signed bundle per subject."""

    entry: dict[str, Any]
    bundles: Annotated[tuple[dict[str, Any], ...], Meta(min_length=1, max_length=SUBJECTS_MAX)]


class LiftBody(Struct, frozen=True, forbid_unknown_fields=True):
    reason: Reason = ""


class Brought(Struct, frozen=True):
    """The revision that it has in the journal now; `notes` say what else there is to know."""

    revision: int
    hash: str
    notes: tuple[str, ...] = ()
