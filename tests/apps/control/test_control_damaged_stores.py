"""A node whose stores beside the journal are rotten: it starts, serves, commits all the same."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from a_control_plane import SHOP, documents
from litestar.testing import TestClient

from holdfast.apps.control.app import create_app
from holdfast.apps.control.parts import open_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.settings import ControlSettings
from holdfast.core.errors import Damaged

BESIDE = ("digests.db", "proposals.db", "blobs.db", "samples.db")


@contextlib.contextmanager
def started(data_dir: Path) -> Iterator[TestClient[Any]]:
    settings = ControlSettings(data_dir=data_dir, development=True, requests_per_s_max=10_000)
    control = Control(settings, open_parts(data_dir, development=True), time.time)
    token = control.first_token("admin")
    with TestClient(create_app(control)) as client:
        client.headers["X-API-Key"] = token
        end_s = time.monotonic() + 30
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < end_s
        yield client


def commit(client: TestClient[Any], text: str) -> int:
    return client.post("/v1/commits", json={"documents": documents(text)}).status_code


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    with started(tmp_path / "data") as client:
        for environment in ("production", "staging"):
            assert client.put(f"/v1/environments/{environment}", json={}).status_code == 200
        assert commit(client, SHOP) == 201
    return tmp_path / "data"


def rot(data_dir: Path, store: str) -> None:
    path = data_dir / store
    path.write_bytes(b"rot" + path.read_bytes()[3:])


@pytest.mark.parametrize("store", BESIDE)
def test_a_rotten_store_beside_the_journal_costs_what_it_holds_and_no_more(
    data_dir: Path, store: str
) -> None:
    rot(data_dir, store)
    with started(data_dir) as client:
        assert client.get("/production/shop/snapshot").status_code == 200
        assert commit(client, SHOP.replace("few: 9", "few: 8")) == 201
        waiting = client.get("/v1/changes").status_code
        assert waiting == (500 if store == "proposals.db" else 200)


def test_all_of_them_at_once(data_dir: Path) -> None:
    for store in BESIDE:
        rot(data_dir, store)
    with started(data_dir) as client:
        assert commit(client, SHOP.replace("few: 9", "few: 8")) == 201


def test_the_journal_itself_must_be_sound(data_dir: Path) -> None:
    rot(data_dir, "journal.db")
    with pytest.raises(Damaged, match=r"journal\.db"), started(data_dir):
        pass
