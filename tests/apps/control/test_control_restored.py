"""A journal restored from an older copy: what consumers refuse, and the way forward.

This is `docs/howto/restore.md`, tried.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from a_control_plane import SHOP, documents
from litestar.testing import TestClient

from holdfast.adapters.signing import verify
from holdfast.apps.control.app import create_app
from holdfast.apps.control.parts import open_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.settings import ControlSettings
from holdfast.core.errors import Damaged, Untrusted
from holdfast.core.model import Subject
from holdfast.core.trust import Admitted, admit

PRODUCTION = Subject("production", "shop")
BUT_ONE = SHOP.replace("few: 9", "few: 8")
LOST = SHOP.replace("few: 9", "few: 7")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@contextlib.contextmanager
def started(data_dir: Path) -> Iterator[TestClient[Any]]:
    settings = ControlSettings(data_dir=data_dir, development=True, requests_per_s_max=10_000)
    control = Control(settings, open_parts(data_dir, development=True), time.time)
    token = control.first_token("admin")
    with TestClient(create_app(control)) as client:
        client.headers["X-API-Key"] = token
        end_s = time.monotonic() + 10
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < end_s
        yield client


def commit(client: TestClient[Any], text: str) -> int:
    answer = client.post("/v1/commits", json={"documents": documents(text)})
    assert answer.status_code < 300, answer.text
    revision: int = answer.json()["revision"]
    return revision


def fetched(client: TestClient[Any], active: Admitted | None) -> Admitted:
    bundle = client.get("/production/shop/snapshot").content
    return admit(bundle, PRODUCTION, active, None, verify)


def lose_what_came_after(data_dir: Path) -> Admitted:
    """A consumer's generation of a change that the restored journal has not."""
    with started(data_dir) as client:
        assert client.put("/v1/environments/production", json={}).status_code == 200
        assert client.put("/v1/environments/staging", json={}).status_code == 200
        commit(client, SHOP)
    copy = data_dir.parent / "copy.db"
    shutil.copy(data_dir / "journal.db", copy)
    with started(data_dir) as client:
        commit(client, BUT_ONE)
        commit(client, LOST)
        active = fetched(client, None)
    shutil.copy(copy, data_dir / "journal.db")
    for name in ("journal.db-wal", "journal.db-shm"):
        (data_dir / name).unlink(missing_ok=True)
    return active


def test_an_older_copy_is_refused_until_its_loss_is_accepted(data_dir: Path) -> None:
    lose_what_came_after(data_dir)
    with pytest.raises(Damaged):
        open_parts(data_dir, development=True)


def test_consumers_go_on_once_the_lost_changes_are_made_again_above_them(data_dir: Path) -> None:
    active = lose_what_came_after(data_dir)
    (data_dir / "journal.db-head").unlink()
    with started(data_dir) as client:
        with pytest.raises(Untrusted) as refused:
            fetched(client, active)
        assert refused.value.code == "rollback"
        while client.get("/v1/head").json()["revision"] < active.revision:
            assert client.post("/v1/tokens", json=FILLER).status_code < 300
        assert commit(client, LOST) > active.revision
        now = fetched(client, active)
        assert now.snapshot.setting("tiles") != active.snapshot.setting("tiles")


def test_made_again_below_they_are_refused(data_dir: Path) -> None:
    """The damage: two histories under the same numbers."""
    active = lose_what_came_after(data_dir)
    (data_dir / "journal.db-head").unlink()
    codes = []
    with started(data_dir) as client:
        for few in range(20, 30):
            if commit(client, SHOP.replace("few: 9", f"few: {few}")) > active.revision + 1:
                break
            with pytest.raises(Untrusted) as refused:
                fetched(client, active)
            codes.append(refused.value.code)
    assert set(codes) <= {"rollback", "sideways", "lineage"}
    assert "sideways" in codes
    assert codes[-1] == "lineage"


FILLER = {"name": "to be revoked", "scopes": [{"verbs": ["read"], "service": "none"}]}
