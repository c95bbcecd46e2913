"""What every cache promises: the disk, and its twin in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.adapters.disk_cache import DiskCache
from holdfast.adapters.memory_cache import MemoryCache
from holdfast.core.model import Subject
from holdfast.ports import Cache

SHOP = Subject("production", "demo-shop")
ACCESS = Subject("production", "_access")


@pytest.fixture(params=["disk", "memory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    makers: dict[str, Callable[[], Cache]] = {
        "disk": lambda: DiskCache(tmp_path),
        "memory": MemoryCache,
    }
    return makers[request.param]()


def test_an_empty_cache_has_nothing(cache: Cache) -> None:
    assert list(cache.load(SHOP)) == []
    assert cache.noted("root") is None
    assert list(cache.subjects()) == []
    assert list(cache.names("")) == []
    cache.forget("root")


def test_generations_come_newest_first(cache: Cache) -> None:
    for revision in (2, 10, 9):
        cache.save(SHOP, revision, b"body %d" % revision)
    assert list(cache.load(SHOP)) == [b"body 10", b"body 9", b"body 2"]


def test_the_newest_three_are_kept(cache: Cache) -> None:
    for revision in (5, 6, 7, 8, 1):
        cache.save(SHOP, revision, b"body %d" % revision)
    assert list(cache.load(SHOP)) == [b"body 8", b"body 7", b"body 6"]


def test_saving_again_changes_nothing(cache: Cache) -> None:
    for _ in range(5):
        cache.save(SHOP, 1, b"body")
    assert list(cache.load(SHOP)) == [b"body"]


def test_subjects_are_apart(cache: Cache) -> None:
    cache.save(SHOP, 1, b"shop")
    cache.save(ACCESS, 1, b"access")
    assert list(cache.load(SHOP)) == [b"shop"]
    assert list(cache.subjects()) == [ACCESS, SHOP]


def test_documents_are_kept_by_name(cache: Cache) -> None:
    cache.note("segment.a.1", b"one")
    cache.note("segment.a.1", b"two")
    cache.note("segment.b.1", b"")
    assert cache.noted("segment.a.1") == b"two"
    assert cache.noted("segment.b.1") == b""
    assert list(cache.names("segment.a.")) == ["segment.a.1"]
    cache.forget("segment.a.1")
    assert list(cache.names("segment.")) == ["segment.b.1"]


def test_nothing_is_damaged(cache: Cache) -> None:
    cache.save(SHOP, 1, b"body")
    list(cache.load(SHOP))
    assert cache.damaged == 0
