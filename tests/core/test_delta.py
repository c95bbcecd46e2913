"""Deltas lead to the very bytes that they say, and everything else is refused."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.histories import FOUNDATION, random_changes, serving, state_after, states
from tests.core.test_build import buildable, made, put

from holdfast.core import delta as delta_module
from holdfast.core import limits
from holdfast.core.delta import apply_delta, decode_delta, make_delta
from holdfast.core.errors import Untrusted
from holdfast.core.model import DeleteSetting, Edit
from holdfast.core.snapshot import encode
from holdfast.core.subjects import subjects
from holdfast.core.wire import canonical, digest

WIDE = state_after([put(f"k{i}", serving("on")) for i in range(40)])
NEXT = state_after(
    [put("k3", serving("off")), DeleteSetting(service="shop", key="k4"), put("new", serving("on"))],
    start=WIDE,
)
OLD, NEW = encode(made(WIDE)), encode(made(NEXT))


def delta() -> bytes:
    body = make_delta(OLD, NEW)
    assert body is not None
    return body


def test_a_delta_holds_what_changed_and_nothing_else() -> None:
    read = decode_delta(delta())
    assert read.patches["flags"].put.keys() == {"k3", "new"}
    assert read.patches["flags"].drop == ("k4",)
    assert read.patches["removed"].put.keys() == {"k4"}
    assert read.patches.keys() == {"flags", "settings", "removed", "probes"}
    assert read.patches["probes"].put.keys() == read.patches["flags"].put.keys()
    assert len(delta()) < len(NEW) / 5


def test_applied_it_gives_the_new_bytes() -> None:
    assert apply_delta(OLD, delta()) == NEW


def test_a_delta_that_is_not_worth_it_is_none() -> None:
    other = encode(made(state_after([put(f"x{i}", serving("on")) for i in range(40)])))
    assert make_delta(OLD, other) is None


@settings(max_examples=40, deadline=None)
@given(random_changes)
def test_every_next_snapshot_is_reached(changes: list[Sequence[Edit]]) -> None:
    worth, delta_module.WORTH_SHARE_MAX = delta_module.WORTH_SHARE_MAX, 1e9  # type: ignore[misc]
    try:
        last: dict[Any, bytes] = {}
        for state in states([FOUNDATION, *changes])[1:]:
            for subject in subjects(state):
                new = buildable(state, subject)
                if new is not None:
                    old = last.setdefault(subject, new)
                    made_delta = make_delta(old, new)
                    assert made_delta is not None
                    assert apply_delta(old, made_delta) == new
                    last[subject] = new
    finally:
        delta_module.WORTH_SHARE_MAX = worth  # type: ignore[misc]


def test_a_delta_for_another_snapshot_is_refused() -> None:
    with pytest.raises(Untrusted) as refusal:
        apply_delta(NEW, delta())
    assert refusal.value.code == "delta-base"


def changed(**fields: Any) -> bytes:
    return canonical(msgspec.structs.replace(decode_delta(delta()), **fields))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "delta"),
        (b"null", "delta"),
        (b"[" * 100_000, "delta"),
        (delta()[:-1], "delta"),
        (delta().replace(b'"few"', b'"fex"').replace(b'"on"', b'"no"'), "delta"),
        (changed(format=2), "format"),
        (changed(bytes=limits.SNAPSHOT_BYTES_MAX + 1), "snapshot-size"),
        (changed(digest="0" * 64), "delta"),
        (changed(patches={"nowhere": {"put": {}}}), "delta"),
        (changed(patches={}), "delta"),
        (delta().replace(b'"put":{"k3"', '"put":{"\U0001f600"'.encode(), 1), "delta"),
        (changed(rest={}), "delta"),
    ],
)
def test_garbage_and_lies_are_refused(body: bytes, code: str) -> None:
    with pytest.raises(Untrusted) as refusal:
        apply_delta(OLD, body)
    assert refusal.value.code == code


@settings(max_examples=200)
@given(st.data())
def test_no_flipped_byte_changes_the_result(data: st.DataObject) -> None:
    body = bytearray(delta())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    with suppress(Untrusted):
        assert digest(apply_delta(OLD, bytes(body))) == digest(NEW)


def test_a_base_that_is_no_snapshot_is_refused() -> None:
    for garbage in (b"", b"{}", b'{"flags":{},"$evaluators":{},"holdfast":{},"metadata":{}}'):
        with pytest.raises(Untrusted) as refusal:
            make_delta(garbage, NEW)
        assert refusal.value.code == "shape"
        with pytest.raises(Untrusted) as refusal:
            apply_delta(garbage, changed(base=digest(garbage)))
        assert refusal.value.code == "shape"
