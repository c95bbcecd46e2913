"""Bucketing, against published vectors and against cbor2."""

from __future__ import annotations

import json

import cbor2
import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.evaluate import Evaluator
from holdfast.core.model import Bucketing
from holdfast.core.targeting import bucket

SUITS = ["clubs", "diamonds", "hearts", "spades"]
CARDS = {
    "targeting": {
        "fractional": [
            {"cat": [{"var": "$flagd.flagKey"}, {"var": "user.name"}]},
            *[[suit, 25] for suit in SUITS],
        ]
    },
    "state": "ENABLED",
    "variants": {suit: suit for suit in SUITS},
    "defaultVariant": "clubs",
}
VECTORS: dict[Bucketing, dict[str, str]] = {
    "v2": {
        "jack": "hearts", "queen": "spades", "ten": "clubs", "nine": "diamonds", "3": "clubs",
    },
    "v3": {
        "jack": "diamonds", "queen": "diamonds", "ten": "clubs", "nine": "clubs", "3": "spades",
    },
}  # fmt: skip
weights = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6).filter(
    lambda each: 0 < sum(each) < 2**31
)


@pytest.mark.parametrize("bucketing", ["v2", "v3"])
def test_published_vectors(bucketing: Bucketing) -> None:
    evaluator = Evaluator(
        {"fractional-flag": json.dumps(CARDS).encode()}, bucketing=bucketing, now_s=lambda: 0.0
    )
    given = {
        name: evaluator.evaluate("fractional-flag", {"user": {"name": name}}).variant
        for name in VECTORS[bucketing]
    }
    assert given == VECTORS[bucketing]


@given(st.text())
def test_a_text_is_its_head_and_its_bytes(text: str) -> None:
    body = text.encode()
    assert bucket.text_head(len(body)) + body == cbor2.dumps(text, canonical=True)


@pytest.mark.parametrize("size", [0, 23, 24, 255, 256, 65_535, 65_536])
def test_heads_change_with_the_size(size: int) -> None:
    assert bucket.text_head(size) + b"a" * size == cbor2.dumps("a" * size, canonical=True)


SIZES = [1, 2, 3, 4, 22, 23, 24, 25, 127, 128, 255, 256, 300]
names = st.one_of(st.text(), st.sampled_from(SIZES).map("f".__mul__))
keys = st.one_of(
    st.text(min_size=1),
    st.sampled_from(SIZES).map("k".__mul__),
    st.sampled_from(SIZES).map("é".__mul__),
)


@given(st.binary(min_size=4, max_size=4), st.binary())
def test_zeros_after_the_seed_hash_as_the_block(block: bytes, rest: bytes) -> None:
    zeros = mmh3.hash(bytes(4) + rest, bucket.seed_of(block), signed=False)
    assert zeros == bucket.hash32(block + rest)


@given(names, keys)
def test_the_shorthands_hash_is_the_pairs(flag_key: str, targeting_key: str) -> None:
    body = bucket.pair_head(flag_key) + cbor2.dumps(targeting_key, canonical=True)
    assert body == bucket.key_bytes([flag_key, targeting_key], "v3")
    hashed = bucket.TextHash(bucket.pair_head(flag_key))
    assert hashed(targeting_key) == hashed(targeting_key) == bucket.hash32(body)


@given(st.one_of(st.just(""), keys))
def test_a_texts_hash_is_its_cbors(text: str) -> None:
    expected = bucket.hash32(cbor2.dumps(text, canonical=True))
    assert bucket.TEXT_HASH(text) == bucket.TEXT_HASH(text) == expected


def test_an_empty_targeting_key_is_none() -> None:
    hashed = bucket.TextHash(bucket.pair_head("key"))
    for _ in range(2):
        with pytest.raises(ValueError, match="empty"):
            hashed("")


KEYED: dict[str, list[object]] = {
    "pair": [],
    "text": [{"var": "targetingKey"}],
    "cat": [{"cat": [{"var": "$flagd.flagKey"}, {"var": "targetingKey"}]}],
}
NO_TEXTS = (None, 5, 2.0, True, [], ["k"] * 3, {"a": 1}, b"k", b"\xff")


