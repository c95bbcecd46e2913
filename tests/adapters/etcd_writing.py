"""What tests of the journal in etcd have in common."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from holdfast.core.history import seal
from holdfast.core.model import DeleteSetting, Entry, Head
from holdfast.ports import Journal

DEADLINE_S = 30.0


def next_entry(head: Head, word: str = "k") -> Entry:
    return seal(head, head.revision, "ann", "why", [DeleteSetting("shop", word)])


def grow(journal: Journal, entries: int, word: str = "k") -> list[Entry]:
    made: list[Entry] = []
    for _ in range(entries):
        head = Head(made[-1].revision, made[-1].hash) if made else journal.head()
        made.append(next_entry(head, word))
    journal.append_all(made)
    return made


def watched(journal: Journal, until: int) -> list[Entry]:
    seen: list[Entry] = []
    while len(seen) < until:
        seen.extend(journal.watch(len(seen), DEADLINE_S))
    return seen


@contextlib.contextmanager
def in_thread(work: Callable[[], None]) -> Iterator[None]:
    """The work goes on beside the block and ends with it; what it raised is raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again by who started it
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    for error in raised:
        raise error
