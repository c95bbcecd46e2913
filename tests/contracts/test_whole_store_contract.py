"""What the stores of one Holdfast promise together, whatever engine they are on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from holdfast.adapters.etcd_store import EtcdStore
from holdfast.adapters.memory_store import MemoryStore
from holdfast.adapters.postgres_store import PostgresStore
from holdfast.adapters.sqlite_store import SqliteStore
from holdfast.core.errors import Conflict, Marked, TooLarge, Unavailable
from holdfast.core.history import seal
from holdfast.core.model import DeleteSetting, Entry, Head
from holdfast.ports import Stores

Open: TypeAlias = Callable[[], Stores]
"""Opens the same store, again and again."""


@pytest.fixture(params=["memory", "sqlite", "postgres", "etcd"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    memory = MemoryStore()
    opened: list[Stores] = []
    make: dict[str, Open] = {
        "memory": lambda: memory,
        "sqlite": lambda: SqliteStore(tmp_path / "data"),
        "postgres": lambda: PostgresStore(request.getfixturevalue("postgres_url")),
        "etcd": lambda: EtcdStore(request.getfixturevalue("etcd_url")),
    }

    def store() -> Stores:
        opened.append(make[request.param]())
        return opened[-1]

    yield store
    for one in opened:
        one.close()


def following(head: Head) -> Entry:
    return seal(head, head.revision, "ann", "why", [DeleteSetting("shop", "k")])


def test_a_store_is_not_marked_at_first(open_store: Open) -> None:
    assert open_store().marked() == ""


def test_a_marked_store_takes_no_entry_from_any_node(open_store: Open) -> None:
    one, other = open_store(), open_store()
    one.journal.append(following(one.journal.head()))
    assert one.mark("frozen: moved to another store", "")
    assert other.marked() == "frozen: moved to another store"
    for store in (one, other):
        with pytest.raises(Marked, match="marked") as refused:
            store.journal.append(following(store.journal.head()))
        assert refused.value.mark == "frozen: moved to another store"
    assert [entry.revision for entry in other.journal.read()] == [1]


def test_who_moves_a_journal_writes_to_a_marked_store(open_store: Open) -> None:
    store = open_store()
    store.mark("filling: from elsewhere", "")
    store.journal.append_all([following(store.journal.head())])
    store.blobs.put(b"a list")
    assert open_store().journal.head().revision == 1


def test_without_its_mark_a_store_takes_entries_again(open_store: Open) -> None:
    store = open_store()
    assert store.mark("one", "")
    assert store.mark("another", "one")
    assert store.mark("", "another")
    assert open_store().marked() == ""
    store.journal.append(following(store.journal.head()))


def test_a_mark_is_put_only_in_the_place_of_the_one_that_was_seen(open_store: Open) -> None:
    one, other = open_store(), open_store()
    assert one.mark("filling: by one", "")
    assert not other.mark("filling: by the other", "")
    assert not other.mark("", "filling: by the other")
    assert other.marked() == "filling: by one"
    assert one.mark("filling: by one", ""), "it stands, as after an answer that was lost"
    assert one.mark("", "filling: by one")
    assert one.mark("", "filling: by one"), "it stands no more"
    assert not other.mark("filling: by the other", "filling: by one")
    assert other.marked() == ""


def test_of_many_who_mark_a_store_at_once_one_does(open_store: Open) -> None:
    stores = [open_store() for _ in range(6)]
    ready, done = threading.Barrier(len(stores)), list[str]()

    def mark(number: int) -> None:
        ready.wait(20)
        if stores[number].mark(f"filling: by {number}", ""):
            done.append(f"filling: by {number}")

    markers = [threading.Thread(target=mark, args=(number,)) for number in range(len(stores))]
    for marker in markers:
        marker.start()
    for marker in markers:
        marker.join(60)
        assert not marker.is_alive()
    assert done == [stores[0].marked()]


def test_a_mark_has_a_bound(open_store: Open) -> None:
    with pytest.raises(TooLarge):
        open_store().mark("x" * 5_000, "")


def test_nothing_is_appended_once_a_mark_stands(open_store: Open) -> None:
    """Writers race with a mark: what they append, they append before it."""
    store, marked = open_store(), threading.Event()
    late: list[int] = []

    def write() -> None:
        mine = open_store()
        while True:
            already = marked.is_set()
            try:
                mine.journal.append(following(mine.journal.head()))
            except Conflict:
                continue
            except Unavailable:
                return
            if already:
                late.append(mine.journal.head().revision)
                return

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    while store.journal.head().revision < 5:
        pass
    assert store.mark("frozen: now", "")
    marked.set()
    head = store.journal.head()
    for writer in writers:
        writer.join(20)
        assert not writer.is_alive()
    assert late == []
    assert store.journal.head() == head


def test_the_state_of_a_store_can_be_asked_for(open_store: Open) -> None:
    store = open_store()
    store.journal.append(following(store.journal.head()))
    status = store.status()
    assert isinstance(status["engine"], str)
    assert isinstance(status["version"], str)
    assert status["healthy"] is True
    assert isinstance(status["leader"], str)
    assert isinstance(status["bytes"], int)
    assert isinstance(status["round_trip_ms"], float)
    for member in status["members"]:
        assert {"name", "url", "healthy"} <= member.keys()


def test_compaction_loses_nothing(open_store: Open) -> None:
    store = open_store()
    digest = store.blobs.put(bytes(100_000))
    for _ in range(20):
        store.journal.append(following(store.journal.head()))
    [gone] = [one for one in store.blobs.all() if one.digest == digest]
    store.blobs.delete(gone)
    kept = store.blobs.put(b"kept")
    freed = store.compact()
    assert all(isinstance(value, int) and value >= 0 for value in freed.values())
    assert len(list(store.journal.read())) == 20
    assert store.blobs.get(kept) == b"kept"
    store.journal.append(following(store.journal.head()))


def test_a_closed_store_says_so() -> None:
    store = MemoryStore()
    store.close()
    with pytest.raises(Unavailable):
        store.status()
