"""The process around the API: rates, the data plane, the roots, what is durable."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from a_control_plane import SHOP, Clock, Plane, documents
from litestar.testing import TestClient

from holdfast.adapters.signing import Keys, verify
from holdfast.apps.control import app as app_module
from holdfast.apps.control.app import create_app
from holdfast.apps.control.parts import memory_parts, open_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.settings import ControlSettings
from holdfast.core.errors import Unavailable
from holdfast.core.model import Subject
from holdfast.core.trust import admit


def eventually(holds: Any) -> None:
    deadline_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


@contextlib.contextmanager
def serving(control: Control, token: str) -> Iterator[TestClient[Any]]:
    with TestClient(create_app(control)) as client:
        client.headers["X-API-Key"] = token
        yield client


def test_too_many_requests_of_one_token_are_told_when_to_go_on(tmp_path: Path) -> None:
    keys = Keys.init(tmp_path, development=True)
    control = Control(ControlSettings(requests_per_s_max=5), memory_parts(keys), Clock())
    token, other = control.first_token("one"), control.first_token("other")
    with TestClient(create_app(control)) as client:
        answers = [
            client.get("/v1/head", headers={"Authorization": f"Bearer {token}"}) for _ in range(60)
        ]
        refused = [each for each in answers if each.status_code == 429]
        assert refused
        assert refused[0].json()["error"]["code"] == "too-many-requests"
        assert int(refused[0].headers["retry-after"]) >= 1
        quiet = client.get("/v1/head", headers={"Authorization": f"Bearer {other}"})
        assert quiet.status_code == 200
        assert client.get("/healthz").status_code == 200


def test_without_its_api_a_control_plane_hands_out_what_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_control: Control) -> None:
        raise RuntimeError("a framework that does not start")

    monkeypatch.setattr(app_module, "_create_api", fail)
    keys = Keys.init(tmp_path, development=True)
    control = Control(ControlSettings(), memory_parts(keys), Clock())
    with serving(control, control.first_token("admin")) as client:
        eventually(lambda: control.ready)
        assert client.get("/v1/catalogue").status_code == 200
        refused = client.get("/v1/head")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "unavailable"


def test_a_committed_change_is_handed_out_as_a_bundle_that_a_consumer_admits(plane: Plane) -> None:
    eventually(lambda: plane.control.ready)
    revision = plane.commit(SHOP)["revision"]
    answer = plane.client.get("/production/shop/snapshot")
    admitted = admit(answer.content, Subject("production", "shop"), None, None, verify)
    assert admitted.revision == revision
    etag = {"If-None-Match": answer.headers["etag"]}
    assert plane.client.get("/production/shop/snapshot", headers=etag).status_code == 304
    listed = plane.ok("GET", "/v1/catalogue")["subjects"]
    assert {"production", "staging"} == {
        each["environment"] for each in listed if each["service"] == "shop"
    }


def test_the_data_plane_asks_for_tokens_too(plane: Plane) -> None:
    eventually(lambda: plane.control.ready)
    plane.commit(SHOP)
    reader = plane.token({"verbs": ["read"], "environment": "staging", "service": "shop"})
    headers = plane.bearing(reader)
    plane.ok("GET", "/staging/shop/snapshot", headers=headers)
    for path in ("/production/shop/snapshot", "/staging/_access/snapshot"):
        plane.refused("GET", path, 403, headers=headers)
    plane.refused("GET", "/v1/catalogue", 401, headers=plane.bearing("hf_x_1"))


def test_the_next_root_must_be_handed_over_to(plane: Plane, tmp_path: Path) -> None:
    rotated = Keys.load(tmp_path).rotate()
    following = msgspec.to_builtins(rotated.chain[-1])
    strange = Keys.init(tmp_path / "strange", development=True)
    stranger = msgspec.to_builtins(strange.rotate().chain[-1])
    plane.refused("PUT", "/v1/roots", 422, json={"version": 2, "envelope": stranger})
    plane.refused("PUT", "/v1/roots", 422, json={"version": 2, "envelope": {"a": 1}})
    plane.refused("PUT", "/v1/roots", 409, json={"version": 3, "envelope": following})
    plane.ok("PUT", "/v1/roots", json={"version": 2, "envelope": following})
    assert len(plane.ok("GET", "/v1/roots")["roots"]) == 2


def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    settings = ControlSettings(data_dir=tmp_path, development=True)

    def start() -> Control:
        return Control(settings, open_parts(tmp_path, development=True), time.time)

    control = start()
    token = control.first_token("admin")
    with serving(control, token) as client:
        assert client.put("/v1/environments/production", json={}).status_code == 200
        assert client.put("/v1/environments/staging", json={}).status_code == 200
        body = {"documents": documents(SHOP)}
        committed = client.post("/v1/commits", json=body).json()
    with serving(start(), token) as client:
        head = client.get("/v1/head").json()
        assert head == {"revision": committed["revision"], "hash": committed["hash"]}


def test_two_nodes_on_one_journal_write_in_turn_and_lose_nothing(tmp_path: Path) -> None:
    settings = ControlSettings(data_dir=tmp_path, development=True, requests_per_s_max=10_000)
    first = Control(settings, open_parts(tmp_path, development=True), time.time)
    token = first.first_token("admin")
    second = Control(settings, open_parts(tmp_path, development=True), time.time)
    with serving(first, token) as one, serving(second, token) as two:
        one.put("/v1/environments/production", json={})
        before = one.get("/v1/head").json()["revision"]
        answers: list[Any] = []

        def write(client: Any, name: str) -> None:
            for number in range(10):
                text = f"service: {name}-{number}\nsettings: {{}}\n"
                body = {"documents": documents(text)}
                answers.append(client.post("/v1/commits", json=body))

        threads = [
            threading.Thread(target=write, args=(client, name))
            for client, name in ((one, "one"), (two, "two"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [201] * 20
        revisions = sorted(answer.json()["revision"] for answer in answers)
        assert revisions == list(range(before + 1, before + 21))
        names = {each["service"] for each in one.get("/v1/services?limit=500").json()["services"]}
        assert len({name for name in names if name.startswith(("one", "two"))}) >= 10


def test_without_keys_a_control_plane_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="make keys first"):
        open_parts(tmp_path, development=False)
