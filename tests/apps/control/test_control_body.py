"""The door for bodies: what is no clear JSON of the right shape is refused, once and clearly."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.apps.control import body as body_module
from holdfast.apps.control.body import DEPTH_MAX, BadBody, decode
from holdfast.apps.control.schemas import ChangeBody, RestoreBody


class Box(msgspec.Struct, forbid_unknown_fields=True):
    value: Any = None
    text: str = ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the body is empty"),
        (b"{", "not JSON"),
        (b'{"value": NaN}', "not JSON"),
        (b'{"value": Infinity}', "not JSON"),
        (b'{"value": 1e999}', "out of range"),
        (b'{"value": %s}' % (b"9" * 10_000), "out of range"),
        (b'{"value": "\\ud800"}', "half of a surrogate pair"),
        (b'{"value": "\\udc00x"}', "half of a surrogate pair"),
        (b'{"value": "\xed\xa0\x80"}', "not JSON"),
        (b'{"\\ud800": 1}', "half of a surrogate pair"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"{} {}", "not JSON"),
        (b'{"text": "a", "text": "b"}', "'text' stands twice"),
        (b'{"value": [{"a": 1, "b": 2, "a": 3}]}', "'a' stands twice"),
        (b'{"text": 1}', "Expected `str`, got `int`"),
        (b'{"other": 1}', "unknown field `other`"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"value": ' + b"[" * 1000 + b"]" * 1000 + b"}", "nested deeper"),
        (b'{"value": ' + b'{"a":' * 1000 + b"1" + b"}" * 1000 + b"}", "nested deeper"),
        (b'{"value": ' + b"[" * 100_000, "nested deeper"),
    ],
)
def test_one_clear_refusal_for_each_way_to_be_wrong(body: bytes, says: str) -> None:
    with pytest.raises(BadBody) as refused:
        decode(body, Box)
    assert says in str(refused.value)
    assert [problem.code for problem in refused.value.problems] == ["bad-body"]


@pytest.mark.parametrize(
    ("field", "value", "message", "hint"),
    [
        ("service", "a/b", "this is not a name", "lower-case letters"),
        ("key", "a/b", "this is not a key", "single dots"),
    ],
)
def test_a_rule_for_names_is_said_in_words(field: str, value: str, message: str, hint: str) -> None:
    with pytest.raises(BadBody) as refused:
        decode(msgspec.json.encode({"service": "a", field: value}), RestoreBody)
    [problem] = refused.value.problems
    assert (problem.message, problem.path) == (message, f"/{field}")
    assert hint in problem.hint
    assert "^" not in problem.message + problem.hint


def test_json_of_the_standard_library_would_have_let_the_damage_in() -> None:
    assert json.loads('{"a": NaN, "a": 1}') == {"a": 1}
    assert json.loads('"\\ud800"') == "\ud800"


def test_the_place_is_a_json_pointer() -> None:
    body = b'{"edits": [{"type": "put-setting", "service": "a", "key": 7}]}'
    with pytest.raises(BadBody) as refused:
        decode(body, ChangeBody)
    assert refused.value.problems[0].path == "/edits/0/key"


@given(json_values)
def test_what_is_clear_json_comes_through_as_it_is(value: object) -> None:
    assert decode(json.dumps({"value": value}).encode(), Box).value == value


@given(json_values)
def test_the_depth_is_what_a_walk_counts(value: object) -> None:
    def depth(inner: object) -> int:
        if isinstance(inner, dict):
            return 1 + max(map(depth, inner.values()), default=0)
        if isinstance(inner, list):
            return 1 + max(map(depth, inner), default=0)
        return 0

    assert body_module._depth(json.dumps(value, ensure_ascii=False).encode()) == depth(value)


@pytest.mark.parametrize("inner", [b"[" * 2_000_000 + b"]" * 2_000_000, b"[" * 4_000_000])
def test_the_deepest_body_is_refused_as_any_deep_one(inner: bytes) -> None:
    with pytest.raises(BadBody, match="nested deeper"):
        decode(b'{"value": ' + inner + b"}", Box)


@pytest.mark.parametrize("depth", [DEPTH_MAX - 1, DEPTH_MAX])
def test_the_bound_on_nesting_is_exact(depth: int) -> None:
    body = b'{"value":' + b"[" * depth + b"]" * depth + b"}"
    if depth < DEPTH_MAX:
        decode(body, Box)
    else:
        with pytest.raises(BadBody):
            decode(body, Box)


@given(st.binary(max_size=64))
def test_no_bytes_break_the_door(body: bytes) -> None:
    with contextlib.suppress(BadBody):
        decode(body, Box)
