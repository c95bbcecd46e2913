"""An upstream with a shop, and edges that follow it; all of it real but for the API."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from an_edge import edge_at
from upstream import World

from holdfast.apps.edge.process import Edge

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
