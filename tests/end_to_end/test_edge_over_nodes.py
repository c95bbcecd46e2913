"""Three control-plane nodes on one store and an edge, each a process: any node dies, one lags."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.processes import HOLDFAST, ROOT, call, decoded, eventually

from holdfast.adapters.signing import Keys
from holdfast.apps.provision import first_token
from holdfast.gameday.processes import free_ports

NAMES = ("a", "b", "c")
COUNTER = """\
service: shop
owners: [shop@example.com]
settings:
  counter:
    type: integer
    variants: {{now: {count}}}
    environments: {{production: {{default: now}}}}
"""


class Installation:
    """Nodes `a`, `b` and `c`, an edge that follows all three, and the operator's command line."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = f"sqlite://{directory / 'store'}"
        ports = free_ports(4)
        self.urls = {name: f"http://127.0.0.1:{ports[n]}" for n, name in enumerate(NAMES)}
        self.edge = f"http://127.0.0.1:{ports[3]}"
        self.server = ",".join(self.urls.values())
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.seen: list[tuple[int, Any]] = []
        self._stop = threading.Event()
        Keys.init(directory / "a" / "keys", development=True)
        for name in NAMES[1:]:
            shutil.copytree(directory / "a" / "keys", directory / name / "keys")
        self.token = first_token(directory / "a", "operator", self.store)

    def held(self, name: str) -> Path:
        return self.directory / f"{name}-hears-nothing"

    def start_node(self, name: str) -> None:
        data, port = str(self.directory / name), self.urls[name].rpartition(":")[2]
        options = ("--store", self.store, "--data", data, "--port", port, "--node", name)
        module = ("tests.end_to_end.lagging_node", str(self.held(name)))
        self._start(name, (sys.executable, "-m", *module, "control", *options))

    def start_edge(self, token: str) -> None:
        upstreams = ("--upstream", self.server, "--cache", str(self.directory / "edge"))
        options = ("--poll-interval", "0.2", "--port", self.edge.rpartition(":")[2], "--open")
        command = (str(HOLDFAST), "edge", *upstreams, *options)
        self._start("edge", command, HOLDFAST_TOKEN=token)

    def _start(self, name: str, command: tuple[str, ...], **environment: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                (*command, "--parent", str(os.getpid()), "--log-level", "warning"),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def ready(self, url: str) -> bool:
        try:
            return call("GET", f"{url}/readyz")[0] == 200
        except OSError:
            return False

    def holdfast(self, *arguments: str, server: str = "") -> Any:
        done = subprocess.run(
            [str(HOLDFAST), *arguments, "--output", "json"],
            capture_output=True,
            check=False,
            timeout=60,
            env={
                **os.environ,
                "HOLDFAST_SERVER": server or self.server,
                "HOLDFAST_TOKEN": self.token,
            },
        )
        assert done.returncode == 0, done.stderr.decode()
        return decoded(done.stdout)

    def count(self, count: int) -> int:
        """Commit another count through whichever node takes it; the revision."""
        file = self.directory / "shop.yaml"
        file.write_text(COUNTER.format(count=count))
        revision: int = self.holdfast("apply", str(file), "--reason", f"count {count}")["revision"]
        return revision

    def counted(self) -> Any:
        """(status, value) at the edge."""
        url = f"{self.edge}/production/shop/ofrep/v1/evaluate/flags/counter"
        status, body, _ = call("POST", url, {"context": {"targetingKey": "u"}})
        return status, body.get("value")

    def shows(self, count: int) -> None:
        eventually(lambda: self.counted() == (200, count), f"{count} at the edge")

    def look(self) -> None:
        """Ask the edge again and again, and keep all that it answers."""

        def ask() -> None:
            while not self._stop.wait(0.02):
                self.seen.append(self.counted())

        self._looking = threading.Thread(target=ask)
        self._looking.start()

    def stop(self) -> None:
        self._stop.set()
        if looking := getattr(self, "_looking", None):
            looking.join()
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Installation]:
    started = Installation(tmp_path)
    try:
        for name in NAMES:
            started.start_node(name)
        for name in NAMES:
            eventually(lambda url=started.urls[name]: started.ready(url), f"{name} is ready")
        started.holdfast("env", "put", "production")
        started.start_edge(started.holdfast("token", "create", "edge", "--verb", "follow")["token"])
        started.count(1)
        started.shows(1)
        yield started
    finally:
        started.stop()


def test_an_edge_and_the_command_line_go_on_whichever_node_dies(three: Installation) -> None:
    three.look()
    for count, name in enumerate(NAMES, start=2):
        three.kill(name)
        three.count(count)
        three.shows(count)
        three.start_node(name)
        eventually(lambda url=three.urls[name]: three.ready(url), f"{name} is ready again")
    three.stop()
    assert {status for status, _ in three.seen} == {200}
    counts = [count for _, count in three.seen]
    assert counts == sorted(counts)  # never back
    assert {1, 2, 3, 4} <= {*counts}


def test_an_edge_never_goes_back_to_a_node_that_lags(three: Installation) -> None:
    three.look()
    for name in NAMES[1:]:
        three.held(name).touch()
    revision = three.count(2)
    three.shows(2)
    lagging = three.holdfast("get", "shop", "counter", server=three.urls["b"])
    assert lagging["setting"]["variants"]["now"] == 1  # it does lag
    three.kill("a")
    refused = f"{three.edge}/metrics"
    eventually(
        lambda: b'event="refused_rollback"' in call("GET", refused)[1],
        "the edge refuses what the lagging node has",
    )
    assert three.counted() == (200, 2)
    found = three.holdfast("get", "shop", "counter", "--at-least", str(revision))
    assert found["setting"]["variants"]["now"] == 2  # who asks for more makes it catch up
    three.held("c").unlink()
    three.count(3)
    three.shows(3)
    three.stop()
    counts = [count for status, count in three.seen if status == 200]
    assert len(counts) == len(three.seen)
    assert counts == sorted(counts)
