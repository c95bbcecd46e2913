"""An upstream with a shop, and edges that follow it; all of it real but for the API."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import running, until
from upstream import FOLLOW_TEXT, World

from holdfast.apps.edge.process import Edge
from holdfast.apps.settings import EdgeSettings


@contextlib.contextmanager
def edge_at(cache_dir: Path, *ports: int, wait: bool = True, **settings: object) -> Iterator[Edge]:
    """A running edge that follows upstreams on loopback ports; with `wait`, once it is ready."""
    edge = Edge(
        EdgeSettings(
            upstreams=tuple(f"http://127.0.0.1:{port}" for port in ports),
            token=FOLLOW_TEXT,
            cache_dir=cache_dir,
            port=0,
            shutdown_s=1,
            **{"poll_interval_s": 0.5, **settings},
        )
    )
    edge.start()
    try:
        with running(edge.listener):
            if wait:
                until(lambda: edge.ready()[0])
            yield edge
    finally:
        edge.close()


Edges = Callable[..., contextlib.AbstractContextManager[Edge]]


@pytest.fixture
def edges() -> Edges:
    return edge_at


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def shop(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """One edge for the tests that only read: answers with tokens."""
    cache_dir = tmp_path_factory.mktemp("edge")
    with world.serving() as upstream, edge_at(cache_dir, upstream.port) as edge:
        yield edge
