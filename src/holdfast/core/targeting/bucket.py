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
"""Texts below this size have generated code; longer keys are rare and are interpreted."""
_BLOCK_BYTES: Final = 4
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


def seed_of(block: bytes) -> int:
    """The seed from which four zero bytes leave MurmurHash3 where `block` leaves it from seed 0.

    A block is mixed by itself and then xored into the state, which is the seed at first; zeros mix
    to zero. So the seed is the mixed block. No block at all gives 0.
    """
    mixed = int.from_bytes(block, "little") * 0xCC9E2D51 & 0xFFFFFFFF
    mixed = (mixed << 15 | mixed >> 17) & 0xFFFFFFFF
    return mixed * 0x1B873593 & 0xFFFFFFFF


class TextHash:
    """Hashes CBOR that is a text after the constant bytes `before`.

    `mmh3.hash(heads[len(text)] + text, seed, False)` is the hash of an ASCII text when that head
    is not None: one text is hashed faster than it is encoded and joined to bytes. The 0x82 of a
    pair is in no text, so zeros stand for its block, and the seed makes up for them.

    Calling it gives the hash of any text, and fills the head of its size where there is one.
    """

    __slots__ = ("_before", "_skipped", "heads", "seed")

    def __init__(self, before: bytes) -> None:
        self._before = before
        self._skipped = _BLOCK_BYTES if len(before) >= _BLOCK_BYTES else 0
        self.seed = seed_of(before[: self._skipped])
        self.heads: list[str | None] = [None] * TEXT_BYTES_MAX

    def __call__(self, text: str) -> int:
        """Raises AttributeError for what is no text, ValueError for text without a hash."""
        body = text.encode()  # raises for a lone surrogate, on which `mmh3.hash` crashes
        size = len(body)
        head = self.heads[size] if size < TEXT_BYTES_MAX else None
        if head is None:
            return self._first(body, size)
        return int(mmh3.hash(head + text, self.seed, False))

    def _first(self, body: bytes, size: int) -> int:
        if self._before and not body:
            raise ValueError("an empty targeting key is none")
        head = self._before + text_head(size)
        rest = head[self._skipped :]
        if size < TEXT_BYTES_MAX and rest.isascii():
            self.heads[size] = "\0" * self._skipped + rest.decode()
        return hash32(head + body)


TEXT_HASH: Final = TextHash(b"")
"""For keys that are one text; all settings share it."""


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
