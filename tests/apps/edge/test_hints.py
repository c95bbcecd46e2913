"""Streams of a whole edge: switched off by a file, bounded so that requests always have room."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest
from an_edge import edge_at
from serving import Raw, call, until
from upstream import READ_TEXT, World, setting, token

from holdfast.apps.edge.hints import Hints
from holdfast.apps.edge.process import Edge
from holdfast.core.model import DeleteToken, Scope

AUTH = {"authorization": f"Bearer {READ_TEXT}"}
STREAM = f"GET /v1/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {READ_TEXT}\r\n\r\n".encode()


@contextlib.contextmanager
def listening_to(edge: Edge) -> Iterator[Raw]:
    with Raw(edge.listener.port) as client:
        client.send(STREAM)
        client.read_until(b"text/event-stream")
        yield client


def metric(edge: Edge, name: str) -> float:
    body = call(edge.listener.port, "GET", "/metrics").body.decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", body, re.MULTILINE)
    assert found, f"no {name}"
    return float(found[1])


def test_a_file_switches_streams_off_and_on_while_everything_else_goes_on(world: World, tmp_path):
    with world.serving() as upstream, edge_at(tmp_path / "edge", upstream.port) as edge:
        port, file = edge.listener.port, tmp_path / "edge" / "streams-off"
        with listening_to(edge) as client:
            file.touch()
            assert client.read_all().endswith(b"0\r\n\r\n")
        refused = call(port, "GET", "/v1/stream", headers=AUTH)
        assert (refused.status, refused.json()["error"]["code"]) == (503, "streams-off")
        assert 30 <= int(refused.headers["retry-after"]) <= 90
        assert metric(edge, "holdfast_streams_off") == 1
        assert metric(edge, "holdfast_streams_refused_off_total") == 1
        assert call(port, "GET", "/production/shop/snapshot", headers=AUTH).status == 200

        world.put("shop", unheard=setting("integer", {"a": 1}, "a"))
        snapshot = partial(call, port, "GET", "/production/shop/snapshot", headers=AUTH)
        until(lambda: b'"unheard"' in snapshot().body)
        file.unlink()
        until(lambda: metric(edge, "holdfast_streams_off") == 0)
        with listening_to(edge) as client:
            world.put("shop", unheard=setting("integer", {"a": 2}, "a"))
            client.read_until(b"event: change")


def test_a_setting_switches_streams_off_from_the_start(world: World, tmp_path):
    with world.serving() as upstream, edge_at(tmp_path, upstream.port, streams=False) as edge:
        assert call(edge.listener.port, "GET", "/v1/stream", headers=AUTH).status == 503
        uri = "/production/shop/ofrep/v1/stream"
        refused = call(edge.listener.port, "GET", uri, headers=AUTH)
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) > 0


def test_streams_leave_room_for_requests(world: World, tmp_path):
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(world.serving())
        edge = stack.enter_context(edge_at(tmp_path, upstream.port, connections_max=20))
        for _ in range(18):
            stack.enter_context(listening_to(edge))
        refused = call(edge.listener.port, "GET", "/v1/stream", headers=AUTH)
        assert (refused.status, refused.json()["error"]["code"]) == (503, "too-many-streams")
        assert call(edge.listener.port, "GET", "/readyz").status == 200
        assert metric(edge, 'holdfast_limit_hits_total{limit="streams"}') == 1


def test_a_revoked_token_hears_no_more_over_a_stream_that_is_open(world: World, tmp_path):
    text, kept = token("other", b"o" * 32, Scope(verbs=("read",)))
    world.commit(kept)
    with (
        world.serving() as upstream,
        edge_at(tmp_path, upstream.port) as edge,
        Raw(edge.listener.port) as revoked,
        Raw(edge.listener.port) as other,
    ):
        port, uri = edge.listener.port, "/production/shop/ofrep/v1/stream"
        for client, shown in ((revoked, text), (other, READ_TEXT)):
            client.send(
                f"GET {uri} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {shown}\r\n\r\n".encode()
            )
            client.read_until(b":\n\n")
        world.commit(DeleteToken("other"))
        shown = {"authorization": f"Bearer {text}"}
        until(lambda: call(port, "HEAD", "/production/shop/snapshot", headers=shown).status == 401)
        world.put("shop", unheard=setting("integer", {"a": 1}, "a"))
        other.read_until(b"refetchEvaluation")
        edge.hints.refetches.dismiss()
        assert b"refetchEvaluation" not in revoked.read_all()


def test_a_disk_that_cannot_say_leaves_streams_on(tmp_path):
    hints = Hints(tmp_path / ("x" * 300), 100)
    hints.look(())
    assert not hints.room.off


ROOM = """
import resource, sys
from holdfast.apps.observe import start_logs
from holdfast.apps.open_files import room_for
soft, hard = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
start_logs("info", "edge")
print(room_for(1000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "room", "soft_after"),
    [
        pytest.param(2000, 2000, 1000, 2000, id="enough"),
        pytest.param(100, 2000, 1000, 1256, id="raised"),
        pytest.param(100, 600, 344, 600, id="too little"),
    ],
)
def test_open_files_are_raised_and_what_is_too_little_is_said(soft, hard, room, soft_after):
    done = subprocess.run(
        [sys.executable, "-c", ROOM, str(soft), str(hard)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(room), str(soft_after)]
    if room == 1000:
        assert done.stderr == ""
    else:
        said = json.loads(done.stderr)
        assert (said["room_for"], "ulimit -n 1256" in said["way_out"]) == (344, True)
