"""What every store promises of its lease, and of the fence in its journal; run on each adapter."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from holdfast.adapters.etcd_store import EtcdStore
from holdfast.adapters.memory import MemoryJournal, MemoryLeases
from holdfast.adapters.postgres_store import PostgresStore
from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.core.errors import Conflict, Fenced
from holdfast.core.history import seal
from holdfast.core.model import DeleteSetting, Entry, Head
from holdfast.ports import Journal, Lease, Leases

DEADLINE_S = 20.0
TTL_S = 2.0
"""The shortest that every store's own clock can keep."""
LONG_S = 60.0


class Store(msgspec.Struct):
    """One store as one node has it open."""

    journal: Journal
    leases: Leases
    pass_ttl: Callable[[], None]
    """Returns once a lease taken for `TTL_S` just before has run out."""
    again: Callable[[], contextlib.AbstractContextManager[Store]]
    """The same store, opened by another node or after a restart."""


@contextlib.contextmanager
def memory(_: pytest.FixtureRequest) -> Iterator[Store]:
    now = [1_000.0]
    leases = MemoryLeases(lambda: now[0])
    journal = MemoryJournal(leases=leases)
    store = Store(journal, leases, lambda: advance(now), lambda: contextlib.nullcontext(store))
    yield store


@contextlib.contextmanager
def sqlite(request: pytest.FixtureRequest) -> Iterator[Store]:
    directory: Path = request.getfixturevalue("tmp_path")
    now = [1_000.0]

    @contextlib.contextmanager
    def opened() -> Iterator[Store]:
        with contextlib.closing(SqliteJournal(directory / "j.db", clock=lambda: now[0])) as journal:
            yield Store(journal, journal.leases, lambda: advance(now), opened)

    with opened() as store:
        yield store


@contextlib.contextmanager
def postgres(request: pytest.FixtureRequest) -> Iterator[Store]:
    with on_server(PostgresStore, request.getfixturevalue("postgres_url")) as store:
        yield store


@contextlib.contextmanager
def etcd(request: pytest.FixtureRequest) -> Iterator[Store]:
    with on_server(EtcdStore, request.getfixturevalue("etcd_url")) as store:
        yield store


@contextlib.contextmanager
def on_server(make: type[PostgresStore | EtcdStore], url: str) -> Iterator[Store]:
    with contextlib.closing(make(url)) as made:
        again = partial(on_server, make, url)
        yield Store(made.journal, made.leases, run_out(made.leases), again)


def advance(now: list[float]) -> None:
    now[0] += TTL_S


STORES = [memory, sqlite, postgres, etcd]


def run_out(leases: Leases) -> Callable[[], None]:
    """`pass_ttl` of a store whose clock is its own: waits until nobody holds the lease."""

    def wait() -> None:
        deadline = time.monotonic() + DEADLINE_S
        while leases.current() is not None:
            assert time.monotonic() < deadline, "the lease did not run out"
            time.sleep(0.05)

    return wait


@pytest.fixture(params=STORES, ids=lambda make: make.__name__)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with request.param(request) as made:
        yield made


def next_entry(head: Head, word: str = "k") -> Entry:
    return seal(head, head.revision, "ann", "why", [DeleteSetting("shop", word)])


def taken(store: Store, holder: str, ttl_s: float = LONG_S) -> Lease:
    lease = store.leases.take(holder, f"http://{holder}", ttl_s)
    assert lease is not None
    return lease


def write(store: Store, fence: int, word: str = "k") -> None:
    store.journal.append(next_entry(store.journal.head(), word), fence)


# The lease


def test_nobody_holds_it_at_first(store: Store) -> None:
    assert store.leases.current() is None


def test_who_takes_it_holds_it_and_all_see_who(store: Store) -> None:
    lease = taken(store, "one")
    assert (lease.holder, lease.url) == ("one", "http://one")
    assert lease.token > 0
    assert store.leases.current() == lease
    with store.again() as other:
        assert other.leases.current() == lease


def test_nobody_else_gets_it_while_it_is_held(store: Store) -> None:
    lease = taken(store, "one")
    assert store.leases.take("two", "http://two", LONG_S) is None
    with store.again() as other:
        assert other.leases.take("two", "http://two", LONG_S) is None
    assert store.leases.current() == lease


def test_its_holder_extends_it_and_keeps_the_token(store: Store) -> None:
    lease = taken(store, "one", TTL_S)
    assert taken(store, "one") == lease
    assert store.leases.take("two", "", LONG_S) is None
    assert store.leases.current() == lease


def test_its_holder_may_move(store: Store) -> None:
    lease = taken(store, "one")
    moved = store.leases.take("one", "http://elsewhere", LONG_S)
    assert moved == Lease(lease.token, "one", "http://elsewhere")
    assert store.leases.current() == moved


