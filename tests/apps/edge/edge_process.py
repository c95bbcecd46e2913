"""Edges as processes of their own, on one cache and one port."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from serving import DEADLINE_S, call, until
from upstream import FOLLOW_TEXT, READ

from holdfast.adapters.disk_cache import DiskCache
from holdfast.core.model import Subject

PROGRAM = """
import sys
from pathlib import Path
from holdfast.apps.edge import serve
from holdfast.apps.settings import EdgeSettings
from holdfast.core.errors import HoldfastError
import msgspec
facts = msgspec.json.decode(sys.argv[1])
facts["cache_dir"] = Path(facts["cache_dir"])
facts["upstreams"] = tuple(facts["upstreams"])
try:
    serve(EdgeSettings(**facts, take_over="--take-over" in sys.argv))
except HoldfastError as error:
    sys.exit(str(error))
"""
IN_A_TERMINAL = """
import fcntl, os, termios
if os.isatty(0):  # a successor's is none
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
"""
BANNER = "/production/shop/ofrep/v1/evaluate/flags/banner"
CONTOSO = '{"context":{"tenant":"contoso"}}'


class Edges:
    """Starts edges on one cache and port, and ends all that are left."""

    def __init__(self, cache_dir: Path, upstream: int, port: int, **settings: object) -> None:
        self.port = port
        self.cache_dir = cache_dir
        self.log = cache_dir.parent / "edges.log"
        self.settings = {
            "upstreams": [f"http://127.0.0.1:{upstream}"],
            "token": FOLLOW_TEXT,
            "cache_dir": str(cache_dir),
            "port": port,
            "poll_interval_s": 0.5,
            "shutdown_s": 1,
            **settings,
        }
        self.all: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        *,
        take_over: bool = False,
        tree: Path | None = None,
        terminal: int | None = None,
        **settings: object,
    ) -> subprocess.Popen[bytes]:
        """`terminal`: the descriptor of one, that the edge is started from."""
        facts = msgspec.json.encode({**self.settings, **settings}).decode()
        more = ["--take-over"] if take_over else []
        environment = {**os.environ, "PYTHONWARNINGS": "error"}
        if tree is not None:
            environment |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        program = PROGRAM if terminal is None else IN_A_TERMINAL + PROGRAM
        with self.log.open("ab") as log:
            made = subprocess.Popen(
                [sys.executable, "-c", program, facts, *more],
                stdin=terminal,
                stderr=log,
                env=environment,
                start_new_session=terminal is not None,
            )
        self.all.append(made)
        return made

    def told(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return call(self.port, "POST", BANNER, CONTOSO, READ).status == 200
        return False

    def serving(self) -> int:
        """The process that has the place."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.cache_dir / "holdfast-1" / "edge.lock").read_text())
        return 0

    def wait_serving(self, process: subprocess.Popen[bytes]) -> None:
        until(lambda: self.serving() == process.pid and self.answers(), self.told)

    def end(self) -> None:
        for each in self.all:
            if each.poll() is None:
                each.send_signal(signal.SIGKILL)
            each.wait(DEADLINE_S)


@contextlib.contextmanager
def edges(cache_dir: Path, upstream: int, port: int, **settings: object) -> Iterator[Edges]:
    made = Edges(cache_dir, upstream, port, **settings)
    try:
        yield made
    finally:
        made.end()


def all_kept(cache_dir: Path) -> bool:
    """Whether everything is on disk: a generation answers a moment before it is kept."""
    cache = DiskCache(cache_dir)
    return all(list(cache.load(Subject("production", each))) for each in ("shop", "_access"))
