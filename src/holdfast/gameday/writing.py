"""Writers, readers and watchers on one journal, a process of its own, all they do recorded.

    python -m holdfast.gameday.writing TOLD.json

Some use the store itself, as fast as it goes, and some go through the write doors of control-plane
nodes, each naming the revision that it builds on, or none. On SIGTERM they finish what is under way
and end; a fault that no store may show ends the process with an error.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from holdfast.apps.dev import end_with_parent
from holdfast.apps.stores import open_stores
from holdfast.core.errors import Conflict, Unavailable
from holdfast.core.history import seal
from holdfast.core.model import JSON, Entry, Head, PutSetting, Setting
from holdfast.gameday.linear import (
    Append,
    Appended,
    Delivery,
    Look,
    Names,
    Outcome,
    Read,
    Refused,
    Seen,
)
from holdfast.gameday.processes import Build, Process, ask
from holdfast.gameday.recording import Log, recorded
from holdfast.ports import Journal, Stores

WATCH_S: Final = 1.0
RETRY_S: Final = 0.02
"""After a store did not answer."""
TAIL: Final = 5
"""Entries that a reader reads, those below the head."""
ANSWER_S: Final = 4.0
"""A node answers sooner, or is gone."""
END_S: Final = 30.0
"""For what is under way when the end comes, on a slow, busy machine."""


class Writing(msgspec.Struct, frozen=True):
    """What the process is told. `store` is a URL, `nodes` are those of control planes.

    `appenders`, `readers` and `watchers` use the store itself.
    """

    name: str
    out: str
    parent: int
    store: str = ""
    appenders: int = 0
    readers: int = 0
    watchers: int = 0
    nodes: tuple[str, ...] = ()
    token: str = ""
    environment: str = ""
    pause_s: float = 0.0


class Writers:
    """Such a process, as a drill sees it; `out` is what it records. Started with `build`."""

    def __init__(self, directory: Path, build: Build, name: str, **told: Any) -> None:
        self.out = directory / f"{name}.jsonl"
        writing = Writing(name=name, out=str(self.out), parent=os.getpid(), **told)
        path = directory / f"{name}.json"
        path.write_bytes(msgspec.json.encode(writing))
        log = directory / f"{name}.log"
        self._process = Process(name, "holdfast.gameday.writing", (str(path),), log)
        self._process.start(build)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()

    @property
    def alive(self) -> bool:
        return self._process.alive

    def end(self) -> str:
        """Let it finish what it does; what went wrong in it, or nothing."""
        ended_before = not self.alive
        self._process.kill(signal.SIGTERM, END_S)
        if self._process.code or ended_before:
            lines = self._process.tail().strip().splitlines()
            return f"{self._process.name} ended with {self._process.code}: {lines[-1:]}"
        return ""


class _Crew:
    """The threads of one process, and what they share."""

    def __init__(self, told: Writing, log: Log, stop: threading.Event) -> None:
        self._told = told
        self._log = log
        self._stop = stop

    def of_store(self, journal: Journal) -> list[Callable[[], None]]:
        name, told = self._told.name, self._told
        return [
            *(partial(self._append, journal, f"{name}-{n}") for n in range(told.appenders)),
            *(partial(self._read, journal, f"{name}-r{n}") for n in range(told.readers)),
            *(partial(self._watch, journal, f"{name}-w{n}") for n in range(told.watchers)),
        ]

    def of_nodes(self) -> list[Callable[[], None]]:
        name = self._told.name
        return [
            partial(self._commit, url, f"{name}-n{n}") for n, url in enumerate(self._told.nodes)
        ]

    # -- on the store itself

    def _append(self, journal: Journal, who: str) -> None:
        for number in self._numbers():
            head = self._look(journal, who)
            if head is None:
                continue
            done = self._log.begin(who, Append(f"{who}-{number}", head.revision))
            done(self._tried(journal, head, who, number))

    def _tried(self, journal: Journal, head: Head, who: str, number: int) -> Outcome | None:
        try:
            journal.append(_entry(head, who, number))
        except Conflict:
            return Refused()
        except Unavailable:
            return None
        return Appended(head.revision + 1)

    def _read(self, journal: Journal, who: str) -> None:
        for _ in self._numbers():
            head = self._look(journal, who)
            if head is None:
                continue
            after = max(0, head.revision - TAIL)
            done = self._log.begin(who, Read(after))
            try:
                done(Names(tuple(entry.reason for entry in journal.read(after))))
            except Unavailable:
                self._stop.wait(RETRY_S)

    def _watch(self, journal: Journal, who: str) -> None:
        while (head := self._head(journal)) is None:
            self._stop.wait(RETRY_S)
        after = head.revision
        self._log.watches(who, after)
        while not self._stop.is_set():
            try:
                for entry in journal.watch(after, WATCH_S):
                    self._log.deliver(Delivery(who, entry.revision, entry.reason))
                    after = entry.revision
            except Unavailable:
                self._stop.wait(RETRY_S)

    def _look(self, journal: Journal, who: str) -> Head | None:
        done = self._log.begin(who, Look())
        head = self._head(journal)
        if head is not None:
            done(Seen(head.revision, head.hash if head.revision else ""))
        return head

    def _head(self, journal: Journal) -> Head | None:
        try:
            return journal.head()
        except Unavailable:
            self._stop.wait(RETRY_S)
            return None

    # -- through a node

    def _commit(self, url: str, who: str) -> None:
        """Every other change names the revision that it builds on."""
        for number in self._numbers():
            expected = self._head_of(url) if number % 2 else None
            name = f"{who}-{number}"
            done = self._log.begin(who, Append(name, expected))
            edit = _counted(who, number, self._told.environment)
            body: JSON = {"edits": [edit], "reason": name, "base_revision": expected}
            found = ask("POST", f"{url}/v1/commits", body, self._told.token, ANSWER_S)
            if found.status == 201:
                done(Appended(found.body["revision"]))
            elif found.status == 409 and expected is not None:
                done(Refused())
            elif found.status in {0, 409, 429, 503}:  # others were faster, again and again
                done(None)
                self._stop.wait(RETRY_S)
            else:
                raise RuntimeError(f"{url} answered {found.status}: {str(found.body)[:300]}")

    def _head_of(self, url: str) -> int | None:
        found = ask("GET", f"{url}/v1/head", token=self._told.token, timeout_s=ANSWER_S)
        return found.body["revision"] if found.status == 200 else None

    def _numbers(self) -> _Numbers:
        return _Numbers(self._stop, self._told.pause_s)


class _Numbers:
    """1, 2, 3, … until it is time to end, with pauses between them."""

    def __init__(self, stop: threading.Event, pause_s: float) -> None:
        self._stop = stop
        self._pause_s = pause_s
        self._last = 0

    def __iter__(self) -> _Numbers:
        return self

    def __next__(self) -> int:
        if self._last and self._pause_s:
            self._stop.wait(self._pause_s)
        if self._stop.is_set():
            raise StopIteration
        self._last += 1
        return self._last


def _entry(head: Head, who: str, number: int) -> Entry:
    edit = PutSetting("shop", who, Setting("integer", {"now": number}))
    return seal(head, int(time.time() * 1000), who, f"{who}-{number}", [edit])


def _counted(who: str, number: int, environment: str) -> dict[str, JSON]:
    """An edit after which something is otherwise, whatever was there."""
    to: dict[str, JSON] = {
        "type": "integer",
        "variants": {"now": number},
        "environments": {environment: {"default": "now"}},
    }
    return {"type": "put-setting", "service": "shop", "key": who, "to": to}


def _opened(url: str, stop: threading.Event) -> Stores | None:
    """The stores there, as soon as they answer; none once it is time to end."""
    while not stop.is_set():
        try:
            return open_stores(url)
        except Unavailable:
            stop.wait(RETRY_S)
    return None


def main(told: Writing) -> None:
    """Until SIGTERM, or a fault in one of the threads, which is raised."""
    end_with_parent(told.parent)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stores = _opened(told.store, stop) if told.store else None
    if told.store and stores is None:
        return
    with recorded(Path(told.out)) as log:
        crew = _Crew(told, log, stop)
        work = crew.of_nodes() + (crew.of_store(stores.journal) if stores else [])
        with ThreadPoolExecutor(len(work)) as threads:
            running = [threads.submit(each) for each in work]
            wait(running, return_when=FIRST_EXCEPTION)
            stop.set()
            for each in running:
                each.result()
    if stores is not None:
        stores.close()


if __name__ == "__main__":
    main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Writing))
