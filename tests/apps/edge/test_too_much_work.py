"""One caller's long lists are refused: no worker dies of them, and no generation is blamed."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from an_edge import edge_at
from edge_process import edges
from serving import Answered, call, until
from upstream import READ, SHOP_SUBJECT, World, setting

from holdfast.apps import ofrep
from holdfast.core import limits
from holdfast.core.model import PutService, Rule, Service

ALL = "/production/mail/ofrep/v1/evaluate/flags"
CONFIG = "/config/v1/Teams/1.5.0?environment=production&tenantId=contoso&agents=shop"
SETTINGS = 20
LONG = json.dumps({"context": {"tags": ["a"] * 12_000}}, separators=(",", ":"))
SHORT = '{"context":{"tags":["b","t3"]}}'


def tagged(values: object, text: str) -> Rule:
    return Rule(logic={"some": [values, {"==": [{"var": ""}, text]}]}, serve="yes")


def kept(rule: Rule) -> object:
    return setting("boolean", {"yes": True, "no": False}, "no", rule)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    rules = {f"s{number}": tagged({"var": "tags"}, f"t{number}") for number in range(SETTINGS)}
    settings = {key: kept(rule) for key, rule in rules.items()}
    made.commit(PutService("mail", Service()), *made.settings("mail", settings))
    return made


def patiently(port: int, body: str, target: str = ALL) -> Answered:
    """The answer, once the edge has room for it: long lists are dear, and on a busy machine
    whoever asks may be put off."""
    found: list[Answered] = []
    until(lambda: found.append(call(port, "POST", target, body)) or found[-1].status != 503)
    return found[-1]


def test_no_worker_dies_of_long_lists(world: World, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (
        world.serving() as upstream,
        edges(tmp_path / "e", upstream.port, port, workers=2, open_reads=True) as running,
    ):
        running.wait_serving(running.start())
        until(lambda: {call(port, "POST", ALL, SHORT).status for _ in range(20)} == {200})
        for _ in range(8):
            refused = patiently(port, LONG)
            assert (refused.status, refused.json()["errorCode"]) == (400, "INVALID_CONTEXT")
            assert refused.json()["errorDetails"] == ofrep.TOO_MUCH
        assert patiently(port, LONG, f"{ALL}/s1").json()["value"] is False
        answered = patiently(port, SHORT).json()
        flags = {each["key"]: each["value"] for each in answered["flags"]}
        assert flags == {f"s{number}": number == 3 for number in range(SETTINGS)}
        assert "died" not in running.told()


def test_a_refusal_is_counted_and_is_no_failure_of_a_setting(world: World, tmp_path: Path) -> None:
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "e", upstream.port, open_reads=True) as edge,
    ):
        until(lambda: call(edge.listener.port, "POST", ALL, SHORT).status == 200)
        for _ in range(8):  # on the long way and on the short one
            assert patiently(edge.listener.port, LONG).status == 400
        told = call(edge.listener.port, "GET", "/metrics").body.decode()
        where = '{environment="production",service="mail"}'
        assert f"holdfast_exhausted_requests{where} 8.0" in told
        assert f"holdfast_failed_evaluations{where} 0.0" in told


def test_one_long_list_that_many_settings_read_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    equal = {
        f"s{n}": kept(Rule(logic={"==": [{"var": "tags"}, f"{n}"]}, serve="yes")) for n in range(60)
    }
    world.commit(PutService("mail", Service()), *world.settings("mail", equal))
    long = json.dumps({"context": {"tags": [1] * 32_000}}, separators=(",", ":"))
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "e", upstream.port, open_reads=True) as edge,
    ):
        until(lambda: call(edge.listener.port, "POST", ALL, SHORT).status == 200)
        refused = patiently(edge.listener.port, long)
        assert (refused.status, refused.json()["errorDetails"]) == (400, ofrep.TOO_MUCH)
        assert patiently(edge.listener.port, long, f"{ALL}/s1").json()["value"] is False


def test_unbounded_every_setting_walks_the_list(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REQUEST_STEPS_MAX", 10**12)
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "e", upstream.port, open_reads=True) as edge,
    ):
        until(lambda: call(edge.listener.port, "POST", ALL, SHORT).status == 200)
        assert len(patiently(edge.listener.port, LONG).json()["flags"]) == SETTINGS


def test_the_ecs_shaped_read_has_the_same_bound(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REQUEST_STEPS_MAX", 100)
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        port = edge.listener.port
        until(lambda: call(port, "GET", CONFIG, None, READ).status == 200)
        world.put("shop", walks=kept(tagged([1] * 200, "x")))
        revision = world.shelf.newest(SHOP_SUBJECT).revision
        until(lambda: edge.table.get(SHOP_SUBJECT).revision == revision)
        refused = call(port, "GET", CONFIG, None, READ)
        assert refused.status in {400, 422}
        assert "too much work" in json.dumps(refused.json())
