"""An edge's life: from the disk, through dead, lying and returning upstreams, to its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from an_edge import edge_at
from serving import Answered, Raw, call, listening, until
from upstream import FOLLOW_TEXT, READ, READ_TEXT, SHOP_SUBJECT, World, is_, setting, token

from holdfast.adapters.disk_cache import DiskCache
from holdfast.apps.edge import shelf
from holdfast.apps.edge.process import Edge
from holdfast.apps.http import Request, Response
from holdfast.apps.settings import EdgeSettings, problems_of
from holdfast.core.errors import Invalid
from holdfast.core.model import DeleteToken, PutService, Scope, Service, Subject

BANNER = "/production/shop/ofrep/v1/evaluate/flags/banner"
SEASON = "/production/shop/ofrep/v1/evaluate/flags/season"
CONTOSO = '{"context":{"tenant":"contoso"}}'


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


@pytest.fixture
def cache_dir(tmp_path) -> Path:
    return tmp_path / "edge"


def ask(edge: Edge | int, target: str = BANNER, body: str = CONTOSO, **headers: str) -> Answered:
    port = edge if isinstance(edge, int) else edge.listener.port
    return call(port, "POST", target, body, headers or READ)


def metric(edge: Edge, line: str) -> float:
    text = call(edge.listener.port, "GET", "/metrics").body.decode()
    found = [each for each in text.splitlines() if each.startswith(line)]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def revision(answered: Answered) -> int:
    return int(answered.headers["holdfast-revision"])


def test_with_everything_dead_it_starts_from_its_disk_and_says_so(world, cache_dir):
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        fresh = ask(edge)
        assert fresh.json()["value"] is True
        assert "holdfast-stale" not in fresh.headers
        port = upstream.port

    with edge_at(cache_dir, port, wait=False) as edge:
        assert edge.ready()[0]
        answered = ask(edge)
        assert answered.body == fresh.body
        assert answered.headers["holdfast-stale"].startswith("true; age=")
        assert revision(answered) == revision(fresh)
        assert call(edge.listener.port, "GET", "/readyz").json()["stale"] == 1
        assert metric(edge, 'holdfast_stale{environment="production",service="shop"}') == 1
        assert metric(edge, "holdfast_stale_answers_total") == 1
        bulk = ask(edge, BANNER.removesuffix("/banner"))
        assert bulk.headers["holdfast-stale"]
        target = "/config/v1/c/1?environment=production&agents=shop"
        assert call(edge.listener.port, "GET", target, headers=READ).headers["holdfast-stale"]
        assert call(edge.listener.port, "GET", "/production/shop/snapshot", headers=READ).body

        world.change()
        with world.serving(port):
            until(lambda: "holdfast-stale" not in ask(edge).headers)
            until(lambda: ask(edge, SEASON).status == 200)
            assert revision(ask(edge)) > revision(fresh)


def test_without_its_disk_it_is_not_ready_and_does_not_guess(cache_dir):
    with edge_at(cache_dir, 9, wait=False) as edge:
        assert call(edge.listener.port, "GET", "/healthz").status == 200
        ready = call(edge.listener.port, "GET", "/readyz")
        assert (ready.status, ready.json()["ready"]) == (503, False)
        assert ask(edge).status == 401

    with edge_at(cache_dir, 9, wait=False, open_reads=True) as edge:
        answered = ask(edge)
        assert answered.status == 503
        assert answered.headers["retry-after"] == "1"
        assert answered.json()["errorCode"] == "GENERAL"


def test_who_looks_at_an_edge_that_is_not_ready_learns_why_nobody_answers(cache_dir):
    """A wrong token, at an upstream that is well: the edge has nothing, and lists nothing."""
    answers = {"/v1/catalogue": Response(401, [])}

    def answer(request: Request) -> Response:
        return answers.get(request.path, Response(404, []))

    with listening(answer) as strict, edge_at(cache_dir, strict.port, wait=False) as edge:
        until(lambda: "answered 401" in edge.ready()[1].get("silence", ""))
        assert not edge.ready()[0]
        answers["/v1/catalogue"] = Response(200, [], b'{"subjects":[]}')
        until(lambda: "silence" not in edge.ready()[1])


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"token": "hf_a_b\n"}, "bad-token"),
        ({"token": "two words"}, "bad-token"),
        ({"token": "hf_\xe4"}, "bad-token"),
        ({"public_url": "edge.example.com"}, "bad-public-url"),
        ({"upstreams": ("http://a\nb",)}, "bad-upstream"),
        ({"upstreams": ("http://",)}, "bad-upstream"),
        ({"upstreams": ("http://user:S3cret@a",)}, "bad-upstream"),
        ({"upstreams": ("http://user:S3/cret@a",)}, "bad-upstream"),
        ({"upstreams": ("http://a?token=S3cret",)}, "bad-upstream"),
        ({"public_url": "https://user:S3cret@a"}, "bad-public-url"),
    ],
)
def test_what_no_edge_could_work_with_is_refused_at_the_start(settings, code):
    problems = problems_of(EdgeSettings(**settings))
    assert [problem.code for problem in problems] == [code]
    assert "hf_" not in str(problems)
    assert "S3" not in str(problems)


def test_the_upstream_dies_and_returns_and_nothing_goes_back(world, cache_dir):
    with world.serving() as upstream:
        port = upstream.port
        with edge_at(cache_dir, port) as edge:
            seen = [revision(ask(edge))]
            upstream.stop()
            for _ in range(20):
                answered = ask(edge)
                assert answered.json()["value"] is True
                seen.append(revision(answered))
            until(lambda: not upstream.bounds.connections)
            world.change()
            with world.serving(port):
                until(lambda: (seen.append(revision(ask(edge))), seen[-1] > seen[0])[1])
            assert seen == sorted(seen)


def test_another_upstream_takes_over(world, cache_dir):
    with (
        world.serving() as second,
        world.serving() as first,
        edge_at(cache_dir, first.port, second.port) as edge,
    ):
        first.stop()
        world.change()
        until(lambda: ask(edge, SEASON).status == 200)
        until(lambda: str(second.port) in edge.follower.status().upstream)


def test_a_new_service_is_followed_without_a_restart(world, cache_dir):
    everything, kept = token("all", b"a" * 32, Scope(verbs=("read",)))
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        mail = {"quota": setting("integer", {"a": 1}, "a")}
        world.commit(kept, PutService("mail", Service()), *world.settings("mail", mail))
        target = "/production/mail/ofrep/v1/evaluate/flags/quota"
        until(lambda: ask(edge, target, authorization=f"Bearer {everything}").status == 200)


def test_a_revoked_token_is_refused_and_others_are_not(world, cache_dir):
    other, kept = token("other", b"o" * 32, Scope(verbs=("read",)))
    world.commit(kept)
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        for _ in range(2):  # the second one is remembered
            assert ask(edge, authorization=f"Bearer {other}").status == 200
        world.commit(DeleteToken("other"))
        until(lambda: ask(edge, authorization=f"Bearer {other}").status == 401)
        assert ask(edge).status == 200
        assert metric(edge, "holdfast_callers_refused_total") >= 1


def test_an_upstream_that_lies_is_refused_loudly_and_the_last_good_one_stays(world, cache_dir):
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        port, good = upstream.port, ask(edge)

    bundle = world.shelf.newest(SHOP_SUBJECT).bundle.replace(b"contoso", b"fabrika")

    def lie(request: Request) -> Response:
        if request.path == "/v1/catalogue":
            digest = b'"digest":"' + b"0" * 64 + b'"'
            subject = b'{"environment":"production","service":"shop",%b}' % digest
            return Response(200, [], b'{"subjects":[%b]}' % subject)
        return (
            Response(200, [], bundle) if request.path.endswith("/snapshot") else Response(404, [])
        )

    with listening(lie) as liar, edge_at(cache_dir, liar.port, wait=False) as edge:
        assert port != liar.port
        until(lambda: metric(edge, 'holdfast_follower_events_total{event="refused_digest"}'))
        assert ask(edge).body == good.body
        assert edge.ready()[0]
        assert "production/shop" in edge.ready()[1]["refused"]


def test_a_fault_while_shelving_does_not_end_what_is_handed_on(world, cache_dir, monkeypatch):
    def fail(*_: object) -> bytes:
        raise RuntimeError("a fault of ours")

    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        before = call(edge.listener.port, "GET", "/production/shop/snapshot", headers=READ)
        monkeypatch.setattr(shelf, "make_delta", fail)
        world.change()
        until(lambda: metric(edge, "holdfast_shelving_failures_total") == 1)
        monkeypatch.undo()
        world.change()
        path = "/production/shop/snapshot"
        until(
            lambda: (
                int(
                    call(edge.listener.port, "GET", path, headers=READ).headers["holdfast-revision"]
                )
                > int(before.headers["holdfast-revision"])
            )
        )


def test_open_reads_need_no_token_and_stay_on_loopback(world, cache_dir):
    with pytest.raises(Invalid, match="open-beyond-loopback"):
        Edge(EdgeSettings(host="0.0.0.0", open_reads=True, cache_dir=cache_dir))  # noqa: S104

    with (
        world.serving() as upstream,
        edge_at(cache_dir, upstream.port, open_reads=True) as edge,
    ):
        page = {"origin": "https://anywhere.example"}
        for _ in range(2):
            answered = ask(edge, **page)
            assert answered.json()["value"] is True
            assert answered.headers["access-control-allow-origin"] == "*"
        port = edge.listener.port
        shop = call(port, "GET", "/production/shop/snapshot")
        assert shop.headers["cache-control"].startswith("public, ")
        services = call(port, "GET", "/v1/catalogue").json()["subjects"]
        assert [each["service"] for each in services] == ["shop"]
        for headers in ({}, {"authorization": f"Bearer {FOLLOW_TEXT}"}, {}):
            target = "/production/_access/ofrep/v1/evaluate/flags/tokens"
            assert call(port, "POST", target, "{}", headers).status != 200
        assert call(port, "GET", "/production/_access/snapshot").status == 401


def test_metrics_count_what_happened(world, cache_dir):
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        before = metric(edge, "holdfast_evaluations_total")
        for _ in range(3):
            ask(edge)
        ask(edge, body="{")
        assert metric(edge, "holdfast_evaluations_total") == before + 3
        assert metric(edge, 'holdfast_answers_total{status="400"}') == 1
        assert metric(edge, "holdfast_ready") == 1
        assert metric(edge, 'holdfast_revision{environment="production",service="shop"}') > 0
        with Raw(edge.listener.port) as client:
            client.send(b"nonsense\r\n\r\n")
            client.read_all()
        assert metric(edge, 'holdfast_limit_hits_total{limit="head"}') == 1
        assert call(edge.listener.port, "PUT", "/metrics").status == 405


def process(cache_dir: Path, upstream: int, port: int) -> subprocess.Popen[bytes]:
    program = (
        "import sys; from pathlib import Path; from holdfast.apps.edge import serve;"
        "from holdfast.apps.settings import EdgeSettings;"
        "url, token, cache, port = sys.argv[1:];"
        "serve(EdgeSettings(upstreams=(url,), token=token, cache_dir=Path(cache), port=int(port),"
        "poll_interval_s=0.5, shutdown_s=1))"
    )
    url = f"http://127.0.0.1:{upstream}"
    return subprocess.Popen(
        [sys.executable, "-c", program, url, FOLLOW_TEXT, str(cache_dir), str(port)],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


def answers(port: int) -> bool:
    try:
        return ask(port).status == 200
    except OSError:
        return False


def test_a_process_is_killed_starts_again_from_its_disk_and_ends_cleanly(
    world, cache_dir, free_port
):
    with world.serving() as upstream:
        gone = upstream.port
        first = process(cache_dir, gone, free_port)
        until(lambda: answers(free_port))
        until(lambda: all_kept(cache_dir))
        first.kill()
        first.communicate()

    second = process(cache_dir, gone, free_port)
    until(lambda: answers(free_port))
    answered = ask(free_port)
    assert answered.json()["value"] is True
    assert answered.headers["holdfast-stale"]

    with Raw(free_port) as stream:
        read = b"authorization: Bearer %b" % READ_TEXT.encode()
        stream.send(b"GET /v1/stream HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n" % read)
        stream.read_until(b":\n\n")
        second.send_signal(signal.SIGTERM)
        assert stream.read_all().endswith(b"0\r\n\r\n")
    _, log = second.communicate(timeout=10)
    assert second.returncode == 0, log
    assert b'"event": "edge stopped"' in log
    assert READ_TEXT.encode() not in log
    assert b"Traceback" not in log


def all_kept(cache_dir: Path) -> bool:
    """Whether everything is on disk: a generation answers a moment before it is kept."""
    cache = DiskCache(cache_dir)
    return all(list(cache.load(Subject("production", each))) for each in ("shop", "_access"))


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_an_expired_token_is_refused_although_it_was_remembered(world, cache_dir):
    now_s = int(time.time())
    text, kept = token("brief", b"b" * 32, Scope(verbs=("read",)), expires_s=now_s + 3600)
    world.commit(kept)
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        assert ask(edge, authorization=f"Bearer {text}").status == 200
        edge.door._clock = lambda: now_s + 3600.0
        assert ask(edge, authorization=f"Bearer {text}").status == 401
        assert ask(edge).status == 200


def test_one_wrong_rule_is_one_settings_error(world, cache_dir):
    world.put("shop", odd=setting("string", {"a": "A"}, "a", is_("n", 1, "a")))
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        target = BANNER.replace("banner", "odd")
        assert ask(edge, target, '{"context":{"n":[[[]]]}}').status == 200