@pytest.mark.parametrize("bucketing", ["v2", "v3"])
@pytest.mark.parametrize("shape", KEYED)
@pytest.mark.parametrize("flag_key", ["k", "flag", "é", "fé", "f" * 130, "f" * 260])
def test_generated_code_chooses_the_interpreters_arm(
    bucketing: Bucketing, shape: str, flag_key: str
) -> None:
    arms = [[f"v{index}", 1] for index in range(40)]
    flag = {
        "state": "ENABLED",
        "variants": {f"v{index}": index for index in range(40)},
        "targeting": {"fractional": [*KEYED[shape], *arms]},
    }
    evaluator = Evaluator(
        {flag_key: json.dumps(flag).encode()}, bucketing=bucketing, now_s=lambda: 0.0
    )
    contexts = [{"targetingKey": first * size} for first in "aé日" for size in SIZES]
    contexts += [{"targetingKey": key} for key in ("", "\ud800", *NO_TEXTS)]
    for context in ({}, *contexts, *contexts):  # again, with the heads that the first round filled
        answered = evaluator.evaluate(flag_key, context)
        interpreted = evaluator.explain(flag_key, context)
        assert (answered.variant, answered.reason) == (interpreted.variant, interpreted.reason)


@pytest.mark.parametrize(
    ("value", "same"), [(1.0, 1), (-0.0, 0), ([2.0, {"a": 3.0}], [2, {"a": 3}]), (2.0**63, 2**63)]
)
def test_whole_floats_hash_as_integers(value: object, same: object) -> None:
    assert bucket.key_bytes(value, "v3") == bucket.key_bytes(same, "v3")


def test_floats_beyond_64_bits_stay_floats() -> None:
    assert bucket.key_bytes(2.0**64, "v3") == cbor2.dumps(2.0**64, canonical=True)


@given(weights, st.integers(0, 2**32 - 1))
def test_hash_limits_choose_the_arm_that_the_bucket_does(shares: list[int], hashed: int) -> None:
    arm = bucket.arm_of(bucket.bucket_of(hashed, sum(shares)), shares)
    assert arm == sum(limit <= hashed for limit in bucket.hash_limits(shares))


@given(weights, st.data())
def test_hash_limits_are_exact_at_their_edges(shares: list[int], data: st.DataObject) -> None:
    limit = data.draw(st.sampled_from(bucket.hash_limits(shares)))
    for hashed in (limit - 1, limit):
        if 0 <= hashed < 2**32:
            arm = bucket.arm_of(bucket.bucket_of(hashed, sum(shares)), shares)
            assert arm == sum(each <= hashed for each in bucket.hash_limits(shares))


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        ([["a"], ["b"]], [1, 1]),
        ([["a", -3], ["b", 2]], [0, 2]),
        ([["a", 0]], None),
        ([["a", 2**31 - 1]], [2**31 - 1]),
        ([["a", 2**31]], None),
        ([["a", 1.0]], None),
        ([["a", True]], None),
        ([["a", 1, 2]], None),
        ([[]], None),
        (["a"], None),
        ([], None),
    ],
)
def test_weights(arms: list[object], expected: list[int] | None) -> None:
    assert bucket.weights_of(arms) == expected


def test_the_hash_is_murmur3_x86_32_with_seed_0() -> None:
    assert bucket.hash32(b"holdfast") == mmh3.hash(b"holdfast", 0, signed=False)
    assert bucket.hash32(b"") == 0


def test_two_splits_are_independent() -> None:
    """A tenth of the users in each of two splits: about a hundredth in both."""
    arms = [["on", 10], ["off", 90]]
    flag = {"state": "ENABLED", "variants": {"on": 1, "off": 0}, "targeting": {"fractional": arms}}
    body = json.dumps(flag).encode()
    evaluator = Evaluator({"one": body, "two": body}, now_s=lambda: 0.0)
    users = [{"targetingKey": f"user-{number}"} for number in range(10_000)]
    both = sum(
        evaluator.evaluate("one", user).variant == evaluator.evaluate("two", user).variant == "on"
        for user in users
    )
    assert 60 <= both <= 145
