"""Segment tables: who is in, the same bytes always, and no damaged table is believed."""

from __future__ import annotations

import mmap
import random
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import Damaged
from holdfast.core.targeting import segments
from holdfast.core.targeting.segments import HEADER_BYTES, MAGIC, SegmentTable, build

PINNED = (
    "48465345474d4e5401000000050000000200000000000000f13adf95fb7bc70b8cf893436809d680"
    "000000000000000091298fb1d109fa4f20f0d8b68f2fc26d00000000000000000000000000000000"
)
members = st.sets(st.text(max_size=8), max_size=60)


@given(members, st.sets(st.text(max_size=8), max_size=60))
def test_members_are_in_and_others_are_not(inside: set[str], others: set[str]) -> None:
    table = SegmentTable(build(inside))
    assert all(member in table for member in inside)
    assert not any(other in table for other in others - inside)
    assert len(table) == len(inside)


@given(st.lists(st.text(max_size=4), max_size=40), st.randoms())
def test_the_bytes_follow_from_the_members(listed: list[str], chance: random.Random) -> None:
    shuffled = listed + listed[:5]
    chance.shuffle(shuffled)
    assert build(shuffled) == build(listed)


def test_the_bytes_are_pinned() -> None:
    """Tables travel under their digest: another layout is another format."""
    body = build(["contoso", "fabrikam"])
    assert body[:8] == MAGIC
    assert body.hex() == PINNED


@pytest.mark.parametrize("value", [None, 1, True, 1.5, b"contoso", ["contoso"], {}, "\ud800"])
def test_what_is_no_text_is_no_member(value: object) -> None:
    assert value not in SegmentTable(build(["contoso", "1", "True", "None"]))


def test_a_hundred_thousand_members() -> None:
    inside = [f"tenant-{number}" for number in range(100_000)]
    body = build(inside)
    table = SegmentTable(body)
    assert all(member in table for member in inside)
    assert not any(f"guest-{number}" in table for number in range(100_000))
    assert len(body) <= 17 * len(inside)


def test_a_table_may_be_mapped() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(build(["contoso"]))
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            table = SegmentTable(mapped)
            assert "contoso" in table
            assert "fabrikam" not in table
            del table


@pytest.mark.parametrize("count", [0, 1, 5])
def test_any_changed_bit_is_found(count: int) -> None:
    body = build([f"tenant-{number}" for number in range(count)])
    for bit in range(len(body) * 8):
        changed = bytearray(body)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            SegmentTable(bytes(changed))


@given(members, st.data())
def test_a_cut_table_is_refused(inside: set[str], data: st.DataObject) -> None:
    body = build(inside)
    with pytest.raises(Damaged):
        SegmentTable(body[: data.draw(st.integers(0, len(body) - 1))])
    with pytest.raises(Damaged):
        SegmentTable(body + bytes(8))


def test_without_the_checksum_a_changed_byte_would_lose_a_member() -> None:
    body = bytearray(build(["contoso"]))
    table = SegmentTable(bytes(body))
    home = next(at for at in range(HEADER_BYTES, len(body)) if body[at])
    body[home] ^= 1
    table._slots = memoryview(bytes(body))[HEADER_BYTES:].cast("Q")
    assert "contoso" not in table


def test_a_build_that_looks_members_up_otherwise_is_found_without_a_probe(monkeypatch) -> None:
    assert segments.finds_members()
    monkeypatch.setattr(segments.SegmentTable, "__contains__", lambda *_: False)
    assert not segments.finds_members()
