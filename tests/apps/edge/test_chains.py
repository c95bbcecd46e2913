"""Edges that follow edges, in processes of their own: how news and reports go, and loops."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import call, until
from upstream import FOLLOW_TEXT, READ, World

from holdfast.apps.edge.upstream import HOPS_MAX, Place
from holdfast.core.errors import Unavailable

PROGRAM = """
import sys; from pathlib import Path; from holdfast.apps.edge import serve
from holdfast.apps.settings import EdgeSettings
token, cache, port, *upstreams = sys.argv[1:]
serve(EdgeSettings(upstreams=tuple(upstreams), token=token, cache_dir=Path(cache), port=int(port),
                   poll_interval_s=0.5, shutdown_s=1))
"""
BANNER = "/production/shop/ofrep/v1/evaluate/flags/banner"
SEASON = "/production/shop/ofrep/v1/evaluate/flags/season"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@contextlib.contextmanager
def edge(cache: Path, port: int, *upstreams: int) -> Iterator[subprocess.Popen[bytes]]:
    urls = [f"http://127.0.0.1:{each}" for each in upstreams]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, FOLLOW_TEXT, str(cache), str(port), *urls],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        made = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in made]


def value(port: int, target: str = BANNER) -> object:
    body = json.dumps({"context": {"targetingKey": "u", "tenant": "contoso"}})
    try:
        answered = call(port, "POST", target, body, READ)
    except OSError:
        return None
    return answered.json().get("value") if answered.status == 200 else None


def metric(port: int, name: str) -> float:
    text = call(port, "GET", "/metrics").body.decode()
    return sum(
        float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)
    )


def via(port: int) -> list[str]:
    headers = {"authorization": f"Bearer {FOLLOW_TEXT}"}
    told = call(port, "GET", "/v1/catalogue", headers=headers).headers.get("holdfast-via", "")
    return told.split(", ") if told else []


def test_three_in_a_row_and_the_middle_one_is_lost(world: World, tmp_path: Path) -> None:
    a, b, c = ports(3)
    with contextlib.ExitStack() as alive:
        upstream = alive.enter_context(world.serving())
        alive.enter_context(edge(tmp_path / "a", a, upstream.port))
        until(lambda: value(a) is True)
        middle = alive.enter_context(edge(tmp_path / "b", b, a))
        until(lambda: value(b) is True)
        alive.enter_context(edge(tmp_path / "c", c, b, a))
        until(lambda: value(c) is True)
        world.change()
        until(lambda: value(c, SEASON) == _season(world))
        assert len(via(c)) == 3
        # What the last one tells goes up all the way.
        until(lambda: len({one["consumer"] for one in _reported(world)}) == 3)
        middle.kill()
        world.change()
        until(lambda: value(c, SEASON) == value(a, SEASON) == _season(world))
        until(lambda: len(via(c)) == 2)
        assert value(c) is True


def _reported(world: World) -> list[dict[str, str]]:
    return [one for body in world.reports for one in json.loads(body)["reports"]]


def _season(world: World) -> str:
    return world.view.state.services["shop"].settings["season"].setting.variants["name"]


def test_edges_that_follow_each_other_say_so_and_go_on(world: World, tmp_path: Path) -> None:
    """a follows b, and b follows a: with the control plane dead, neither has news."""
    a, b = ports(2)
    with contextlib.ExitStack() as alive:
        upstream = alive.enter_context(world.serving())
        alive.enter_context(edge(tmp_path / "a", a, upstream.port, b))
        alive.enter_context(edge(tmp_path / "b", b, a))
        until(lambda: value(b) is True)
        upstream.stop()
        until(lambda: metric(a, "holdfast_upstream_loops_total") > 0)
        assert value(a) is value(b) is True
        asked = metric(a, "holdfast_answers_total")
        assert asked < 10_000  # no storm between them


def test_a_way_that_is_too_long_counts_as_a_loop() -> None:
    place = Place("me")
    place.came(", ".join(f"e{number}" for number in range(HOPS_MAX)), "up")
    assert place.via == "me, " + ", ".join(f"e{number}" for number in range(HOPS_MAX))
    with pytest.raises(Unavailable, match="edges from a control plane"):
        place.came(place.via.replace("me", "other"), "up")
    with pytest.raises(Unavailable, match="follows this edge"):
        place.came("x, me", "up")
    assert place.loops == 2
    place.came("", "control")
    assert place.via == "me"