def test_it_runs_out_by_itself(store: Store) -> None:
    first = taken(store, "one", TTL_S)
    store.pass_ttl()
    assert store.leases.current() is None
    second = taken(store, "two")
    assert second.token > first.token
    assert store.leases.current() == second


def test_one_that_ran_out_and_nobody_had_since_goes_on_under_its_token(store: Store) -> None:
    first = taken(store, "one", TTL_S)
    store.pass_ttl()
    assert taken(store, "one") == first


def test_who_lost_it_gets_another_token(store: Store) -> None:
    first = taken(store, "one", TTL_S)
    store.pass_ttl()
    second = taken(store, "two")  # for long: who is held up here finds it held all the same
    assert store.leases.take("one", "", LONG_S) is None
    store.leases.give_up(second)
    third = taken(store, "one")
    assert first.token < second.token < third.token


def test_given_up_it_is_free_at_once(store: Store) -> None:
    first = taken(store, "one")
    store.leases.give_up(first)
    assert store.leases.current() is None
    assert taken(store, "two").token > first.token


def test_only_its_holder_gives_it_up(store: Store) -> None:
    first = taken(store, "one")
    store.leases.give_up(first)
    store.leases.give_up(first)
    second = taken(store, "two")
    store.leases.give_up(first)
    assert store.leases.current() == second


def test_tokens_grow_over_a_restart(store: Store) -> None:
    first = taken(store, "one")
    store.leases.give_up(first)
    with store.again() as other:
        second = taken(other, "two")
        assert second.token > first.token
        other.leases.give_up(second)
    assert taken(store, "three").token > second.token


def test_of_many_takers_at_once_one_gets_it(store: Store) -> None:
    ready, got = threading.Barrier(4), []

    def take(number: int) -> None:
        ready.wait(DEADLINE_S)
        if store.leases.take(f"node-{number}", "", LONG_S) is not None:
            got.append(f"node-{number}")

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    current = store.leases.current()
    assert current is not None
    assert got == [current.holder]


# The fence


def test_what_is_nobodys_in_particular_is_always_written(store: Store) -> None:
    write(store, 0)
    taken(store, "one")
    write(store, 0)
    assert store.journal.head().revision == 2


def test_who_leads_writes(store: Store) -> None:
    write(store, taken(store, "one").token)
    assert store.journal.head().revision == 1


def test_before_any_lease_a_fenced_write_is_refused(store: Store) -> None:
    with pytest.raises(Fenced) as caught:
        write(store, 7)
    assert (caught.value.fence, caught.value.token) == (7, 0)
    assert store.journal.head().revision == 0


def test_who_led_before_is_refused_and_told_both_tokens(store: Store) -> None:
    first = taken(store, "one")
    store.leases.give_up(first)
    second = taken(store, "two")

    with pytest.raises(Fenced) as caught:
        write(store, first.token)

    assert (caught.value.fence, caught.value.token) == (first.token, second.token)
    assert store.journal.head().revision == 0
    write(store, second.token)
    with store.again() as other, pytest.raises(Fenced):
        write(other, first.token)
    assert store.journal.head().revision == 1


def test_a_token_never_given_is_refused(store: Store) -> None:
    lease = taken(store, "one")
    with pytest.raises(Fenced):
        write(store, lease.token + 1)
    assert store.journal.head().revision == 0


def test_a_lease_that_ran_out_and_nobody_took_still_writes(store: Store) -> None:
    first = taken(store, "one", TTL_S)
    store.pass_ttl()
    write(store, first.token)
    second = taken(store, "two")
    with pytest.raises(Fenced):
        write(store, first.token)
    write(store, second.token)
    store.leases.give_up(second)
    write(store, second.token)
    assert store.journal.head().revision == 3


def test_a_fenced_write_on_another_head_is_a_conflict(store: Store) -> None:
    lease, head = taken(store, "one"), store.journal.head()
    write(store, lease.token)
    with pytest.raises(Conflict):
        store.journal.append(next_entry(head), lease.token)
    assert store.journal.head().revision == 1


def test_leaders_in_turn_never_both_write(store: Store) -> None:
    """Each writes until it is refused, while the lease goes round: tokens in the journal grow."""
    done = threading.Event()
    leases: list[Lease] = []

    def lead(number: int) -> None:
        held: Lease | None = None
        while not done.is_set():
            held = held or store.leases.take(f"node-{number}", "", LONG_S)
            if held is None:
                continue
            try:
                write(store, held.token, f"t{held.token}")
            except (Conflict, Fenced) as refused:
                held = held if isinstance(refused, Conflict) else None

    threads = [threading.Thread(target=lead, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    while len(leases) < 8:
        current = store.leases.current()
        if current is not None and current not in leases:
            leases.append(current)
            store.leases.give_up(current)
    done.set()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    words = [edit.key for entry in store.journal.read() for edit in entry.edits]  # type: ignore[union-attr]
    tokens = [int(word[1:]) for word in words]
    assert tokens == sorted(tokens)
