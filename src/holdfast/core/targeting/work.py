"""A bound on the work of one request, however many settings it asks for.

Each evaluation has a bound of its own (`interpret.Run`). A request for all settings of a snapshot
is as many evaluations, and a caller chooses how long the lists are that all of them walk. So who
answers callers that nobody trusts hands in a context that brings its work along, and all
evaluations in it draw on that. An exhausted one is the caller's doing, and no setting's failure.

An exhausted evaluation leaves its request nothing: what is exhausted once is not begun again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from holdfast.core.targeting.operators import ITERATING
from holdfast.core.targeting.prepare import Call, Items, Node

_WALKING: Final = ITERATING | {"missing", "missing_some"}


class TooMuchWork(Exception):
    """All evaluations together did more than `limits.REQUEST_STEPS_MAX` in this context."""


class Metered(dict[str, Any]):
    """A context, and the work that is `left` to all evaluations in it; below 0 it is used up."""

    __slots__ = ("left",)

    def __init__(self, context: Mapping[str, Any], left: int) -> None:
        super().__init__(context)
        self.left = left


def walks(root: Node) -> bool:
    """Whether a rule may do more work than in proportion to its own size."""
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if type(node) is Items:
            nodes += node.items
        elif type(node) is Call:
            if node.op in _WALKING:
                return True
            nodes += node.args
    return False
