"""The operators that need nothing but their arguments' values. The interpreter has the others.

Each takes any number of arguments, as flagd's Python core does: missing ones are null, most ignore
what is too many. Odd arguments raise what they raise in flagd:
TypeError, ZeroDivisionError or OverflowError; the last also for results past a bound.
"""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import Any, Final, TypeAlias

from holdfast.core import limits
from holdfast.core.targeting import semver
from holdfast.core.targeting.values import (
    Number,
    comparable,
    equal,
    substring,
    to_number,
    to_string,
    truth,
)

Operator: TypeAlias = Callable[..., Any]

ITERATING: Final = frozenset({"all", "filter", "map", "none", "reduce", "some"})
"""Run a rule for each item of a list, and are metered (`interpret.Meter`)."""


def _less(a: Any, b: Any) -> bool:
    left, right = comparable(a, b)
    return bool(left < right)


def _less_or_equal(a: Any, b: Any) -> bool:
    left, right = comparable(a, b)
    return bool(left <= right)


def _chained(holds: Callable[[Any, Any], bool]) -> Operator:
    """`a < b`, or `a < b < c` when there is a third argument that is not null."""

    def compare(a: Any = None, b: Any = None, c: Any = None, *_: Any) -> bool:
        return holds(a, b) and (c is None or holds(b, c))

    return compare


def _text_test(test: Callable[[str, str], bool]) -> Operator:
    """Null unless there are exactly two texts."""

    def compare(*args: Any) -> bool | None:
        if len(args) != 2 or not isinstance(args[0], str) or not isinstance(args[1], str):
            return None
        return test(args[0], args[1])

    return compare


def _sem_ver(*args: Any) -> bool | None:
    return semver.compare(*args) if len(args) == 3 else None


def _sum(*args: Any) -> Number:
    total: Number = 0
    for arg in args:
        total += to_number(arg)
    return total


def _product(*args: Any) -> Number:
    total: Number = 1
    for arg in args:
        total *= to_number(arg)
        if isinstance(total, int) and total.bit_length() > limits.EVALUATED_INTEGER_BITS_MAX:
            raise OverflowError("the product is too large")
    return total


def _difference(a: Any = None, b: Any = None, *_: Any) -> Number:
    return -to_number(a) if b is None else to_number(a) - to_number(b)


def _is_in(needle: Any = None, haystack: Any = None, *_: Any) -> bool:
    if isinstance(haystack, list):
        return needle in haystack
    return isinstance(haystack, str) and to_string(needle) in haystack


def _merged(*args: Any) -> list[Any]:
    merged: list[Any] = []
    for arg in args:
        if isinstance(arg, list):
            merged.extend(arg)
        else:
            merged.append(arg)
        if len(merged) > limits.EVALUATED_ITEMS_MAX:
            raise OverflowError("the list is too long")
    return merged


def _text(*args: Any) -> str:
    pieces: list[str] = []
    left = limits.EVALUATED_CHARS_MAX
    for arg in args:
        pieces.append(to_string(arg))
        left -= len(pieces[-1])
        if left < 0:
            raise OverflowError("the text is too long")
    return "".join(pieces)


def _identical(a: Any = None, b: Any = None, *_: Any) -> bool:
    return bool(a == b)


def _first(a: Any = None, *_: Any) -> Any:
    """`log` gives its argument. Here it prints nothing: the caller observes, not the rule."""
    return a


EAGER: Final[dict[str, Operator]] = {
    "==": lambda a=None, b=None, *_: equal(a, b),
    "!=": lambda a=None, b=None, *_: not equal(a, b),
    "===": _identical,
    "!==": lambda a=None, b=None, *_: not _identical(a, b),
    "<": _chained(_less),
    ">": _chained(lambda a, b: _less(b, a)),
    "<=": _chained(_less_or_equal),
    ">=": _chained(lambda a, b: _less_or_equal(b, a)),
    "!": lambda a=None, *_: not truth(a),
    "!!": lambda a=None, *_: truth(a),
    "+": _sum,
    "*": _product,
    "-": _difference,
    "/": lambda a=None, b=None, *_: to_number(a) / to_number(b),
    "%": lambda a=None, b=None, *_: to_number(a) % to_number(b),
    "min": lambda *args: min([to_number(arg) for arg in args], default=nan),
    "max": lambda *args: max([to_number(arg) for arg in args], default=nan),
    "in": _is_in,
    "cat": _text,
    "substr": substring,
    "merge": _merged,
    "log": _first,
    "starts_with": _text_test(str.startswith),
    "ends_with": _text_test(str.endswith),
    "sem_ver": _sem_ver,
}
"""Operators whose answer follows from their arguments' values alone."""

TRUE_OR_FALSE: Final = frozenset(
    {
        "==",
        "!=",
        "===",
        "!==",
        "<",
        ">",
        "<=",
        ">=",
        "!",
        "!!",
        "in",
        "all",
        "some",
        "none",
        "in_segment",
    }
)
"""Always answer true or false."""
TRUE_FALSE_OR_NULL: Final = frozenset({"starts_with", "ends_with", "sem_ver"})
