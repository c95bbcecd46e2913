"""One outcome as OFREP writes it, alone or among all others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from holdfast.core.targeting.outcome import Outcome


class Failure(msgspec.Struct, omit_defaults=True):
    """OFREP's shape of an error: of one flag, of a bulk, and of what is wrong before that."""

    errorCode: str  # noqa: N815 -- the protocol's name
    errorDetails: str  # noqa: N815 -- the protocol's name
    key: str | msgspec.UnsetType = msgspec.UNSET


def fragment(outcome: Outcome) -> bytes:
    """The JSON object of an outcome."""
    if outcome.error_code is not None:
        details = outcome.error_message or outcome.error_code
        return msgspec.json.encode(Failure(outcome.error_code, details, outcome.key))
    success: dict[str, Any] = {
        "key": outcome.key,
        "reason": outcome.reason,
        "variant": outcome.variant or "",
    }
    if outcome.value is not None:
        success["value"] = outcome.value
    if metadata := plain(outcome.metadata):
        success["metadata"] = metadata
    return msgspec.json.encode(success)


def plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """As much of a setting's metadata as OFREP has types for."""
    return {k: v for k, v in metadata.items() if isinstance(v, bool | str | int | float)}
