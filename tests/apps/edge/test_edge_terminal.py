"""An edge in a terminal: it ends with it, and does not live on behind it."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
from pathlib import Path

import pytest
from edge_process import edges
from serving import DEADLINE_S, until
from upstream import World


@pytest.mark.parametrize("workers", [1, 2])
def test_an_edge_ends_in_order_when_its_terminal_closes(tmp_path: Path, workers: int) -> None:
    world = World(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ours, theirs = pty.openpty()
    with world.serving() as upstream, edges(tmp_path / "edge", upstream.port, port) as made:
        edge = made.start(terminal=theirs, workers=workers)
        os.close(theirs)
        made.wait_serving(edge)
        os.close(ours)
        assert edge.wait(DEADLINE_S) == 0, made.told()
        assert "Traceback" not in made.told()
        assert not made.answers(), "nobody took its place"
    assert made.told().count("edge stopped") >= 1


def test_a_reload_from_a_terminal_that_is_there_starts_a_successor(tmp_path: Path) -> None:
    world = World(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ours, theirs = pty.openpty()
    with world.serving() as upstream, edges(tmp_path / "edge", upstream.port, port) as made:
        edge = made.start(terminal=theirs)
        made.wait_serving(edge)
        edge.send_signal(signal.SIGHUP)
        until(lambda: made.serving() not in (0, edge.pid), made.told)
        with contextlib.suppress(ProcessLookupError):  # the first one's session ends with it
            os.kill(made.serving(), signal.SIGKILL)
    os.close(theirs)
    os.close(ours)
