"""What operators cost that go through a whole list or text of the context.

They make no steps (`work`), so nothing meters them while they run: that would cost each evaluation
more than most of them take. Whoever answers for many settings charges for them beforehand. A
setting's rule tells, once, for each attribute, what one unit of its value (an item, or 64
characters: `interpret.weight`) may cost; a context tells how many units it has.

It is a bound from above: as if all rules were tried, and none decided early.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from holdfast.core import limits
from holdfast.core.targeting.attributes import constant_text
from holdfast.core.targeting.interpret import STRING_UNIT_CHARS, weight
from holdfast.core.targeting.operators import ITERATING
from holdfast.core.targeting.prepare import Call, Constant, Items, Node

COMPARED_NS: Final = 60
"""One unit compared or copied: 10 to 30 ns an item, up to 2 ns a character."""
CONVERTED_NS: Final = 500
"""One unit made a text or a number: 80 to 500 ns an item, up to 12 ns a character."""
STEP_NS: Final = 1_000
"""What `limits` takes a step for."""
LONG_CHARS: Final = 1_024
"""Shorter texts are not charged for."""
UNITS_MAX: Final = limits.CONTEXT_BYTES_MAX // 2
"""A context of another machine has no more: an item takes two bytes of JSON."""
ANY: Final = ""
"""In place of an attribute's name: which one is read is not known before."""

_FREE: Final = ITERATING | {"if", "?:", "and", "or", "!", "!!", "log", "missing", "missing_some"}
"""They look at no items, or make steps for them."""
_COMPARING: Final = frozenset({"===", "!==", "merge", "in_segment", "starts_with", "ends_with"})
_CARRYING: Final = (ITERATING - {"all", "none", "some"}) | {
    "if", "?:", "and", "or", "log", "missing", "missing_some", "merge", "cat", "substr",
    "fractional",
}  # fmt: skip
"""Their values may be as long as their arguments'."""


class Reading:
    """What all rules together may cost for each unit of each attribute.

    `is_dear`: the longest list may cost more than one evaluation is allowed.
    """

    __slots__ = ("_by_name", "_total_ns", "is_dear")

    def __init__(self) -> None:
        self._by_name: dict[str, int] = {}
        self._total_ns = 0
        self.is_dear = False

    def add(self, costs_ns: Mapping[str, int]) -> None:
        for name, cost_ns in costs_ns.items():
            self._by_name[name] = self._by_name.get(name, 0) + cost_ns
            self._total_ns += cost_ns
        self.is_dear = self._total_ns * UNITS_MAX > limits.EVALUATION_STEPS_MAX * STEP_NS

    def steps(self, context: Mapping[str, Any], most: int) -> int:
        """What a context may cost, in steps; once that is more than `most`, no matter how much."""
        if not self.is_dear:
            return 0
        found_ns = 0
        for name, value in context.items():
            kind = type(value)
            if kind is str:
                if len(value) > LONG_CHARS:
                    found_ns += self._cost_ns(name, value, most * STEP_NS - found_ns)
            elif kind is list or kind is dict:
                found_ns += self._cost_ns(name, value, most * STEP_NS - found_ns)
        return found_ns // STEP_NS

    def _cost_ns(self, name: str, value: Any, most_ns: int) -> int:
        unit_ns = self._by_name.get(name, 0) + self._by_name.get(ANY, 0)
        if not unit_ns or most_ns < 0:
            return 0
        units = len(value) // STRING_UNIT_CHARS if type(value) is str else len(value)
        if units * unit_ns > most_ns:  # without a look at each item
            return units * unit_ns
        return unit_ns * _units(value, most_ns // unit_ns)


def _units(value: Any, most: int) -> int:
    """`weight`, or a bound on it where there is a quick one: most lists are of texts."""
    if type(value) is list and set(map(type, value)) <= {str}:
        return 1 + len(value) + sum(map(len, value)) // STRING_UNIT_CHARS
    return weight(value, most)


def costs_ns(root: Node) -> dict[str, int]:
    """For each attribute that a rule reads, what a unit of it may cost. A value is made a text."""
    found: dict[str, int] = {}
    nodes = [(root, CONVERTED_NS)]
    while nodes:
        node, unit_ns = nodes.pop()
        if type(node) is Items:
            nodes += [(item, unit_ns) for item in node.items]
        elif type(node) is Call:
            name = _attribute(node)
            if name is not None:
                found[name] = found.get(name, 0) + unit_ns
            nodes += _arguments(node, unit_ns)
    return {name: cost_ns for name, cost_ns in found.items() if cost_ns}


def _attribute(node: Call) -> str | None:
    """The attribute that the call itself reads; none where it reads none, or a fact of flagd's."""
    if node.op == "fractional" and (not node.args or type(node.args[0]) is Items):
        return "targetingKey"
    if node.op != "var":
        return None
    path = constant_text(node.args[0]) if node.args else None
    if not path:
        return ANY
    name = path.split(".", 1)[0]
    return None if name == "$flagd" else name


def _arguments(node: Call, unit_ns: int) -> Iterator[tuple[Node, int]]:
    """What is evaluated in the same context, and what a unit of its value may cost."""
    passed_on_ns = unit_ns if node.op in _CARRYING else 0
    if node.op == "var":
        yield from zip(node.args, (CONVERTED_NS, unit_ns), strict=False)
    elif node.op in ITERATING:
        yield from ((arg, passed_on_ns) for arg in node.args[:1])
    elif node.op in ("if", "?:"):
        last = len(node.args) - 1
        for index, arg in enumerate(node.args):
            yield arg, passed_on_ns if index % 2 or index == last else 0
    else:
        for index, arg in enumerate(node.args):
            yield arg, passed_on_ns + _own_ns(node, index)


def _own_ns(node: Call, index: int) -> int:
    """What the operator does itself with each unit of one of its arguments."""
    if node.op in _FREE or (node.op in ("==", "!=") and _compares_with(node, None)):
        return 0
    if node.op == "in":
        return _in_ns(node, index)
    if node.op in ("===", "!==") and any(_is_fixed(arg) for arg in node.args):
        return 0  # what differs in kind or size differs at once
    return COMPARED_NS if node.op in _COMPARING else CONVERTED_NS


def _in_ns(node: Call, index: int) -> int:
    haystack = node.args[1] if len(node.args) > 1 else None
    if index == 1:
        return COMPARED_NS
    return 0 if type(haystack) is Items and haystack.members is not None else CONVERTED_NS


def _is_fixed(node: Node) -> bool:
    return type(node) is Constant or (type(node) is Items and not node.items)


def _compares_with(node: Call, value: object) -> bool:
    return any(type(arg) is Constant and arg.value is value for arg in node.args)
