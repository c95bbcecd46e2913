"""Read-your-writes over two nodes on one journal, of which one lags: with `at_least`, and without.

The lag is real: the second node's watch is held, as by a line that was cut. Its reads of the
journal work until a test cuts them, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from a_control_plane import SHOP, Clock, Plane, documents
from lines import Line
from litestar.testing import TestClient

from holdfast.adapters.memory import MemoryJournal
from holdfast.adapters.signing import Keys
from holdfast.apps.asgi import Message, Receive, Scope, Send
from holdfast.apps.control.abreast import Abreast
from holdfast.apps.control.app import create_app
from holdfast.apps.control.door import ANYBODY, TokenDoor
from holdfast.apps.control.parts import Parts, memory_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.settings import ControlSettings


class Lagging:
    """The second node: a client with the first one's token, and the line to the journal."""

    def __init__(self, client: TestClient[Any], line: Line) -> None:
        self.client = client
        self.line = line

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(path, params=query)


@pytest.fixture
def first(tmp_path: Path, settings: ControlSettings, clock: Clock) -> Iterator[tuple[Plane, Parts]]:
    parts = memory_parts(Keys.init(tmp_path, development=True))
    control = Control(settings, parts, clock)
    app = create_app(control)
    with TestClient(app) as client:
        yield Plane(control, app, client), parts


@pytest.fixture
def near(first: tuple[Plane, Parts]) -> Plane:
    return first[0]


@pytest.fixture
def lagging(
    first: tuple[Plane, Parts], settings: ControlSettings, clock: Clock
) -> Iterator[Lagging]:
    near, parts = first
    assert isinstance(parts.journal, MemoryJournal)
    near.commit(SHOP)
    line = Line(parts.journal)
    second = msgspec.structs.replace(parts, journal=line, close=line.close)
    line.hold()
    with TestClient(create_app(Control(settings, second, clock))) as client:
        client.headers.update(near.bearing(near.admin))
        yield Lagging(client, line)


def more_tiles(plane: Plane) -> int:
    revision: int = plane.commit(SHOP.replace("few: 9", "few: 12"))["revision"]
    return revision


