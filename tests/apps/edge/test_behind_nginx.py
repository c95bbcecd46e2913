"""An nginx as docs/howto/behind-nginx.md has it, before an edge, and a consumer behind it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from an_edge import edge_at
from an_nginx import nginx_at
from serving import Raw, call, until
from upstream import READ, READ_TEXT, SHOP_SUBJECT, World

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.http_source import HttpSource
from holdfast.adapters.memory_cache import MemoryCache
from holdfast.apps import distribute
from holdfast.apps.edge.process import Edge
from holdfast.sdk import intake
from holdfast.sdk.follower import Follower, Following, boot_clock

HOWTO = Path(__file__).parents[3] / "docs/howto/behind-nginx.md"
SNAPSHOT = "/production/shop/snapshot"
BANNER = "/production/shop/ofrep/v1/evaluate/flags/banner"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@contextlib.contextmanager
def nginx(folder: Path, edge: int) -> Iterator[int]:
    """With the very block of the howto, and this machine's places in it."""
    found = re.search(r"```nginx\n(.*?)```", HOWTO.read_text(), re.DOTALL)
    assert found
    block = found[1].replace("/var/cache/nginx/holdfast", f"{folder}/cache")
    block = block.replace("edge-1:8016", f"127.0.0.1:{edge}")
    block = re.sub(r"\n *server edge-2:8016[^\n]*", "", block)
    with nginx_at(
        folder, lambda port: block.replace("listen 8080;", f"listen 127.0.0.1:{port};")
    ) as port:
        yield port


def cached(port: int, headers: dict[str, str] = READ, target: str = SNAPSHOT) -> tuple[int, str]:
    answered = call(port, "GET", target, headers=headers)
    return answered.status, answered.headers.get("holdfast-cache", "")


@contextlib.contextmanager
def following(port: int, clock=boot_clock) -> Iterator[Follower]:
    source = HttpSource(f"http://127.0.0.1:{port}", READ_TEXT)
    follower = Follower(
        Following(
            sources=lambda: [source],
            cache=MemoryCache(),
            verify=verify,
            subjects=(SHOP_SUBJECT,),
            poll_interval_s=0.1,
            streams=False,
        ),
        clock,
    )
    follower.start()
    try:
        yield follower
    finally:
        follower.close()


def is_at(follower: Follower, edge: Edge) -> bool:
    generation, active = follower.generation(SHOP_SUBJECT), edge.table.get(SHOP_SUBJECT)
    return bool(generation and active and generation.digest == active.digest)


def test_hits_revalidation_and_what_is_never_cached(world: World, tmp_path: Path) -> None:
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "e", upstream.port, shared_cache=True) as edge,
        nginx(tmp_path / "nginx", edge.listener.port) as port,
    ):
        until(lambda: cached(port) == (200, "HIT"))
        first = call(port, "GET", SNAPSHOT, headers=READ)
        digest = edge.table.get(SHOP_SUBJECT).digest
        tag = first.headers["etag"]
        assert tag.startswith(f'W/"{digest}.')
        # Who has the state gets 304 from the cache, by the tag that came with it.
        assert cached(port, {**READ, "if-none-match": f'"{digest}", {tag}'})[0] == 304
        until(lambda: cached(port)[1] == "REVALIDATED" or _was_revalidated(edge))
        before = edge.routes.counts.evaluations
        for _ in range(3):
            answered = call(port, "POST", BANNER, '{"context":{"tenant":"contoso"}}', READ)
            assert answered.json()["value"] is True
            assert "holdfast-cache" not in answered.headers
        assert edge.routes.counts.evaluations == before + 3
        # One token's answer is none for another one, and for nobody without.
        assert cached(port, {})[0] == 401
        assert cached(port, {"authorization": "Bearer hf_other"})[0] == 401


def _was_revalidated(edge: Edge) -> bool:
    """A background update does not show at the client: the edge answered 304."""
    return bool(edge.face.answered.get(304))


def test_without_a_word_of_the_operator_nothing_read_with_a_token_is_kept(
    world: World, tmp_path: Path
) -> None:
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "e", upstream.port) as edge,
        nginx(tmp_path / "nginx", edge.listener.port) as port,
    ):
        assert {cached(port) for _ in range(5)} == {(200, "MISS")}


def test_streams_pass_and_a_change_is_found(world: World, tmp_path: Path) -> None:
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "e", upstream.port, shared_cache=True) as edge,
        nginx(tmp_path / "nginx", edge.listener.port) as port,
        Raw(port) as stream,
        following(port) as follower,
    ):
        token = READ["authorization"].encode()
        stream.send(b"GET /v1/stream HTTP/1.1\r\nhost: x\r\nauthorization: %b\r\n\r\n" % token)
        stream.read_until(b"\r\n\r\n")
        until(lambda: is_at(follower, edge))
        digest = world.change()
        assert digest.encode() in stream.read_until(b"}\n\n")
        until(lambda: is_at(follower, edge))
        assert not follower.is_stale(SHOP_SUBJECT)


def test_the_edge_dies_and_the_cache_serves_and_consumers_say_stale(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_s = 0.0
    with contextlib.ExitStack() as alive:
        upstream = alive.enter_context(world.serving())
        edge = alive.enter_context(edge_at(tmp_path / "e", upstream.port, shared_cache=True))
        port = alive.enter_context(nginx(tmp_path / "nginx", edge.listener.port))
        with following(port, lambda: boot_clock() + ahead_s) as follower:
            until(lambda: is_at(follower, edge))
            until(lambda: follower.counts["answered"] >= 5)
            assert not follower.is_stale(SHOP_SUBJECT)
            edge.listener.stop()
            until(lambda: cached(port)[1] in ("STALE", "UPDATING"))
            assert follower.generation(SHOP_SUBJECT) is not None
            # Within the time that the snapshot names, the last statement counts: nobody refuses it.
            assert not follower.is_stale(SHOP_SUBJECT)
            assert not follower.counts["refused_frozen"]
            ahead_s = 100.0
            assert follower.is_stale(SHOP_SUBJECT)
            until(lambda: follower.counts["refused_frozen"])
            assert call(port, "POST", BANNER, "{}", READ).status in (502, 504)
        # Who begins now gets what the cache has, and is told at once that it is old.
        monkeypatch.setattr(intake, "now_ms", lambda of=intake.now_ms: of() + 100_000)
        with following(port) as late:
            until(lambda: late.generation(SHOP_SUBJECT))
            assert late.is_stale(SHOP_SUBJECT)


@pytest.mark.parametrize("moves", [True, False], ids=["the tag moves", "the tag is the digest"])
def test_a_cache_that_revalidates_hands_out_no_old_statement_for_ever(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: bool
) -> None:
    monkeypatch.setattr(distribute, "TAG_S", 1 if moves else 10**6)

    def said(port: int) -> str:
        world.view.catch_up()  # in step with the journal, as of now
        return call(port, "GET", SNAPSHOT, headers=READ).headers["holdfast-freshness"]

    with (
        world.serving() as upstream,
        edge_at(tmp_path / "e", upstream.port, shared_cache=True) as edge,
        nginx(tmp_path / "nginx", edge.listener.port) as port,
    ):
        first = said(port)
        if moves:
            until(lambda: said(port) != first)
        else:  # what the damage would be
            until(lambda: said(port) == first and _was_revalidated(edge))
            until(lambda: edge.face.answered[304] > 1 or said(port) != first)
            assert said(port) == first
