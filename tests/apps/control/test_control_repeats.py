"""A commit that is asked for again: by whom, at which node and when, and what is told then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from a_control_plane import MAIL, SHOP, documents
from litestar.testing import TestClient

import holdfast.apps.control.api  # noqa: F401  two nodes of one process must not import it at once
from holdfast.adapters.signing import Keys
from holdfast.apps.control.app import create_app
from holdfast.apps.control.parts import Parts, memory_parts, open_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.settings import ControlSettings
from holdfast.apps.store_urls import url_of

KEY = "Idempotency-Key"


class Nodes:
    """Two nodes on one store, and who may do everything."""

    def __init__(self, parts: tuple[Parts, Parts], started: ExitStack) -> None:
        self.controls = [_control(each, f"node-{number}") for number, each in enumerate(parts)]
        self.clients = [
            started.enter_context(TestClient(create_app(each))) for each in self.controls
        ]
        self.token = self.controls[0].first_token("ci")
        for environment in ("production", "staging"):
            self.made("PUT", f"/v1/environments/{environment}", {})

    def call(
        self, node: int, method: str, path: str, body: Any = None, *, key: str = "", token: str = ""
    ) -> Any:
        headers = {"Authorization": f"Bearer {token or self.token}", **({KEY: key} if key else {})}
        at = {"at_least": self.controls[0].state().head.revision}
        return self.clients[node].request(method, path, json=body, headers=headers, params=at)

    def made(self, method: str, path: str, body: Any, key: str = "", node: int = 0) -> Any:
        answer = self.call(node, method, path, body, key=key)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def commit(self, body: Any, key: str = "", node: int = 0) -> Any:
        return self.made("POST", "/v1/commits", body, key, node)

    def refused(self, body: Any, key: str = "", node: int = 1, token: str = "") -> Any:
        answer = self.call(node, "POST", "/v1/commits", body, key=key, token=token)
        assert answer.status_code >= 400, answer.text
        return answer.status_code, answer.json()["error"]["code"]

    @property
    def head(self) -> int:
        head: int = self.made("GET", "/v1/head", None)["revision"]
        return head

    def job(self, *texts: str) -> dict[str, Any]:
        """What two jobs of one pipeline send alike."""
        return {
            "documents": documents(*(texts or (SHOP,))),
            "reason": "a job",
            "base_revision": self.head,
        }


def _control(parts: Parts, name: str) -> Control:
    settings = ControlSettings(development=True, requests_per_s_max=100_000, store="shared:")
    return Control(msgspec.structs.replace(settings, node=name), parts, time.time)


@pytest.fixture(params=["memory", "sqlite"])
def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Nodes]:
    if request.param == "memory":
        shared = memory_parts(Keys.init(tmp_path, development=True))
        one = two = msgspec.structs.replace(shared, close=lambda: None)
    else:
        store = url_of(tmp_path / "store")
        one, two = (open_parts(tmp_path / "data", development=True, store=store) for _ in range(2))
    with ExitStack() as started:
        yield Nodes((one, two), started)


def test_a_repeat_is_answered_as_the_first_time_by_every_node_and_for_good(nodes: Nodes) -> None:
    job = nodes.job()
    first = nodes.commit(job, "one")
    assert first["repeated"] is False
    assert {one["service"] for one in first["subjects"]} == {"shop"}
    again = {**first, "problems": [], "repeated": True}
    for node in (0, 1):
        assert nodes.commit(job, "one", node) == again
    nodes.commit({"documents": documents(SHOP.replace("few: 9", "few: 10"), MAIL)})
    for node in (0, 1):
        assert nodes.commit(job, "one", node) == again
    assert nodes.head == first["revision"] + 1


def test_without_a_key_nobody_can_tell(nodes: Nodes) -> None:
    """The damage."""
    job = nodes.job()
    nodes.commit(job)
    assert nodes.refused(job) == (409, "conflict")


def test_what_is_alike_in_all_but_the_key_is_another_commit(nodes: Nodes) -> None:
    job = nodes.job()
    nodes.commit(job, "one")
    assert nodes.refused(job, "another") == (409, "conflict")
    assert nodes.refused(job) == (409, "conflict")


def test_a_key_is_of_one_token_one_body_and_one_route(nodes: Nodes) -> None:
    job = nodes.job()
    nodes.commit(job, "one")
    other = nodes.controls[0].first_token("ci")
    assert nodes.refused(job, "one", token=other) == (409, "conflict")
    assert nodes.refused({**job, "reason": "another"}, "one") == (409, "conflict")
    body = {"service": "shop", "key": "tiles", "revision": 1, "base_revision": nodes.head - 1}
    assert nodes.call(1, "POST", "/v1/restore", body, key="one").status_code == 409


def test_what_was_refused_is_judged_again(nodes: Nodes) -> None:
    wrong = {**nodes.job("service: shop\nsettings: 7\n"), "reason": "wrong"}
    assert nodes.refused(wrong, "one")[0] == 422
    assert nodes.refused(wrong, "one")[0] == 422
    assert nodes.commit(nodes.job(), "one")["repeated"] is False


def test_what_changes_nothing_is_answered_so_again(nodes: Nodes) -> None:
    nodes.commit(nodes.job())
    same = nodes.job()
    first = nodes.commit(same, "one")
    assert first["differences"] == []
    assert nodes.commit(same, "one", 1) == first


def test_undoing_is_known_again_too(nodes: Nodes) -> None:
    for environment in ("production", "staging"):
        policy = {"policy": {"deletion_percent": 100}}
        nodes.made("PUT", f"/v1/environments/{environment}/policy", policy)
    nodes.commit(nodes.job())
    revision = nodes.commit(nodes.job(SHOP.replace("few: 9", "few: 10")))["revision"]
    whole = {"revision": revision, "base_revision": revision}
    first = nodes.made("POST", "/v1/revert", whole, "one")
    again = {**first, "problems": [], "repeated": True}
    assert nodes.made("POST", "/v1/revert", whole, "one", 1) == again
    gone = {"type": "delete-setting", "service": "shop", "key": "tiles"}
    nodes.commit({"edits": [gone], "base_revision": nodes.head})
    whole = {"service": "shop", "key": "tiles", "base_revision": nodes.head}
    first = nodes.made("POST", "/v1/restore", whole, "one")
    again = {**first, "problems": [], "repeated": True}
    assert nodes.made("POST", "/v1/restore", whole, "one", 1) == again


@pytest.mark.parametrize("key", ["a b", "x" * 256, "\x7f"])
def test_a_key_has_a_form(nodes: Nodes, key: str) -> None:
    assert nodes.refused(nodes.job(), key) == (400, "bad-call")


def test_a_key_goes_with_a_base_revision(nodes: Nodes) -> None:
    """Else a repeat could be carried out twice, once whoever remembers has forgotten it."""
    head = nodes.head
    assert nodes.refused({**nodes.job(), "base_revision": None}, "one") == (400, "bad-call")
    assert nodes.head == head


def test_of_racing_jobs_one_commits_and_is_told_so_each_time(nodes: Nodes) -> None:
    """Two jobs, alike in all but their keys, each sent four times over both nodes at once."""
    for _ in range(5):
        job = nodes.job(SHOP.replace("few: 9", f"few: {10 + nodes.head}"))
        sent = [(node, key) for key in ("one", "another") for node in (0, 1, 0, 1)]
        with ThreadPoolExecutor(len(sent)) as threads:
            waiting = [
                (key, threads.submit(nodes.call, node, "POST", "/v1/commits", job, key=key))
                for node, key in sent
            ]
        told: dict[str, set[int]] = {}
        for key, each in waiting:
            told.setdefault(key, set()).add(each.result().status_code)
        assert sorted(told.values(), key=min) == [{201}, {409}]
        answers = [each.result() for _, each in waiting]
        made = [each.json() for each in answers if each.status_code == 201]
        assert {one["hash"] for one in made} == {made[0]["hash"]}
        assert sorted(one["repeated"] for one in made) == [False, True, True, True]
        assert nodes.head == job["base_revision"] + 1
