"""The reference: an exact interpreter of flagd's JsonLogic over prepared rules.

Whatever the generated functions don't cover, or meet with unexpected data, ends up here; and
`explain` follows it step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from holdfast.core import limits
from holdfast.core.model import Bucketing
from holdfast.core.targeting import bucket
from holdfast.core.targeting.operators import EAGER, ITERATING
from holdfast.core.targeting.prepare import NULL, Call, Constant, Items, Node
from holdfast.core.targeting.segments import SegmentTable
from holdfast.core.targeting.values import look_up, to_number, truth
from holdfast.core.targeting.work import Metered

STRING_UNIT_CHARS: Final = 64
INTEGER_UNIT_BITS: Final = 256


class UnknownOperator(Exception):
    """The rule calls for an operator, or refers to a shared rule, that is not there."""


class MissingTable(Exception):
    """The rule tests for a segment whose table is not loaded."""


class Exhausted(Exception):
    """The evaluation, or its request, did more work than `core.limits` allows."""


class Run:
    """One evaluation: what it may use, and the work that it has left.

    A rule without iterating operators does work in proportion to its own size, so only those are
    metered: each item costs the size of the rule that runs on it times the item's own; a key that
    may be missing costs its own size.
    """

    __slots__ = ("bucketing", "left", "segments")

    def __init__(self, bucketing: Bucketing, segments: Mapping[str, SegmentTable]) -> None:
        self.bucketing: Bucketing = bucketing
        self.segments = segments
        self.left = limits.EVALUATION_STEPS_MAX

    def apply(self, node: Node, data: Any) -> Any:
        """The value of `node` on `data`; raises what the operators raise."""
        if type(node) is Constant:
            return node.value
        if type(node) is Items:
            if node.scalars is not None:
                return node.scalars.copy()
            return [self.apply(item, data) for item in node.items]
        assert type(node) is Call  # noqa: S101 - the third of three kinds
        handler = _HANDLERS.get(node.op)
        if handler is not None:
            return handler(self, node, data)
        args = [self.apply(arg, data) for arg in node.args]
        operator = EAGER.get(node.op)
        if operator is None:
            raise UnknownOperator(node.op)
        return operator(*args)

    def step(self, rule: Node, item: Any) -> Any:
        """`rule` on one item of a list, paid for beforehand."""
        self.pay(rule.size * weight(item, self.left))
        return self.apply(rule, item)

    def pay(self, units: int) -> None:
        """Raises `Exhausted` when there is less left."""
        self.left -= units
        if self.left < 0:
            raise Exhausted

    def saw_bucket(
        self, key: bytes, arms: list[Any], weights: list[int], number: int, arm: int
    ) -> None:
        """A split was made: bucket `number` belongs to `arm`. For those who explain."""


class SharedRun(Run):
    """An evaluation that draws on the work of its whole request."""

    __slots__ = ("_request",)

    def __init__(
        self, bucketing: Bucketing, segments: Mapping[str, SegmentTable], request: Metered
    ) -> None:
        super().__init__(bucketing, segments)
        self._request = request
        self.left = min(self.left, request.left)
        if self.left < 0:
            raise Exhausted

    def pay(self, units: int) -> None:
        self._request.left -= units
        try:
            super().pay(units)
        except Exhausted:
            self._request.left = -1
            raise


def weight(value: Any, most: int) -> int:
    """A value's size in units of work, counted up to `most` and a little more.

    A list inside a list counts as often as it is there, since texts made of it would, too. What
    contains itself (the scope of a `reduce` may) counts once on each way down.
    """
    units = _own_weight(value)
    if not isinstance(value, list | dict):
        return units
    way, inside = [id(value)], [_children(value)]
    while inside and units <= most:
        for item in inside[-1]:
            units += _own_weight(item)
            if isinstance(item, list | dict) and id(item) not in way:
                way.append(id(item))
                inside.append(_children(item))
                break
            if units > most:
                break
        else:
            way.pop()
            inside.pop()
    return units


def _own_weight(value: Any) -> int:
    if isinstance(value, str):
        return 1 + len(value) // STRING_UNIT_CHARS
    if isinstance(value, int):
        return 1 + (value.bit_length() // INTEGER_UNIT_BITS) ** 2  # as multiplying costs
    return 1


def _children(value: list[Any] | dict[str, Any]) -> Iterator[Any]:
    return iter(value.values() if isinstance(value, dict) else value)


def _if(run: Run, node: Call, data: Any) -> Any:
    args = node.args
    last = len(args) - 1
    for index in range(0, last, 2):
        if truth(run.apply(args[index], data)):
            return run.apply(args[index + 1], data)
    return run.apply(args[last], data) if len(args) % 2 else None


def _and(run: Run, node: Call, data: Any) -> Any:
    value = None
    for arg in node.args:
        value = run.apply(arg, data)
        if not truth(value):
            return value
    return value


def _or(run: Run, node: Call, data: Any) -> Any:
    value = None
    for arg in node.args:
        value = run.apply(arg, data)
        if truth(value):
            return value
    return value


def _items(run: Run, node: Call, data: Any) -> list[Any] | None:
    """The list that an iterating operator works on; None when it is none."""
    items = run.apply(node.args[0], data) if node.args else None
    return items if isinstance(items, list) else None


def _filter(run: Run, node: Call, data: Any) -> list[Any]:
    if len(node.args) < 2:
        return []
    items = _items(run, node, data)
    return [item for item in items or () if truth(run.step(node.args[1], item))]


def _map(run: Run, node: Call, data: Any) -> list[Any]:
    rule = node.args[1] if len(node.args) > 1 else NULL
    return [run.step(rule, item) for item in _items(run, node, data) or ()]


def _reduce(run: Run, node: Call, data: Any) -> Any:
    items = _items(run, node, data)
    if items is None:
        return node.initial
    rule = node.args[1] if len(node.args) > 1 else NULL
    scope: dict[str, Any] = {"accumulator": node.initial}
    for item in items:
        scope["current"] = item
        scope["accumulator"] = run.step(rule, scope)
    return scope["accumulator"]


def _all(run: Run, node: Call, data: Any) -> bool:
    """False for an empty list."""
    if len(node.args) < 2:
        return False
    items = _items(run, node, data)
    return bool(items) and all(truth(run.step(node.args[1], item)) for item in items or ())


def _some(run: Run, node: Call, data: Any) -> bool:
    if len(node.args) < 2:
        return False
    return any(truth(run.step(node.args[1], item)) for item in _items(run, node, data) or ())


def _var(run: Run, node: Call, data: Any) -> Any:
    return look_up(data, *[run.apply(arg, data) for arg in node.args])


def _is_missing(data: Any, key: Any) -> bool:
    value = look_up(data, key)
    return value is None or bool(value == "")


def _missing(run: Run, node: Call, data: Any) -> list[Any]:
    args = [run.apply(arg, data) for arg in node.args]
    keys = args[0] if args and isinstance(args[0], list) else args
    run.pay(weight(keys, run.left))
    return [key for key in keys if _is_missing(data, key)]


def _missing_some(run: Run, node: Call, data: Any) -> list[Any]:
    args = [run.apply(arg, data) for arg in node.args]
    needed, keys = (args + [0, None][len(args) :])[:2]
    if not isinstance(keys, list):
        return []
    wanted = to_number(needed)
    run.pay(weight(keys, run.left))
    missing = [key for key in keys if _is_missing(data, key)]
    return [] if len(keys) - len(missing) >= wanted else missing


def _in(run: Run, node: Call, data: Any) -> bool:
    haystack = node.args[1] if len(node.args) > 1 else NULL
    if type(haystack) is Items and haystack.members is not None:
        values = [run.apply(arg, data) for arg in (node.args[0], *node.args[2:])]
        try:
            return values[0] in haystack.members
        except TypeError:
            return values[0] in (haystack.scalars or ())
    return bool(EAGER["in"](*[run.apply(arg, data) for arg in node.args]))


def _in_segment(run: Run, node: Call, data: Any) -> bool:
    """Holdfast's own: `[value, "segment"]`; false for a value that is not a text."""
    args = [run.apply(arg, data) for arg in node.args]
    if len(args) != 2 or not isinstance(args[1], str):
        raise UnknownOperator('in_segment without [value, "segment"]')
    table = run.segments.get(args[1])
    if table is None:
        raise MissingTable(args[1])
    return args[0] in table


