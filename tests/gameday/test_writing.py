"""Processes that write to one journal, and what is recorded of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import msgspec

from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.adapters.sqlite_store import SqliteStore
from holdfast.gameday.linear import linearizable, watch_faults
from holdfast.gameday.processes import Build, Process, until
from holdfast.gameday.recording import read
from holdfast.gameday.writing import Writing


def started(directory: Path, name: str, **told: Any) -> tuple[Process, Path]:
    out = directory / f"{name}.jsonl"
    writing = Writing(name=name, out=str(out), parent=os.getpid(), **told)
    path = directory / f"{name}.json"
    path.write_bytes(msgspec.json.encode(writing))
    process = Process(name, "holdfast.gameday.writing", (str(path),), directory / f"{name}.log")
    process.start(Build("this one"))
    return process, out


def ended(process: Process) -> None:
    process.kill(signal.SIGTERM)
    assert process.code == 0, process.tail()


def test_two_processes_leave_a_history_that_one_journal_explains(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path / 'store'}"
    SqliteStore(tmp_path / "store").close()
    watcher, watched = started(tmp_path, "watcher", store=store, watchers=2)
    until(lambda: len(read([watched]).begins) == 2, "the watchers", 30.0)
    writers = [started(tmp_path, name, store=store, appenders=2, readers=1) for name in "ab"]
    until(lambda: read([out for _, out in writers]).counts()["acknowledged"] > 40, "writes", 30.0)
    for process, _ in writers:
        ended(process)
    journal = SqliteJournal(tmp_path / "store" / "journal.db")
    entries = list(journal.read())
    journal.close()
    until(lambda: len(read([watched]).deliveries) == 2 * len(entries), "the last of them", 30.0)
    ended(watcher)
    found = read([watched, *(out for _, out in writers)])
    names = [entry.reason for entry in entries]
    assert linearizable(found.named({entry.hash: entry.reason for entry in entries})).ok
    assert watch_faults([came.delivery for came in found.deliveries], names, found.begins) == []
    assert all(names[revision - 1] == name for name, revision in found.acknowledged().items())
