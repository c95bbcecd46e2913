"""One cache, two processes that know it, one that writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.adapters.disk_cache import DiskCache
from holdfast.adapters.memory_cache import MemoryCache
from holdfast.apps.edge.owned_cache import OwnedCache
from holdfast.core.errors import Unavailable
from holdfast.core.model import Subject

SHOP, MAIL = Subject("production", "shop"), Subject("production", "mail")


def test_what_is_written_before_it_is_ours_waits_and_is_read_here() -> None:
    disk = MemoryCache()
    disk.note("old", b"1")
    cache = OwnedCache(disk, ours=False)
    cache.save(SHOP, 2, b"two")
    cache.note("new", b"n")
    cache.forget("old")
    assert (list(disk.load(SHOP)), disk.noted("new"), disk.noted("old")) == ([], None, b"1")
    assert list(cache.load(SHOP)) == [b"two"]
    assert (cache.noted("new"), cache.noted("old")) == (b"n", None)
    assert (cache.subjects(), cache.names("")) == ([SHOP], ["new"])
    cache.take_up()
    assert (list(disk.load(SHOP)), disk.noted("new"), disk.noted("old")) == ([b"two"], b"n", None)


def test_who_lays_it_down_dies_for_itself_alone(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path)
    cache = OwnedCache(disk)
    cache.enter("trial")
    marks = tmp_path / "holdfast-1" / "running"
    assert list(marks.glob("trial.*"))
    cache.lay_down()
    assert not list(marks.glob("trial.*"))
    cache.take_up()
    assert list(marks.glob("trial.*"))
    cache.leave("trial")
    assert not list(marks.glob("trial.*"))


class Sick(MemoryCache):
    """Takes nothing while it is full."""

    full = True

    def save(self, *given: Any) -> None:
        if self.full:
            raise Unavailable("full")
        super().save(*given)

    def note(self, name: str, body: bytes) -> None:
        if self.full:
            raise Unavailable("full")
        super().note(name, body)


def test_what_waited_and_was_refused_is_written_when_the_disk_is_well_again() -> None:
    disk = Sick()
    cache = OwnedCache(disk, ours=False)
    cache.save(SHOP, 1, b"one")
    cache.save(MAIL, 1, b"mail")
    cache.note("pinned", b"p")
    cache.take_up()
    assert cache.failed == 1
    assert (list(cache.load(SHOP)), cache.noted("pinned")) == ([b"one"], b"p")
    with pytest.raises(Unavailable):
        cache.save(SHOP, 2, b"two")
    disk.full = False
    cache.save(SHOP, 2, b"two")
    assert (list(disk.load(SHOP)), list(disk.load(MAIL))) == ([b"two"], [b"mail"])
    assert disk.noted("pinned") == b"p"
    assert list(cache.load(SHOP)) == [b"two"]


writes = st.lists(
    st.one_of(
        st.tuples(st.just("note"), st.sampled_from("abc"), st.binary(max_size=3)),
        st.tuples(st.just("forget"), st.sampled_from("abc")),
        st.tuples(st.just("turn"), st.booleans()),
    )
)


@given(writes)
def test_what_is_read_is_what_was_written_whoever_owns_it(done: list[tuple]) -> None:
    disk, plain = MemoryCache(), MemoryCache()
    cache = OwnedCache(disk)
    for name, *facts in done:
        if name == "turn":
            (cache.take_up if facts[0] else cache.lay_down)()
            continue
        before = [disk.noted(each) for each in "abc"]
        for each in (cache, plain):
            getattr(each, name)(*facts)
        if not cache.ours:
            assert before == [disk.noted(each) for each in "abc"]
        assert [cache.noted(each) for each in "abc"] == [plain.noted(each) for each in "abc"]
        assert cache.names("") == plain.names("")
    cache.take_up()
    assert [disk.noted(each) for each in "abc"] == [plain.noted(each) for each in "abc"]
