"""What a cache that many share may keep: never what one token opened, for somebody without it."""

from __future__ import annotations

from an_edge import edge_at
from serving import call
from test_behind_nginx import SNAPSHOT, cached, nginx
from upstream import FOLLOW_TEXT, READ, World

FOLLOW = {"authorization": f"Bearer {FOLLOW_TEXT}"}
PAGE = {"origin": "https://shop.example"}


def test_a_page_of_an_allowed_origin_gets_nothing_from_a_cache_without_a_token(tmp_path):
    """To nginx before 1.23 the last line of `Vary` is all: no answer that may be kept has two."""
    world = World(tmp_path)
    with (
        world.serving() as upstream,
        edge_at(
            tmp_path / "a", upstream.port, shared_cache=True, origins=("https://shop.example",)
        ) as edge,
        nginx(tmp_path / "nginx", edge.listener.port) as port,
    ):
        assert cached(port, {**READ, **PAGE}) == (200, "MISS")
        edge.listener.stop()
        assert cached(port, {**READ, **PAGE})[0] == 200
        assert cached(port, PAGE)[0] >= 400
        assert cached(port, {**FOLLOW, **PAGE})[0] >= 400


def test_tokens_are_for_no_shared_cache_however_open_reads_are(tmp_path):
    """A cache in front may know nothing of `Vary`, and everybody may read settings here."""
    world = World(tmp_path)
    access = "/production/_access/snapshot"
    with world.serving() as upstream:
        for name, shared in (("a", False), ("b", True)):
            with edge_at(
                tmp_path / name, upstream.port, open_reads=True, shared_cache=shared
            ) as edge:
                port = edge.listener.port
                opened = call(port, "GET", SNAPSHOT)
                assert opened.headers["cache-control"].startswith("public")
                assert call(port, "GET", access).status == 401
                answered = call(port, "GET", access, headers=FOLLOW)
                assert answered.status == 200
                assert answered.headers["cache-control"].startswith("private")