def few(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()["setting"]["variants"]["few"]


TILES = "/v1/services/shop/settings/tiles"


def test_without_at_least_a_node_that_lags_answers_from_before_the_write(
    near: Plane, lagging: Lagging
) -> None:
    revision = more_tiles(near)
    answer = lagging.get(TILES)
    assert few(answer) == 9  # the damage
    assert int(answer.headers["Holdfast-Revision"]) < revision  # and it can be told


def test_with_at_least_it_catches_up_first(near: Plane, lagging: Lagging) -> None:
    revision = more_tiles(near)
    answer = lagging.get(TILES, at_least=revision)
    assert few(answer) == 12
    assert int(answer.headers["Holdfast-Revision"]) >= revision


@pytest.mark.parametrize(
    "path",
    [
        "/v1/head",
        "/v1/services",
        "/v1/services/shop",
        "/v1/services/shop?format=yaml",
        "/v1/settings?q=tiles",
        "/v1/history?limit=1",
        "/v1/diff?from=0",
        "/v1/environments",
        "/v1/export/flagd?service=shop&environment=production",
        "/v1/catalogue",
        "/production/shop/snapshot",
    ],
)
def test_it_holds_for_every_read(near: Plane, lagging: Lagging, path: str) -> None:
    revision = more_tiles(near)
    old = lagging.client.get(path)
    and_ = "&" if "?" in path else "?"
    new = lagging.client.get(f"{path}{and_}at_least={revision}")
    assert old.status_code == new.status_code == 200
    assert int(old.headers["Holdfast-Revision"]) < int(new.headers["Holdfast-Revision"])
    assert new.content == near.client.get(path).content or path.endswith("snapshot")


def test_explain_answers_from_the_snapshot_of_that_revision(near: Plane, lagging: Lagging) -> None:
    revision = more_tiles(near)
    body = {"environment": "production", "service": "shop", "key": "tiles", "context": {}}
    asked = lagging.client.post("/v1/explain", json=body).json()
    assert asked["value"] == 9
    asked = lagging.client.post(f"/v1/explain?at_least={revision}", json=body).json()
    assert asked["value"] == 12


def test_a_node_that_can_not_catch_up_says_so_in_bounded_time(
    near: Plane, lagging: Lagging
) -> None:
    revision = more_tiles(near)
    lagging.line.cut = True
    answer = lagging.get(TILES, at_least=revision)
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert error["code"] == "behind"
    assert (error["expected_revision"], error["actual_revision"]) == (revision, revision - 1)
    assert answer.headers["Retry-After"] == "1"
    assert few(lagging.get(TILES)) == 9  # who does not ask for more is still answered
    lagging.line.cut = False
    assert few(lagging.get(TILES, at_least=revision)) == 12


def test_a_revision_that_the_journal_has_not_is_told_at_once(near: Plane, lagging: Lagging) -> None:
    head = near.head()["revision"]
    for client in (near.client, lagging.client):
        answer = client.get(TILES, params={"at_least": head + 1})
        assert answer.status_code == 503
        assert "so is the journal" in answer.json()["error"]["message"]


@pytest.mark.parametrize("wrong", ["", "-1", "x", "1.5", "9007199254740993", "%31"])
def test_what_is_no_revision_is_refused(near: Plane, wrong: str) -> None:
    answer = near.client.get(f"/v1/head?at_least={wrong}")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad-call"


def test_a_write_tells_the_revision_that_sees_it(near: Plane) -> None:
    body = {"documents": documents(SHOP), "reason": "a test"}
    answer = near.client.post("/v1/commits", json=body)
    assert int(answer.headers["Holdfast-Revision"]) == answer.json()["revision"]


def test_a_token_made_at_one_node_is_known_at_another(near: Plane, lagging: Lagging) -> None:
    issued = near.ok("POST", "/v1/tokens", json={"name": "ci", "scopes": [{"verbs": ["read"]}]})
    headers = near.bearing(issued["token"])
    assert lagging.client.get("/v1/head", headers=headers).status_code == 401
    at_least = {"at_least": issued["revision"]}
    answer = lagging.client.get("/v1/head", headers=headers, params=at_least)
    assert answer.status_code == 200


def test_who_has_no_token_makes_nobody_wait_and_learns_nothing(
    near: Plane, lagging: Lagging
) -> None:
    head = near.head()["revision"]
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer hf_no_such"}):
        answer = lagging.client.get("/v1/head", headers=headers, params={"at_least": head + 9})
        assert answer.status_code == 401
        assert "revision" not in answer.text


def test_however_many_wait_one_catching_up_is_under_way() -> None:
    """Twenty requests at a node that lags, while the store takes its time."""

    async def play() -> tuple[int, int, list[int]]:
        head, under_way, most, rounds = 5, 0, 0, 0
        began, reads = asyncio.Event(), asyncio.Event()

        async def catch_up() -> None:
            nonlocal head, under_way, most, rounds
            under_way += 1
            rounds += 1
            began.set()
            most = max(most, under_way)
            await reads.wait()
            head = 8
            under_way -= 1

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        statuses = []

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        abreast = Abreast(
            app,
            door=TokenDoor(dict, lambda: 0.0),
            head=lambda: head,
            catch_up=catch_up,
            refused=lambda _: None,
        )
        scope = {
            "type": "http",
            "method": "GET",
            "query_string": b"at_least=7",
            "headers": [],
            "holdfast_caller": ANYBODY,
        }
        asked = [asyncio.create_task(abreast(dict(scope), receive, send)) for _ in range(20)]
        await began.wait()
        reads.set()
        await asyncio.gather(*asked)
        return most, rounds, statuses

    most, rounds, statuses = asyncio.run(play())
    assert most == 1
    assert rounds <= 2
    assert statuses == [200] * 20
