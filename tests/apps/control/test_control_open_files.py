"""A control plane that may open few files: connections are bounded by it, and never starve it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.gameday.processes import free_ports, until

FILES_MAX = 300
PROGRAM = """
import resource, sys
from holdfast.apps.cli import run
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[1])))
sys.exit(run(["control", "--development", "--data", sys.argv[2], "--port", sys.argv[3]]))
"""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    [port] = free_ports(1)
    arguments = (str(FILES_MAX), str(tmp_path / "data"), str(port))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen((sys.executable, "-c", PROGRAM, *arguments), stderr=log)
    try:
        until(lambda: connected(port), "the control plane listens", 60)
        yield port
    finally:
        process.terminate()
        process.wait()


def connected(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as one:
        one.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        return bool(one.recv(1))
    return False


def test_more_connections_than_files_are_told_so_and_the_others_go_on(port: int) -> None:
    with contextlib.ExitStack() as stack:
        many = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 60))
            for _ in range(FILES_MAX)
        ]
        assert b"too-many-connections" in b"".join(iter(lambda: many[-1].recv(4096), b""))
        many[0].sendall(b"GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n")
        assert many[0].recv(4096).startswith(b"HTTP/1.1 200")
