"""What a control plane tells of the store beneath it."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from holdfast.adapters.memory import MemoryBlobs, MemoryJournal, MemoryProposals
from holdfast.adapters.memory_store import MemoryStore
from holdfast.apps.control.store_metrics import MeasuredJournal, StoreMetrics
from holdfast.core.errors import Conflict, Unavailable
from holdfast.core.history import seal
from holdfast.core.model import JSON, DeleteSetting, Entry, Head
from holdfast.engine.collecting import Collecting

NOW_S = 1_000.0


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry(auto_describe=True)


@pytest.fixture
def journal(registry: CollectorRegistry) -> MeasuredJournal:
    return MeasuredJournal(MemoryJournal(), registry, lambda: NOW_S)


def following(head: Head) -> Entry:
    return seal(head, int(NOW_S - 2) * 1_000, "ann", "why", [DeleteSetting("shop", "k")])


def figures(registry: CollectorRegistry) -> dict[str, float]:
    lines = generate_latest(registry).decode().splitlines()
    parts = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name.removeprefix("holdfast_store_"): float(value) for name, value in parts}


def test_appends_are_timed_and_their_failures_counted(
    journal: MeasuredJournal, registry: CollectorRegistry
) -> None:
    entry = following(journal.head())
    journal.append(entry)
    with pytest.raises(Conflict):
        journal.append(entry)
    found = figures(registry)
    assert found["append_seconds_count"] == 2
    assert found['append_failures_total{code="conflict"}'] == 1


def test_how_late_an_entry_of_another_node_is_seen(journal: MeasuredJournal) -> None:
    assert journal.watch(0, 0.0) == ()
    assert journal.lag_s == 0
    journal.append_all([following(journal.head())])
    assert len(journal.watch(0, 0.0)) == 1
    assert (journal.lag_s, journal.head_revision) == (2.0, 1)


def test_what_the_engine_says_is_told_until_it_says_nothing(
    journal: MeasuredJournal, registry: CollectorRegistry
) -> None:
    members = [{"name": "a", "url": "u", "healthy": True}, {"name": "b", "healthy": False}]
    said: dict[str, JSON] = {**MemoryStore().status(), "members": members, "bytes": 7}
    answers = [said]

    def status() -> dict[str, JSON]:
        if not answers:
            raise Unavailable("no member answers")
        return answers.pop()

    blobs = MemoryBlobs()
    blobs.put(b"never used")
    collecting = Collecting(journal=journal, blobs=blobs, proposals=MemoryProposals())
    metrics = StoreMetrics(status, journal, collecting)
    registry.register(metrics)
    metrics.look()
    collecting.look(lambda: 1)
    found = figures(registry)
    assert (found["healthy"], found["members"], found["members_healthy"]) == (1, 2, 1)
    assert (found["bytes"], found["blobs"], found["blobs_unnamed"]) == (7, 1, 1)
    with pytest.raises(Unavailable):
        metrics.look()
    assert figures(registry)["healthy"] == 0
