"""Processes that write to one journal, and what is recorded of them."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.adapters.sqlite_store import SqliteStore
from holdfast.gameday.linear import linearizable, watch_faults
from holdfast.gameday.processes import Build, until
from holdfast.gameday.recording import Tail, read
from holdfast.gameday.writing import Writers


def test_two_processes_leave_a_history_that_one_journal_explains(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path / 'store'}"
    SqliteStore(tmp_path / "store").close()
    this = Build("this one")
    with contextlib.ExitStack() as stack:
        watcher = stack.enter_context(Writers(tmp_path, this, "watcher", store=store, watchers=2))
        until(lambda: len(read([watcher.out]).begins) == 2, "the watchers", 30.0)
        writers = [
            stack.enter_context(Writers(tmp_path, this, name, store=store, appenders=2, readers=1))
            for name in "ab"
        ]
        outs = [each.out for each in writers]
        until(lambda: read(outs).counts()["acknowledged"] > 40, "writes", 30.0)
        assert [each.end() for each in writers] == ["", ""]
        journal = SqliteJournal(tmp_path / "store" / "journal.db")
        entries = list(journal.read())
        journal.close()
        tail = Tail([watcher.out])

        def seen() -> bool:
            tail.read()
            return list(tail.delivered.values()) == [len(entries)] * 2

        until(seen, "the last entry, at both watchers", 30.0)
        assert watcher.end() == ""
        found = read([watcher.out, *outs])
    names = [entry.reason for entry in entries]
    assert linearizable(found.named({entry.hash: entry.reason for entry in entries})).ok
    assert watch_faults([came.delivery for came in found.deliveries], names, found.begins) == []
    assert all(names[revision - 1] == name for name, revision in found.acknowledged().items())


def test_a_process_that_finds_a_fault_says_so(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "journal.db").write_bytes(b"rot")
    store = f"sqlite://{tmp_path / 'store'}"
    with Writers(tmp_path, Build("this one"), "writers", store=store, appenders=1) as writers:
        until(lambda: not writers.alive, "the end of it", 30.0)
        assert "Damaged" in writers.end()


def test_a_process_waits_for_a_store_that_does_not_answer_yet(tmp_path: Path) -> None:
    """It may be started while members elect a leader: that is no fault of theirs."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = f"etcd://127.0.0.1:{silent.getsockname()[1]}?timeout_s=0.2"
        silent.settimeout(30.0)
        with Writers(tmp_path, Build("this one"), "writers", store=store, appenders=1) as writers:
            for _ in range(20):  # more than one time of opening asks
                silent.accept()[0].close()
            assert writers.alive
            assert writers.end() == ""
