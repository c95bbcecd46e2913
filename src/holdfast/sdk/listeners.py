"""Who wants to hear of a client's changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from holdfast.sdk.status import State

OnState: TypeAlias = Callable[[State], None]


class StateListener:
    """A callback and the last state that it knows."""

    __slots__ = ("callback", "told")

    def __init__(self, callback: OnState, told: State) -> None:
        self.callback = callback
        self.told = told


def drop(listeners: list[Any], listener: object) -> None:
    if listener in listeners:
        listeners.remove(listener)
