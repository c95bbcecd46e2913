"""What every journal promises; run on each adapter of the port."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from holdfast.adapters.etcd_store import EtcdStore
from holdfast.adapters.memory import MemoryJournal
from holdfast.adapters.postgres_store import PostgresStore
from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.core.errors import Conflict, Damaged, Unavailable
from holdfast.core.history import seal, verify_link
from holdfast.core.model import GENESIS, DeleteSetting, Entry, Head
from holdfast.ports import Checkpoint, Journal

DEADLINE_S = 20.0


@pytest.fixture(params=["memory", "sqlite", "postgres", "etcd"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    if request.param == "postgres":
        with contextlib.closing(PostgresStore(request.getfixturevalue("postgres_url"))) as store:
            yield store.journal
        return
    if request.param == "etcd":
        with contextlib.closing(EtcdStore(request.getfixturevalue("etcd_url"))) as etcd:
            yield etcd.journal
        return
    made: Journal = (
        MemoryJournal() if request.param == "memory" else SqliteJournal(tmp_path / "journal.db")
    )
    yield made
    made.close()


def next_entry(head: Head, word: str = "k") -> Entry:
    return seal(head, head.revision, "ann", "why", [DeleteSetting("shop", word)])


def grow(journal: Journal, entries: int) -> list[Entry]:
    made = []
    for _ in range(entries):
        made.append(next_entry(journal.head()))
        journal.append(made[-1])
    return made


def in_threads(work: Callable[[int], None], threads: int) -> None:
    started = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def test_an_empty_journal_stands_at_genesis(journal: Journal) -> None:
    assert journal.head() == GENESIS
    assert list(journal.read()) == []
    assert journal.checkpoint() is None


def test_what_was_appended_is_read_in_order_and_linked(journal: Journal) -> None:
    made = grow(journal, 7)

    assert list(journal.read()) == made
    previous = GENESIS
    for entry in journal.read():
        verify_link(previous, entry)
        previous = Head(entry.revision, entry.hash)
    assert journal.head() == previous


@pytest.mark.parametrize(
    ("after", "limit", "expected"),
    [(0, 2, [1, 2]), (3, None, [4, 5]), (4, 9, [5]), (5, None, []), (9, 3, []), (2, 0, [])],
)
def test_read_takes_a_start_and_a_limit(
    journal: Journal, after: int, limit: int | None, expected: list[int]
) -> None:
    grow(journal, 5)

    assert [entry.revision for entry in journal.read(after, limit)] == expected


def test_reading_does_not_hinder_appending(journal: Journal) -> None:
    grow(journal, 600)
    reading = journal.read()
    assert next(reading).revision == 1
    grow(journal, 1)
    assert [entry.revision for entry in reading] == list(range(2, 601))


def test_an_append_on_another_head_is_a_conflict_with_both_revisions(journal: Journal) -> None:
    grow(journal, 3)
    stale = next_entry(Head(1, "0" * 64))

    with pytest.raises(Conflict) as caught:
        journal.append(stale)

    assert (caught.value.expected_revision, caught.value.actual_revision) == (1, 3)
    assert journal.head().revision == 3


def test_the_right_revision_on_another_hash_is_a_conflict_too(journal: Journal) -> None:
    grow(journal, 3)
    with pytest.raises(Conflict):
        journal.append(next_entry(Head(3, "ab" * 32)))


def test_an_entry_whose_hash_is_not_its_own_is_refused(journal: Journal) -> None:
    entry = next_entry(journal.head())
    with pytest.raises(Damaged):
        journal.append(msgspec.structs.replace(entry, actor="eve"))
    assert journal.head() == GENESIS


def test_of_many_writers_on_one_revision_exactly_one_wins(journal: Journal) -> None:
    for _ in range(5):
        head, outcomes = journal.head(), []
        ready = threading.Barrier(4)

        def write(
            number: int,
            head: Head = head,
            ready: threading.Barrier = ready,
            outcomes: list[str] = outcomes,
        ) -> None:
            ready.wait(DEADLINE_S)
            try:
                journal.append(next_entry(head, f"writer-{number}"))
                outcomes.append("won")
            except Conflict as conflict:
                outcomes.append(f"lost against {conflict.actual_revision - head.revision}")

        in_threads(write, 4)
        assert sorted(outcomes) == ["lost against 1"] * 3 + ["won"]


def test_many_writers_that_try_again_make_one_chain(journal: Journal) -> None:
    def write(number: int) -> None:
        left = 20
        while left:
            try:
                journal.append(next_entry(journal.head(), f"writer-{number}"))
                left -= 1
            except Conflict:
                continue

    in_threads(write, 4)
    entries = list(journal.read())
    assert [entry.revision for entry in entries] == list(range(1, 81))
    assert len({entry.hash for entry in entries}) == 80


def sealed(head: Head, entries: int) -> list[Entry]:
    made: list[Entry] = []
    for _ in range(entries):
        made.append(next_entry(Head(made[-1].revision, made[-1].hash) if made else head))
    return made


@pytest.mark.parametrize("entries", [0, 1, 300])
def test_what_is_appended_at_once_stands_as_if_one_by_one(journal: Journal, entries: int) -> None:
    first = grow(journal, 2)
    made = sealed(journal.head(), entries)
    journal.append_all(made)
    assert list(journal.read()) == [*first, *made]


def test_what_does_not_continue_the_journal_is_not_appended_at_once_either(
    journal: Journal,
) -> None:
    made = sealed(GENESIS, 5)
    with pytest.raises(Conflict):
        journal.append_all([*made[:3], made[4]])
    assert list(journal.read()) == made[: journal.head().revision]
    with pytest.raises(Damaged):
        journal.append_all([msgspec.structs.replace(made[3], reason="another")])


def test_watch_gives_what_is_there_at_once(journal: Journal) -> None:
    made = grow(journal, 3)
    assert list(journal.watch(1, 0.0)) == made[1:]


def test_watch_is_empty_after_its_time(journal: Journal) -> None:
    grow(journal, 3)
    assert list(journal.watch(3, 0.01)) == []
    assert list(journal.watch(7, 0.0)) == []


def test_watch_wakes_on_an_append(journal: Journal) -> None:
    seen: list[int] = []
    watching = threading.Thread(
        target=lambda: seen.extend(one.revision for one in journal.watch(0, DEADLINE_S))
    )
    watching.start()
    grow(journal, 1)
    watching.join(DEADLINE_S)
    assert seen == [1]


def test_watch_ends_with_the_journal(journal: Journal) -> None:
    watching = threading.Thread(target=lambda: journal.watch(0, DEADLINE_S * 10))
    watching.start()
    journal.close()
    watching.join(DEADLINE_S)
    assert not watching.is_alive()


def test_the_newest_checkpoint_comes_back(journal: Journal) -> None:
    grow(journal, 4)
    for revision in (1, 3, 2):
        journal.save_checkpoint(Checkpoint(revision, b"state %d" % revision))
    assert journal.checkpoint() == Checkpoint(3, b"state 3")


def test_a_checkpoint_above_the_head_is_passed_over(journal: Journal) -> None:
    grow(journal, 2)
    journal.save_checkpoint(Checkpoint(2, b"two"))
    journal.save_checkpoint(Checkpoint(9, b"of another journal"))
    assert journal.checkpoint() == Checkpoint(2, b"two")


def test_a_closed_journal_says_so(journal: Journal) -> None:
    journal.close()
    for call in (
        journal.head,
        lambda: list(journal.read()),
        lambda: journal.append(next_entry(GENESIS)),
    ):
        with pytest.raises(Unavailable, match="closed"):
            call()
    journal.close()
