"""A store that stands still: who writes is told within a second, who reads notices nothing."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from a_control_plane import SHOP, documents
from litestar.testing import TestClient

from holdfast.adapters.memory import MemoryJournal
from holdfast.apps.control.app import create_app
from holdfast.apps.control.parts import open_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.control.stalls import BODY_BYTES_PER_S, PATIENCE_S, Stalls
from holdfast.apps.settings import ControlSettings
from holdfast.core.errors import Unavailable

GIVEN_UP = "holdfast_writes_given_up"
READS = ("/production/shop/snapshot", "/v1/services/shop/settings/banner", "/v1/head", "/readyz")


@contextlib.contextmanager
def started(data_dir: Path) -> Iterator[tuple[Control, TestClient[Any]]]:
    settings = ControlSettings(data_dir=data_dir, development=True, requests_per_s_max=10_000)
    control = Control(settings, open_parts(data_dir, development=True), time.time)
    token = control.first_token("admin")
    with TestClient(create_app(control)) as client:
        client.headers["X-API-Key"] = token
        end_s = time.monotonic() + 30
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < end_s
        for environment in ("production", "staging"):
            assert client.put(f"/v1/environments/{environment}", json={}).status_code == 200
        assert change(client, 9) == 201
        yield control, client


def change(client: TestClient[Any], few: int) -> int:
    body = {"documents": documents(SHOP.replace("few: 9", f"few: {few}"))}
    return client.post("/v1/commits", json=body).status_code


@contextlib.contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Another process in the middle of a transaction, for as long as this lasts."""
    with contextlib.closing(sqlite3.connect(data_dir / "journal.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_change_is_refused_while_reads_go_on_and_goes_through_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(tmp_path) as (control, client):
        monkeypatch.setattr(control.stalls, "_patience_s", PATIENCE_S)
        with held(tmp_path):
            for _ in range(3):
                assert change(client, 8) == 503
                assert [client.get(path).status_code for path in READS] == [200] * len(READS)
            assert control.stalls.given_up >= 3, "the schedules' looks count, too"
            assert f"{GIVEN_UP} 0.0" not in client.get("/metrics").text
        end_s = time.monotonic() + 30
        while change(client, 7) != 201:
            assert time.monotonic() < end_s


def test_without_the_bound_a_change_waits_for_as_long_as_the_store_lets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(tmp_path) as (_, client):
        monkeypatch.setattr(Stalls, "late", False)
        answers: list[int] = []
        waiting = threading.Thread(target=lambda: answers.append(change(client, 8)))
        with held(tmp_path):
            waiting.start()
            waiting.join(1.5)
            assert not answers
        waiting.join()
        assert answers == [201]


class Hand:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_call_is_late_once_its_patience_has_ended_and_no_more_when_it_is_over() -> None:
    hand = Hand()
    stalls = Stalls(hand, patience_s=1.0)
    with stalls.call(), stalls.call(body_bytes=10 * BODY_BYTES_PER_S):
        hand.now_s = 0.9
        assert not stalls.late
        hand.now_s = 1.1
        assert stalls.late
    with stalls.call(body_bytes=10 * BODY_BYTES_PER_S):
        hand.now_s = 11.0
        assert not stalls.late
        hand.now_s = 13.0
        assert stalls.late
    assert not stalls.late


def test_what_waits_for_its_turn_is_dropped_and_what_is_new_is_refused_at_once() -> None:
    hand = Hand()
    stalls = Stalls(hand, patience_s=1.0)
    begun = 0

    async def never() -> None:
        nonlocal begun
        begun += 1
        hand.now_s = 1.1
        await asyncio.Event().wait()

    async def play() -> None:
        with stalls.call():
            with pytest.raises(Unavailable, match="stands still"):
                await stalls.bound(never)
            with pytest.raises(Unavailable):
                await stalls.bound(never)

    asyncio.run(play())
    assert begun == 1
    assert stalls.given_up == 2


def test_a_port_is_the_same_but_for_being_counted() -> None:
    hand = Hand()
    stalls = Stalls(hand, patience_s=1.0)
    journal = stalls.timed(MemoryJournal())
    assert journal.head().revision == 0
    assert list(journal.read()) == []
    hand.now_s = 5.0
    assert not stalls.late
