"""Holdfast: a configuration service whose clients verify before they believe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.sdk.client import Client

__all__ = ["Client"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Lazy, so that a server process that imports holdfast.core does not load the client.
    if name == "Client":
        from holdfast.sdk.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
