"""Segment tables: fetched once, kept beside the generations that refer to them, and no longer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tests.sdk.publisher import SHOP, Publisher, flag
from tests.sdk.waiting import until

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.memory_cache import MemoryCache
from holdfast.adapters.memory_source import MemorySource
from holdfast.core.errors import Unavailable
from holdfast.core.snapshot import SegmentFacts
from holdfast.core.targeting.segments import build
from holdfast.core.wire import digest
from holdfast.sdk.follower import Follower, Following

RULE = {"if": [{"in_segment": [{"var": "tenant"}, "pilot"]}, "many", None]}


class Shop:
    """One publisher with one segment, one upstream, one cache, and followers on them."""

    def __init__(self) -> None:
        self.cache = MemoryCache()
        self.source = MemorySource()
        self.publisher = Publisher()
        self._followers: list[Follower] = []

    def publish(self, *members: str) -> str:
        """A revision in which these are in the segment; gives the table's digest."""
        table = build(members)
        name = digest(table)
        self.publisher.segments = {"pilot": SegmentFacts("tenant", name, len(members), len(table))}
        bundle = self.publisher.publish(tiles={**flag(9, many=49), "targeting": RULE})
        self.source.put_segment(name, table)
        self.source.put(SHOP, self.publisher.digest, bundle, self.publisher.fresh())
        return name

    def start(self) -> Follower:
        follower = Follower(
            Following(
                sources=lambda: [self.source],
                cache=self.cache,
                verify=verify,
                subjects=(SHOP,),
                poll_interval_s=0.05,
            )
        )
        self._followers.append(follower)
        follower.start()
        return follower

    def restart(self) -> Follower:
        """With everything dead: from the disk alone."""
        self.close()
        self.source.fail(Unavailable("dead"))
        return self.start()

    def close(self) -> None:
        for follower in self._followers:
            follower.close()

    def tables(self) -> set[str]:
        return {name.rpartition(".")[2] for name in self.cache.names("segment.")}


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.close()


def answer(follower: Follower, tenant: str) -> Any:
    generation = follower.generation(SHOP)
    return generation.evaluator.evaluate("tiles", {"tenant": tenant}).value if generation else None


def kept(shop: Shop, revision: int) -> bool:
    return f'"revision":{revision}'.encode() in next(iter(shop.cache.load(SHOP)), b"")


def test_a_start_with_everything_dead_knows_who_is_in_a_segment(shop: Shop) -> None:
    shop.publish("contoso")
    first = shop.start()
    until(lambda: answer(first, "contoso") == 49 and kept(shop, 1))
    second = shop.restart()
    assert (answer(second, "contoso"), answer(second, "other")) == (49, 9)


def test_a_generation_without_its_table_is_passed_over_for_the_one_before(shop: Shop) -> None:
    shop.publish("contoso")
    follower = shop.start()
    until(lambda: kept(shop, 1))
    newer = shop.publish("fabrikam")
    until(lambda: answer(follower, "fabrikam") == 49 and kept(shop, 2))
    shop.cache.forget(f"segment.production.demo-shop.{newer}")
    again = shop.restart()
    assert (answer(again, "contoso"), answer(again, "fabrikam")) == (49, 9)


def test_tables_stay_as_long_as_a_generation_on_disk_refers_to_them(shop: Shop) -> None:
    tables = []
    follower = shop.start()
    for n in range(1, 8):
        tables.append(shop.publish(f"tenant-{n}"))
        until(lambda n=n: answer(follower, f"tenant-{n}") == 49 and kept(shop, n))  # type: ignore[misc]
        assert set(tables[-3:]) <= shop.tables(), "three generations are kept, with theirs"
    until(lambda: set(tables[:3]).isdisjoint(shop.tables()))


class Watched(MemoryCache):
    """A cache on which another process notes a table, `theirs`, and not yet what refers to it."""

    theirs = f"segment.production.demo-shop.{'e' * 64}"
    looks = 0

    def names(self, prefix: str) -> Sequence[str]:
        if prefix == "segment.production.demo-shop.":
            self.looks += 1
            if self.looks == 1:
                self.note(self.theirs, b"a table whose generation comes next")
        return super().names(prefix)


def test_what_another_process_is_about_to_refer_to_is_left_alone(shop: Shop) -> None:
    shop.cache = cache = Watched()
    shop.publish("contoso")
    follower = shop.start()
    until(lambda: cache.looks == 1 and kept(shop, 1))
    assert cache.noted(cache.theirs)
    shop.publish("fabrikam")
    until(lambda: answer(follower, "fabrikam") == 49 and cache.noted(cache.theirs) is None)