def _fractional(run: Run, node: Call, data: Any) -> Any:
    args = [run.apply(arg, data) for arg in node.args]
    key, arms = _key_and_arms(args, data, run.bucketing)
    weights = bucket.weights_of(arms)
    if key is None or weights is None:
        return None
    number = bucket.bucket_of(bucket.hash32(key), sum(weights))
    arm = bucket.arm_of(number, weights)
    run.saw_bucket(key, arms, weights, number, arm)
    return arms[arm][0]


def _key_and_arms(
    args: list[Any], data: Any, bucketing: Bucketing
) -> tuple[bytes | None, list[Any]]:
    """The bytes to hash, or None where there is no key; and the arms."""
    if not args:
        return None, args
    if isinstance(args[0], str) or (bucketing == "v3" and not isinstance(args[0], list | tuple)):
        return bucket.key_bytes(args[0], bucketing), args[1:]
    targeting_key = data.get("targetingKey")
    if not targeting_key or (bucketing == "v3" and not isinstance(targeting_key, str)):
        return None, args
    flag_key = data.get("$flagd", {}).get("flagKey", "")
    if bucketing == "v2":
        return bucket.key_bytes(flag_key + targeting_key, bucketing), args
    return bucket.key_bytes([flag_key, targeting_key], bucketing), args


Handler: TypeAlias = Callable[[Run, Call, Any], Any]

_HANDLERS: Final[dict[str, Handler]] = {
    "if": _if,
    "?:": _if,
    "and": _and,
    "or": _or,
    "filter": _filter,
    "map": _map,
    "reduce": _reduce,
    "all": _all,
    "some": _some,
    "none": lambda run, node, data: not _some(run, node, data),
    "var": _var,
    "missing": _missing,
    "missing_some": _missing_some,
    "in": _in,
    "in_segment": _in_segment,
    "fractional": _fractional,
}
KNOWN: Final = frozenset(EAGER) | frozenset(_HANDLERS) | ITERATING
"""Every operator that there is."""
