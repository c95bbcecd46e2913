"""JsonLogic's view of values: what they are as a number, a text, a truth; when they are equal.

These are the rules of `panzi-json-logic` 1.0.1, which flagd's Python core evaluates with, and they
differ from JavaScript's here and there. Values are JSON as Python has it. A context may hold other
objects; those have no defined meaning here beyond "never a crash of the caller".
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from math import isnan, nan
from typing import Any, Final, TypeAlias

Number: TypeAlias = int | float

NUMBERS: Final = (int, float)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NOT_NUMBERS: Final = frozenset({"inf", "-inf", "+inf"})
"""Words that Python reads as numbers and JsonLogic does not. (It does read "infinity".)"""


def to_number(value: Any) -> Number:  # noqa: PLR0911 - one return for each kind of value
    """Raises TypeError for what has no number at all, as a naive datetime."""
    if isinstance(value, NUMBERS):
        return value
    if value is None:
        return 0
    if isinstance(value, list):
        return _list_number(value)
    if isinstance(value, dict):
        return nan
    if isinstance(value, datetime):
        return (value - EPOCH).total_seconds() * 1000.0
    if isinstance(value, str) and value.strip().lower() in NOT_NUMBERS:
        return nan
    try:
        return float(value)
    except ValueError:
        return nan


def _list_number(value: list[Any]) -> Number:
    if not value:
        return 0
    return nan if len(value) > 1 else to_number(value[0])


def to_string(value: Any) -> str:  # noqa: PLR0911 - one return for each kind of value
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, int):
        return str(value)  # True is "True", as in flagd's Python core
    if value is None:
        return "null"
    if isinstance(value, list):
        return ",".join([to_string(item) for item in value])
    if isinstance(value, dict):
        return "[object Object]"
    return value.isoformat() if isinstance(value, date) else str(value)


def truth(value: Any) -> bool:
    """Falsy: null, false, 0, NaN, "" and []. An empty object is truthy."""
    if value is None:
        return False
    if type(value) is bool:
        return value
    if isinstance(value, float):
        return not isnan(value) and bool(value)
    if isinstance(value, str | int | list):
        return bool(value)
    return True


def equal(a: Any, b: Any) -> bool:
    """`==`: numbers and texts meet as numbers, lists and texts as texts; objects by identity.

    Two values of which one is not JSON are equal when Python says so and their types are one.
    """
    if type(a) is type(b):
        return a is b if type(a) in (list, dict) else bool(a == b)
    if isinstance(a, NUMBERS):
        return bool(a == to_number(b))
    if isinstance(b, NUMBERS):
        return bool(to_number(a) == b)
    if isinstance(a, str) or isinstance(b, str):
        texts = isinstance(a, str | list | dict) and isinstance(b, str | list | dict)
        return texts and to_string(a) == to_string(b)
    return False


def comparable(a: Any, b: Any) -> tuple[Any, Any]:
    """Both as numbers if one is a number or none is a text; both as texts otherwise."""
    if isinstance(a, NUMBERS):
        return a, to_number(b)
    if isinstance(b, NUMBERS):
        return to_number(a), b
    if isinstance(a, str) or isinstance(b, str):
        return to_string(a), to_string(b)
    return to_number(a), to_number(b)


def look_up(data: Any, key: Any = None, default: Any = None) -> Any:  # noqa: PLR0911 - as above
    """`var`: the value at a dotted path, or at an index; `default` where there is none or null."""
    if key is None or key == "":
        return data
    if isinstance(key, NUMBERS):
        if isinstance(data, list | str):
            return _at_index(data, key, default)
        if not isinstance(data, dict):
            return default
        data = data.get(key)
        if data is None:
            return default
    for part in to_string(key).split("."):
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list | str):
            if part == "length":
                return len(data)
            index = _index(part)
            if index is None or index >= len(data):
                return default
            data = data[index]
        else:
            return default
    return default if data is None else data


def _at_index(data: list[Any] | str, key: Number, default: Any) -> Any:
    try:
        index = int(key)
    except ValueError:
        return default
    return data[index] if index == key and 0 <= index < len(data) else default


def _index(text: str) -> int | None:
    """The index that `text` writes in canonical decimal, as JavaScript's properties are."""
    try:
        index = int(text, 10)
    except ValueError:
        return None
    return index if index >= 0 and text == str(index) else None


def substring(text: Any = None, start: Any = None, length: Any = None, *_: Any) -> str:
    """`substr`; a negative start counts from the end, a negative length stops before the end."""
    text = to_string(text)
    size = len(text)
    begin = _begin(to_number(start), size)
    if length is None:
        return str(text[begin:])
    length = to_number(length)
    if isnan(length):
        return ""
    count = int(length)
    end = begin + count if count >= 0 else max(size + count, begin)
    return str(text[begin:end])


def _begin(start: Number, size: int) -> int:
    if isnan(start):
        return 0
    if start < 0:
        return 0 if -start >= size else size - int(-start)
    return min(int(start), size)
