"""`fractional`: which share of an audience a key falls into, bit for bit as flagd does it.

    hash   = MurmurHash3 x86-32, seed 0, of the key's bytes
    bucket = (hash * total weight) >> 32
    answer = the first arm whose cumulative weight is above the bucket

The two versions of bucketing differ in the key's bytes: its UTF-8 (v2), or its deterministic CBOR
(v3), where whole floats have become integers first.
"""

from __future__ import annotations

from typing import Any, Final

import cbor2
import mmh3

from holdfast.core.limits import WEIGHT_SUM_MAX
from holdfast.core.model import Bucketing

TEXT_BYTES_MAX: Final = 256
PAIR_BYTES_MAX: Final = 64
"""Each setting keeps its own heads of pairs, so only those of usual sizes."""
_INTEGER_MIN: Final = -(2**63)
_INTEGER_MAX: Final = 2**64 - 1


def text_head(size: int) -> bytes:
    """The head of a CBOR text string of `size` bytes (RFC 8949, major type 3, shortest form)."""
    if size < 24:
        return bytes((0x60 | size,))
    for code, width in ((0x78, 1), (0x79, 2), (0x7A, 4), (0x7B, 8)):
        if size < 1 << (8 * width):
            return bytes((code,)) + size.to_bytes(width, "big")
    raise OverflowError("a CBOR text string holds less than 2**64 bytes")


def pair_head(flag_key: str) -> bytes:
    """The CBOR of `[flag_key, targeting_key]` up to the second element."""
    return b"\x82" + cbor2.dumps(flag_key, canonical=True)


TEXT_HEADS: Final = tuple(text_head(size) for size in range(TEXT_BYTES_MAX))
"""The heads of texts below 256 bytes, by size; longer keys are rare and go the slow way."""


class Heads(dict[int, bytes]):
    """`heads[size]`: the CBOR of `[flag_key, targeting_key]` before the latter's `size` bytes.

    Raises KeyError for an empty targeting key, which is none.
    """

    __slots__ = ("_before",)

    def __init__(self, before: bytes) -> None:
        super().__init__()
        self._before = before

    def __missing__(self, size: int) -> bytes:
        if size == 0:
            raise KeyError(size)
        head = self._before + text_head(size)
        if size < PAIR_BYTES_MAX:
            self[size] = head
        return head


def whole_floats_as_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: whole_floats_as_integers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [whole_floats_as_integers(item) for item in value]
    if isinstance(value, float) and value.is_integer() and _INTEGER_MIN <= value <= _INTEGER_MAX:
        return int(value)
    return value


def key_bytes(value: Any, bucketing: Bucketing) -> bytes | None:
    """The bytes that are hashed; None for a key that flagd does not bucket by.

    Raises UnicodeEncodeError for a lone surrogate in v2, where flagd fails too.
    """
    if bucketing == "v2":
        return value.encode() if isinstance(value, str) and value else None
    if value is None:
        return None
    try:
        return cbor2.dumps(whole_floats_as_integers(value), canonical=True)
    except Exception:  # noqa: BLE001 - whatever CBOR can't hold is no key; flagd gives null as well
        return None


def hash32(key: bytes) -> int:
    return int(mmh3.hash(key, 0, False))


def weight_of(arm: Any) -> int | None:
    """The weight of `[variant, weight = 1]`, a negative one being 0; None for an invalid arm."""
    if not isinstance(arm, list | tuple) or not 1 <= len(arm) <= 2:
        return None
    if len(arm) == 1:
        return 1
    weight = arm[1]
    if isinstance(weight, bool) or not isinstance(weight, int):
        return None
    return max(0, weight)


def weights_of(arms: list[Any]) -> list[int] | None:
    """All weights; None when an arm is invalid or their sum is not in 1..2147483647."""
    weights = [weight_of(arm) for arm in arms]
    if None in weights:
        return None
    total = sum(weight for weight in weights if weight is not None)
    if not 0 < total <= WEIGHT_SUM_MAX:
        return None
    return [weight for weight in weights if weight is not None]


def bucket_of(hash_value: int, total: int) -> int:
    return (hash_value * total) >> 32


def arm_of(bucket: int, weights: list[int]) -> int:
    """The index of the arm that owns `bucket`, which is below the sum of `weights`."""
    end = 0
    for index, weight in enumerate(weights):
        end += weight
        if bucket < end:
            return index
    raise ValueError("the bucket is not below the sum of the weights")


def hash_limits(weights: list[int]) -> list[int]:
    """For each arm the hash at which it ends: `bucket < end` is `hash < ceil(end * 2**32 / sum)`.

    Saves the generated code a multiplication and a shift.
    """
    total = sum(weights)
    limits, end = [], 0
    for weight in weights:
        end += weight
        limits.append(-((-end << 32) // total))
    return limits
