"""Can every reader of JSON keep this value as it is, and does canonical JSON have bytes for it?"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from holdfast.core import limits
from holdfast.core.errors import Problem
from holdfast.core.model import JSON
from holdfast.core.pointer import pointer


def check_json(
    value: JSON, path: str, depth_max: int = limits.VALUE_DEPTH_MAX
) -> Iterator[Problem]:
    """What JSON does not carry: NaN, huge integers, lone surrogates, depth without end."""
    level: list[tuple[str, JSON]] = [(path, value)]
    for _ in range(depth_max + 1):
        below: list[tuple[str, JSON]] = []
        for place, item in level:
            if isinstance(item, dict):
                for key, inner in item.items():
                    yield from check_mapping_key(key, place + pointer((key,)))
                    below.append((place + pointer((key,)), inner))
            elif isinstance(item, list | tuple):
                below += [(f"{place}/{number}", inner) for number, inner in enumerate(item)]
            else:
                yield from _scalar(item, place)
        if not below:
            return
        level = below
    message = f"nested deeper than {depth_max} levels"
    yield Problem(code="too-deep", message=message, path=path, hint="flatten it")


def _scalar(value: JSON, path: str) -> Iterator[Problem]:
    if isinstance(value, str) and not is_encodable(value):
        message, hint = "half of a surrogate pair is not a character", "write the character itself"
        yield Problem(code="lone-surrogate", message=message, path=path, hint=hint)
    elif isinstance(value, float) and not math.isfinite(value):
        hint = "JSON has no such number"
        yield Problem(code="not-a-number", message=f"{value} is no number", path=path, hint=hint)
    elif isinstance(value, int) and abs(value) > limits.SAFE_INTEGER_MAX:
        hint = "not every reader of JSON keeps it exact: make it a string"
        yield Problem(code="number-range", message="beyond 2^53-1", path=path, hint=hint)


def check_mapping_key(key: str, path: str) -> Iterator[Problem]:
    """A key of any mapping."""
    if not is_encodable(key) or any(ord(character) > 0xFFFF for character in key):
        hint = "use characters of the basic multilingual plane: canonical JSON orders keys by them"
        message = "a key holds a character beyond U+FFFF, or half of one"
        yield Problem(code="key-characters", message=message, path=path, hint=hint)


def is_encodable(text: str) -> bool:
    """Whether the text is made of whole characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def has_half_characters(body: bytes) -> bool:
    """Whether half of a surrogate pair is what keeps JSON from being read: decoders call it
    truncated.
    """
    try:
        # Numbers are not looked at: a million digits would take long.
        read = json.loads(body, parse_int=str, parse_float=str, parse_constant=str)
        json.dumps(read, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False
    return False


def check_text(text: str, path: str, chars_max: int = limits.TEXT_CHARS_MAX) -> Iterator[Problem]:
    """A short text that some person reads."""
    if len(text) > chars_max:
        message = f"{len(text)} characters; {chars_max} are the most"
        yield Problem(code="too-long", message=message, path=path, hint="shorten it")
    yield from _scalar(text, path)
