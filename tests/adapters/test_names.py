"""Names are looked up within a time, by few threads, and what was found last is good for later."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator

import pytest

from holdfast.adapters import names
from holdfast.adapters.names import ADDRESSES_MAX, LOOKUPS_MAX, NAMES, NAMES_MAX, Names

SOON_S = 0.05
LONG_S = 20.0


class Resolver:
    """Answers what it is told, fails, or hangs until it is let go."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.hangs = False
        self.freed = threading.Event()

    def __call__(self, host: str) -> Iterable[str]:
        self.asked.append(host)
        if self.hangs:
            self.freed.wait(LONG_S)
        if host not in self.found:
            raise OSError(f"{host}: no such name")
        return self.found[host]


def asked_of(resolver: Resolver, often: int) -> list[str]:
    """What it was asked, once that was so often."""
    until_s = time.monotonic() + LONG_S
    while len(resolver.asked) < often and time.monotonic() < until_s:
        time.sleep(0.01)
    return resolver.asked


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    made = Resolver()
    yield made
    made.freed.set()


def test_an_address_is_its_own_name(resolver: Resolver) -> None:
    mine = Names(resolver)
    for host in ("127.0.0.1", "::1"):
        assert mine.addresses(host, LONG_S) == (host,)
    assert resolver.asked == []


def test_the_system_knows_this_machine() -> None:
    assert {"127.0.0.1", "::1"} & set(NAMES.addresses("localhost", LONG_S))


def test_each_look_up_is_a_new_one(resolver: Resolver) -> None:
    mine = Names(resolver)
    resolver.found = {"edge": ["10.0.0.1"]}
    assert mine.addresses("edge", LONG_S) == ("10.0.0.1",)
    resolver.found = {"edge": ["10.0.0.2", "10.0.0.3"]}
    assert mine.addresses("edge", LONG_S) == ("10.0.0.2", "10.0.0.3")


def test_what_was_found_last_is_good_when_the_name_is_gone(resolver: Resolver) -> None:
    mine = Names(resolver)
    with pytest.raises(OSError, match="no such name"):
        mine.addresses("edge", LONG_S)
    for found in (["10.0.0.1"], []):
        resolver.found = {"edge": found}
        assert mine.addresses("edge", LONG_S) == ("10.0.0.1",)
    resolver.found = {}
    assert mine.addresses("edge", LONG_S) == ("10.0.0.1",)


def test_a_name_without_addresses_is_no_way_to_anybody(resolver: Resolver) -> None:
    resolver.found = {"edge": []}
    with pytest.raises(OSError, match="has none"):
        Names(resolver).addresses("edge", LONG_S)


def test_who_asks_waits_no_longer_than_he_says(resolver: Resolver) -> None:
    resolver.hangs = True
    mine = Names(resolver)
    for _ in range(3):
        with pytest.raises(OSError, match="timed out"):
            mine.addresses("edge", SOON_S)
    assert asked_of(resolver, 1) == ["edge"], "one thread waits, however often it is asked"


def test_what_comes_late_is_good_for_the_next_one(resolver: Resolver) -> None:
    resolver.hangs, resolver.found = True, {"edge": ["10.0.0.1"]}
    mine = Names(resolver)
    with pytest.raises(OSError, match="timed out"):
        mine.addresses("edge", SOON_S)
    resolver.freed.set()
    assert mine.addresses("edge", LONG_S) == ("10.0.0.1",)


def test_with_what_was_found_before_nobody_waits_for_a_look_up_that_has_no_end(
    resolver: Resolver,
) -> None:
    resolver.found = {"edge": ["10.0.0.1"]}
    mine = Names(resolver)
    mine.addresses("edge", LONG_S)
    resolver.hangs = True
    began_s = time.monotonic()
    assert mine.addresses("edge", SOON_S) == ("10.0.0.1",)
    for _ in range(100):
        assert mine.addresses("edge", LONG_S) == ("10.0.0.1",)
    assert time.monotonic() - began_s < LONG_S
    assert asked_of(resolver, 2) == ["edge"] * 2


def test_few_are_looked_up_at_the_same_time(resolver: Resolver) -> None:
    resolver.hangs = True
    mine = Names(resolver)
    for number in range(LOOKUPS_MAX + 5):
        with pytest.raises(OSError, match="timed out" if number < LOOKUPS_MAX else "other names"):
            mine.addresses(f"edge-{number}", SOON_S)
    assert len(asked_of(resolver, LOOKUPS_MAX)) == LOOKUPS_MAX
    resolver.found = {"edge": ["10.0.0.1"]}
    resolver.freed.set()
    until_s = time.monotonic() + LONG_S
    while mine._asked and time.monotonic() < until_s:
        time.sleep(0.01)
    assert mine.addresses("edge", LONG_S) == ("10.0.0.1",)


def test_a_child_waits_for_no_thread_of_its_parent(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver.hangs = True
    mine = Names(resolver)
    for number in range(LOOKUPS_MAX):
        with pytest.raises(OSError, match="timed out"):
            mine.addresses(f"edge-{number}", SOON_S)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    resolver.hangs, resolver.found = False, {"edge-0": ["10.0.0.1"]}
    assert mine.addresses("edge-0", LONG_S) == ("10.0.0.1",)


def test_without_a_thread_to_be_had_the_last_one_serves(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver.found = {"edge": ["10.0.0.1"]}
    mine = Names(resolver)
    mine.addresses("edge", LONG_S)

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert mine.addresses("edge", LONG_S) == ("10.0.0.1",)
    with pytest.raises(OSError, match="new thread"):
        mine.addresses("other", LONG_S)


def test_what_is_kept_is_bounded(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "NAMES_MAX", 3)
    assert NAMES_MAX > 3
    mine = Names(resolver)
    resolver.found = {f"edge-{number}": [f"10.0.0.{number}"] * 100 for number in range(5)}
    for host in resolver.found:
        assert len(mine.addresses(host, LONG_S)) == ADDRESSES_MAX
    resolver.found = {}
    assert mine.addresses("edge-4", LONG_S)
    with pytest.raises(OSError, match="no such name"):
        mine.addresses("edge-0", LONG_S)
