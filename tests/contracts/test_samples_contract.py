"""What every store of sampled contexts promises; run on each adapter."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.adapters.memory_samples import MemorySamples
from holdfast.adapters.sqlite_samples import SAVE_S, SqliteSamples
from holdfast.core.model import Subject
from holdfast.core.reports import Sample
from holdfast.core.reservoir import HALF_LIFE_S
from holdfast.ports import Samples

CALLING = Subject("production", "calling")
CHAT = Subject("production", "chat")
Make = Callable[..., Samples]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "memory":
        return MemorySamples
    return lambda **bounds: SqliteSamples(tmp_path / "samples.db", **bounds)


def sample(number: int, count: int = 1) -> Sample:
    return Sample({"tenant": f"t{number}"}, count)


def test_what_came_is_there_the_heaviest_first(make: Make) -> None:
    store = make()
    store.add(CALLING, [sample(1, 2), sample(2, 5)], 0.0)
    store.add(CALLING, [sample(1, 6)], 0.0)
    store.add(CHAT, [sample(9)], 0.0)
    assert store.samples(CALLING, 0.0) == [sample(1, 8), sample(2, 5)]
    assert store.samples(Subject("staging", "calling"), 0.0) == []
    assert store.subjects() == [CALLING, CHAT]
    store.close()


def test_it_fades(make: Make) -> None:
    store = make()
    store.add(CALLING, [sample(1, 100)], 0.0)
    store.add(CALLING, [sample(2, 100)], HALF_LIFE_S)
    assert store.samples(CALLING, HALF_LIFE_S) == [sample(2, 100), sample(1, 50)]
    assert store.samples(CALLING, 1_000 * HALF_LIFE_S) == [sample(2, 1), sample(1, 1)]
    store.close()


def test_it_is_bounded_and_sums_stay_about_right(make: Make) -> None:
    store = make(contexts_max=100)
    for begin in range(0, 5_000, 50):
        store.add(CALLING, [sample(n) for n in range(begin, begin + 50)], 0.0)
    store.add(CALLING, [sample(-1, 2_000)], 0.0)
    kept = store.samples(CALLING, 0.0)
    assert len(kept) <= 125
    assert kept[0] == sample(-1, 2_000)
    assert 3_000 < sum(each.count for each in kept[1:]) < 8_000
    assert len(store.samples(CALLING, 0.0, most=10)) == 10
    store.close()


def test_all_subjects_together_are_bounded(make: Make) -> None:
    store = make(contexts_max=100, total_max=150)
    for number in range(8):
        store.add(Subject("production", f"s{number}"), [sample(n) for n in range(100)], 0.0)
    assert sum(len(store.samples(each, 0.0)) for each in store.subjects()) <= 150
    store.close()


def test_nothing_comes_of_nothing(make: Make) -> None:
    store = make()
    store.add(CALLING, [Sample({"a": 1}, 0), Sample({"a": 1}, -4)], 0.0)
    assert store.samples(CALLING, 0.0) == []
    store.close()


def test_a_file_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    store = SqliteSamples(path)
    store.add(CALLING, [sample(1, 100)], 0.0)
    store.add(CALLING, [sample(2, 7)], SAVE_S)
    store.close()
    again = SqliteSamples(path)
    assert [each.context for each in again.samples(CALLING, SAVE_S)] == [
        {"tenant": "t1"},
        {"tenant": "t2"},
    ]
    assert again.samples(CALLING, SAVE_S + HALF_LIFE_S)[0].count == 50
    again.close()


def test_a_damaged_row_is_as_if_it_had_not_come(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    store = SqliteSamples(path)
    store.add(CALLING, [sample(1)], 0.0)
    store.add(CHAT, [sample(1)], 0.0)
    store.close()
    store = SqliteSamples(path)
    with store._file.write() as connection:
        connection.execute("UPDATE samples SET body = x'00' WHERE service = 'chat'")
    store.close()
    again = SqliteSamples(path)
    assert again.subjects() == [CALLING]
    assert again.damaged == 1
    again.close()


def test_what_the_disk_refused_is_written_down_later(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    store = SqliteSamples(path)
    store.add(CALLING, [sample(1)], 1.0)
    with store._file.write() as connection:
        connection.execute("ALTER TABLE samples RENAME TO away")
    store.add(CHAT, [sample(1)], 1.0 + SAVE_S)
    assert store.failed == 1
    assert store.subjects() == [CALLING, CHAT], "they are at hand all the same"
    with store._file.write() as connection:
        connection.execute("ALTER TABLE away RENAME TO samples")
    store.close()
    again = sqlite3.connect(path)
    assert again.execute("SELECT count(*) FROM samples").fetchone() == (2,)
    again.close()
