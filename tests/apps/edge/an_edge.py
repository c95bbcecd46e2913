"""A running edge that follows upstreams on loopback ports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from serving import running, until
from upstream import FOLLOW_TEXT

from holdfast.apps.edge.process import Edge
from holdfast.apps.settings import EdgeSettings


@contextlib.contextmanager
def edge_at(cache_dir: Path, *ports: int, wait: bool = True, **settings: object) -> Iterator[Edge]:
    """With `wait`, an edge that is ready."""
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
