"""A control plane whose build makes other bytes than were published: up, not ready, loud."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from a_control_plane import SHOP, documents
from litestar.testing import TestClient
from test_control_plane import eventually

from holdfast.apps.control.app import create_app
from holdfast.apps.control.parts import open_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.settings import ControlSettings
from holdfast.core import lineage
from holdfast.core.build import build
from holdfast.core.snapshot import Snapshot
from holdfast.core.wire import canonical


def start(data_dir: Path) -> Control:
    settings = ControlSettings(data_dir=data_dir, development=True)
    return Control(settings, open_parts(data_dir, development=True), time.time)


def with_another_default(*arguments: Any, **named: Any) -> Snapshot:
    snapshot = build(*arguments, **named)
    flags = dict(snapshot.flags)
    if "tiles" in flags:
        flag = {**msgspec.json.decode(flags["tiles"]), "defaultVariant": "many"}
        flags["tiles"] = msgspec.Raw(canonical(flag))
    return msgspec.structs.replace(snapshot, flags=flags)


def test_it_says_which_settings_differ_and_serves_signs_and_commits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestClient(create_app(before := start(tmp_path))) as client:
        token = before.first_token("admin")
        client.headers["Authorization"] = f"Bearer {token}"
        for name in ("production", "staging"):
            assert client.put(f"/v1/environments/{name}", json={}).status_code == 200
        assert client.post("/v1/commits", json={"documents": documents(SHOP)}).status_code == 201
        eventually(lambda: before.ready)
        assert client.get("/production/shop/snapshot").status_code == 200

    monkeypatch.setattr(lineage, "build", with_another_default)
    with TestClient(create_app(after := start(tmp_path))) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        eventually(lambda: after.view.agreement.departures)
        ready = client.get("/readyz")
        assert ready.status_code == 503
        fault = ready.json()["error"]
        assert fault["code"] == "not-reproducible"
        assert "production/shop" in fault["message"]
        assert "setting tiles" in fault["message"]
        assert client.get("/healthz").status_code == 200
        assert client.get("/production/shop/snapshot").status_code == 503
        head = client.get("/v1/head").json()
        refused = client.put("/v1/environments/other", json={})
        assert refused.status_code == 503, "another node may do it"
        assert refused.json()["error"]["code"] == "not-reproducible"
        assert "other snapshots than were published" in refused.json()["error"]["message"]
        assert client.get("/v1/head").json() == head
        assert "holdfast_departed_snapshots 1.0" in client.get("/metrics").text
        assert after.shelf.made == 0

    monkeypatch.undo()
    with TestClient(create_app(again := start(tmp_path))) as client:
        eventually(lambda: again.ready)
        assert client.get("/readyz").status_code == 200
