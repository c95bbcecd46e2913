"""The command line over several nodes: over dead ones, lagging ones, and lost answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from several_nodes import ANSWER_CUT, Nodes, running

from holdfast.apps.cli import run
from holdfast.apps.cli.api import Api
from holdfast.apps.cli.connection import Connection
from holdfast.apps.control.schemas import HeadBody
from holdfast.gameday.proxy import ANSWERS_LOST, PASS, REFUSED

SHOP = """\
service: shop
owners: [shop@example.com]
settings:
  tiles:
    type: integer
    variants: {{few: {few}}}
    environments: {{production: {{default: few}}}}
"""

Command = Callable[..., tuple[int, Any, str]]


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def started(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nodes]:
    with running(tmp_path_factory.mktemp("nodes"), 3, request.param) as nodes:
        yield nodes


@pytest.fixture
def nodes(started: Nodes) -> Iterator[Nodes]:
    """All of them well at the beginning."""
    yield started
    for node in started:
        node.line.be(PASS)
        node.journal.heal()


@pytest.fixture
def holdfast(
    nodes: Nodes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run one command, told of all nodes: (exit code, its JSON or none, what it said besides)."""
    monkeypatch.setenv("HOLDFAST_TOKEN", nodes.token)
    monkeypatch.setenv("HOLDFAST_SERVER", nodes.server)

    def command(*arguments: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        code = run([*arguments, "--output", "json"])
        told = capsys.readouterr()
        return code, json.loads(told.out) if told.out else None, told.err

    assert command("env", "put", "production")[0] == 0
    return command


@pytest.fixture
def shop(tmp_path: Path) -> Callable[[int], str]:
    """A settings file with so many tiles; another number in every test, or nothing changes."""

    def write(few: int) -> str:
        file = tmp_path / "shop.yaml"
        file.write_text(SHOP.format(few=few))
        return str(file)

    return write


def few(told: Any) -> int:
    found: int = told["setting"]["variants"]["few"]
    return found


def test_a_command_goes_to_the_next_node_when_one_is_dead(
    nodes: Nodes, holdfast: Command, shop: Callable[[int], str]
) -> None:
    nodes[0].line.be(REFUSED)
    code, committed, _ = holdfast("apply", shop(30))
    assert code == 0
    nodes[1].line.be(REFUSED)
    code, found, _ = holdfast("get", "shop", "tiles", "--at-least", str(committed["revision"]))
    assert (code, few(found)) == (0, 30)


def test_when_none_answers_each_is_named_with_what_it_said(nodes: Nodes, holdfast: Command) -> None:
    nodes[0].line.be(REFUSED)
    nodes[1].line.be(ANSWER_CUT)
    nodes[2].journal.cut = True
    code, _, said = holdfast("get", "--at-least", "999")
    assert code == 1
    for node in nodes:
        assert node.url in said
    assert "refused" in said
    assert "503 behind" in said


def test_get_after_apply_through_a_node_that_lags(
    nodes: Nodes,
    holdfast: Command,
    shop: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = holdfast("apply", shop(50))[1]["revision"]
    monkeypatch.setenv("HOLDFAST_SERVER", nodes[1].url)
    assert few(holdfast("get", "shop", "tiles", "--at-least", str(first))[1]) == 50
    nodes[1].journal.hold()
    monkeypatch.setenv("HOLDFAST_SERVER", nodes[0].url)
    revision = holdfast("apply", shop(51))[1]["revision"]
    monkeypatch.setenv("HOLDFAST_SERVER", nodes[1].url)
    assert few(holdfast("get", "shop", "tiles")[1]) == 50  # the damage
    assert few(holdfast("get", "shop", "tiles", "--at-least", str(revision))[1]) == 51


def test_one_command_never_goes_back_behind_what_it_saw(
    nodes: Nodes, holdfast: Command, shop: Callable[[int], str]
) -> None:
    """The first node answers the first page and dies; the second lags, and must catch up."""
    nodes[1].journal.hold()
    newest = holdfast("apply", shop(60))[1]["revision"]
    assert nodes[1].revision < newest
    others = tuple(node.url for node in nodes[1:])
    with Api(Connection(nodes[0].url, nodes.token, others=others)) as api:
        assert api.call(HeadBody, "GET", "/v1/head").revision == newest
        nodes[0].line.be(REFUSED)
        nodes[0].line.cut()
        assert api.call(HeadBody, "GET", "/v1/head").revision == newest
    assert nodes[1].revision == newest  # it was asked, and caught up


def entries(nodes: Nodes) -> list[str]:
    return [entry.reason for entry in nodes[0].journal.read(0)]


def test_a_commit_whose_answer_was_lost_is_found_and_made_once(
    nodes: Nodes, holdfast: Command, shop: Callable[[int], str]
) -> None:
    file = shop(70)
    caught = nodes[0].line.trap(b"POST /v1/commits")
    command = _Later(holdfast, "apply", file, "--reason", "70 tiles")
    caught.wait(30.0)
    nodes[0].line.be(ANSWER_CUT)
    caught.let_go()
    code, committed, said = command.result()
    assert code == 0, said
    assert "had committed it" in said
    assert entries(nodes).count("70 tiles") == 1
    assert committed["revision"] == len(entries(nodes))
    assert [one["service"] for one in committed["subjects"]] == ["shop"]


def test_a_commit_that_did_not_arrive_is_made_by_the_next_node(
    nodes: Nodes,
    holdfast: Command,
    shop: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It hangs on its way; the next node commits it; when it arrives at last, it is refused."""
    monkeypatch.setattr("holdfast.apps.cli.nodes.PATIENCE_S", 0.5)
    file = shop(80)
    caught = nodes[0].line.trap(b"POST /v1/commits")
    command = _Later(holdfast, "apply", file, "--reason", "80 tiles")
    caught.wait(30.0)
    code, committed, said = command.result()
    assert code == 0, said
    caught.let_go()
    assert entries(nodes).count("80 tiles") == 1
    assert committed["revision"] == len(entries(nodes))


def test_somebody_elses_commit_is_not_taken_for_ones_own(
    nodes: Nodes, holdfast: Command, shop: Callable[[int], str]
) -> None:
    """The answer is lost, and so is the commit: another one came first."""
    file = shop(90)
    caught = nodes[0].line.trap(b"POST /v1/commits")
    command = _Later(holdfast, "apply", file, "--reason", "90 tiles")
    caught.wait(30.0)
    nodes[1].control.first_token("somebody else")
    nodes[0].line.be(ANSWER_CUT)
    caught.let_go()
    code, _, said = command.result()
    assert code == 1
    assert "conflict" in said
    assert "90 tiles" not in entries(nodes)


def test_of_two_jobs_that_are_alike_each_knows_its_own_commit(
    nodes: Nodes, holdfast: Command, shop: Callable[[int], str]
) -> None:
    """One's answer is lost, the other's commit stands; token, reason and base are the same."""
    job = ("apply", shop(100), "--reason", "100 tiles")
    caught = nodes[0].line.trap(b"POST /v1/commits")
    slow = _Later(holdfast, *job)
    caught.wait(30.0)
    assert holdfast(*job, "--server", nodes[1].url)[0] == 0
    nodes[0].line.be(ANSWER_CUT)
    caught.let_go()
    code, _, said = slow.result()
    assert code == 1, said
    assert "conflict" in said
    assert entries(nodes).count("100 tiles") == 1


def test_what_can_not_be_sent_twice_is_not_and_nothing_is_claimed(
    nodes: Nodes, holdfast: Command
) -> None:
    caught = nodes[0].line.trap(b"POST /v1/tokens")
    command = _Later(holdfast, "token", "create", "ci", "--verb", "read")
    caught.wait(30.0)
    nodes[0].line.be(ANSWER_CUT)
    caught.let_go()
    code, _, said = command.result()
    assert code == 1
    assert "outcome-unknown" in said
    assert "holdfast history" in said
    nodes[0].line.be(PASS)
    names = [one["name"] for one in holdfast("token", "list")[1]]
    assert names.count("ci") == 1  # and so it was right to claim no failure


def test_what_surely_did_not_arrive_goes_on(nodes: Nodes, holdfast: Command) -> None:
    nodes[0].line.be(REFUSED)
    nodes[0].line.cut()
    assert holdfast("token", "create", "ci", "--verb", "read")[0] == 0


def test_revert_and_restore_are_found_again_too(
    nodes: Nodes, holdfast: Command, shop: Callable[[int], str]
) -> None:
    holdfast("apply", shop(120))
    revision = holdfast("apply", shop(121))[1]["revision"]
    caught = nodes[0].line.trap(b"POST /v1/revert")
    command = _Later(holdfast, "revert", str(revision))
    caught.wait(30.0)
    nodes[0].line.be(ANSWER_CUT)
    caught.let_go()
    code, committed, said = command.result()
    assert code == 0, said
    assert entries(nodes).count(f"revert of revision {revision}") == 1
    assert few(holdfast("get", "shop", "tiles")[1]) == 120
    assert committed["revision"] == revision + 1


def test_a_node_that_hangs_is_not_waited_for_while_there_is_another(
    nodes: Nodes, holdfast: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.apps.cli.nodes.PATIENCE_S", 0.2)
    nodes[0].line.be(ANSWERS_LOST)
    assert holdfast("get")[0] == 0


def test_status_shows_every_node(nodes: Nodes, holdfast: Command) -> None:
    nodes[0].line.be(REFUSED)
    nodes[1].journal.hold()
    nodes[1].journal.cut = True
    nodes[2].control.first_token("one revision more")
    code, found, _ = holdfast("status")
    assert code == 1
    assert [node["ready"] for node in found["nodes"]] == [False, False, True]
    assert "behind" in found["nodes"][1]["state"]
    assert found["control"]["url"] == nodes[2].url


class _Later:
    """A command under way in a thread of its own."""

    def __init__(self, holdfast: Command, *arguments: str) -> None:
        self._threads = ThreadPoolExecutor(1)
        self._running = self._threads.submit(holdfast, *arguments)

    def result(self) -> tuple[int, Any, str]:
        with self._threads:
            return self._running.result(60.0)
