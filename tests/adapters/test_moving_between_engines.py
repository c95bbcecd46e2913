"""A journal moves between engines, and everything is the same there: head, digests, answers.

The long form has 100,000 entries, as when a team outgrows one machine; it tells how long each move
took.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from tests.adapters.a_long_journal import SERVICES, grow, taken

from holdfast.apps.store_urls import url_of
from holdfast.apps.stores import open_stores
from holdfast.engine.moving import StoreContent, move
from holdfast.ports import Stores

ENTRIES = 300
ENTRIES_LONG = 100_000
EVALUATIONS = 10_000
SUBJECTS = SERVICES + 1
"""With that of the tokens."""
SEED = 20_261_122

Open: TypeAlias = Callable[[str], Stores]


@pytest.fixture
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    opened: list[Stores] = []

    def one(engine: str) -> Stores:
        url = url_of(tmp_path / engine)
        if engine in {"etcd", "postgres"}:
            url = request.getfixturevalue(f"{engine}_url")
        opened.append(open_stores(url))
        return opened[-1]

    yield one
    for each in opened:
        each.close()


@pytest.mark.parametrize("target", ["sqlite", "etcd", "postgres"])
def test_a_journal_moves_and_moves_back(open_store: Open, target: str) -> None:
    first, there, back = open_store("first"), open_store(target), open_store("back")
    grow(first, ENTRIES)
    for source, into in ((first, there), (there, back)):
        moved = move(StoreContent(source, "a store"), into, lambda *_: None)
        assert (moved.entries, moved.digests) == (ENTRIES, SUBJECTS)
    expected = taken(first.journal, ENTRIES, SEED)
    assert taken(there.journal, ENTRIES, SEED) == expected
    assert taken(back.journal, ENTRIES, SEED) == expected
    assert first.digests.all() == there.digests.all() == back.digests.all()
    assert len(expected.digests) == ENTRIES


@pytest.mark.long
@pytest.mark.timeout(1_700)
def test_a_hundred_thousand_entries_move_to_etcd_and_to_postgresql(
    open_store: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    first = open_store("first")
    grow(first, ENTRIES_LONG)
    expected = taken(first.journal, EVALUATIONS, SEED)
    assert len(expected.answers) >= EVALUATIONS
    for engine in ("etcd", "postgres"):
        target = open_store(engine)
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        move(StoreContent(first, "a store"), target, lambda *_: None)
        took_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
        with capsys.disabled():
            told = f"to {engine} in {took_s:.0f} s, {cpu_s:.0f} s of them on this process's CPU"
            sys.stdout.write(f"\n{ENTRIES_LONG} entries moved {told}\n")
        assert taken(target.journal, EVALUATIONS, SEED) == expected
        assert first.digests.all() == target.digests.all()
