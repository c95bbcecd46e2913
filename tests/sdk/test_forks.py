"""Forks with a warm pool: parent and children each get their own, right answers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.sdk.edge import Edge
from tests.sdk.publisher import Publisher
from tests.sdk.waiting import until

from holdfast import Client


def in_child(check: Callable[[], bool]) -> int:
    """Fork, run `check` in the child, and give the child's process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if check() else 3
        finally:
            os._exit(code)
    return child


def went_well(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_parent_and_children_follow_after_a_fork(tmp_path: Path) -> None:
    with Edge(Publisher()) as edge:
        edge.publish(tiles=1)
        client = Client([edge.url], service="demo-shop", cache_dir=tmp_path, poll_interval_s=0.05)
        until(lambda: client.status().streaming and client.get_int("tiles", 0) == 1)

        def follows() -> bool:
            if client.get_int("tiles", 0) != 1:  # at once, before anything is asked
                return False
            names = {thread.name for thread in threading.enumerate()}
            until(lambda: client.get_int("tiles", 0) == 2 and client.status().streaming)
            client.close()
            return "holdfast-follower" in names

        children = [in_child(follows) for _ in range(3)]
        edge.publish(tiles=2)
        until(lambda: client.get_int("tiles", 0) == 2)
        assert all(went_well(child) for child in children)
        edge.publish(tiles=3)
        until(lambda: client.get_int("tiles", 0) == 3)
        client.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_closed_client_stays_closed_in_a_child(tmp_path: Path) -> None:
    with Edge(Publisher()) as edge:
        edge.publish(tiles=1)
        client = Client([edge.url], service="demo-shop", cache_dir=tmp_path)
        assert client.wait_until_ready(20)
        client.close()

        def quiet() -> bool:
            return client.get_int("tiles", 0) == 1 and threading.active_count() == 1

        assert went_well(in_child(quiet))


FORKS_AT_ONCE = """
import os, sys, time
from holdfast import Client
client = Client([sys.argv[1]], service="demo-shop", cache_dir=sys.argv[2], poll_interval_s=0.05)
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        ok = client.wait_until_ready(20) and client.get_int("tiles", 0) == 1
        os._exit(0 if ok else 3)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
assert client.wait_until_ready(20)
print(codes)
"""


def test_a_fork_in_the_middle_of_the_start(tmp_path: Path) -> None:
    """While a thread imports the HTTP stack: a child must not inherit half an import."""
    with Edge(Publisher()) as edge:
        edge.publish(tiles=1)
        command = [sys.executable, "-c", FORKS_AT_ONCE, edge.url, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        assert done.stdout.strip() == "[0, 0, 0, 0]", done.stderr


LATE_IMPORTS = """
import sys
from holdfast.core.model import Subject
from holdfast.sdk.forks import import_http
source = import_http().HttpSource(sys.argv[1])
before = set(sys.modules)
source.snapshot(Subject("production", "demo-shop"), None)
source.hints().close()
print(sorted(set(sys.modules) - before))
"""


def test_asking_imports_nothing_more() -> None:
    """Not even a codec: an import that another thread is in the middle of fails in a child."""
    with Edge(Publisher()) as edge:
        edge.publish(tiles=1)
        command = [sys.executable, "-c", LATE_IMPORTS, edge.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.strip() == "[]", done.stderr


START = """
import sys, time
from holdfast import Client
client = Client(["http://127.0.0.1:1"], service="demo-shop", cache_dir=sys.argv[1])
said = client.evaluate("tiles")
print(said.value, said.stale, *sorted(m for m in sys.modules if m in ("urllib3", "asyncio", "ssl")))
"""


def test_a_start_with_everything_dead_answers_without_the_http_stack(tmp_path: Path) -> None:
    """What makes a start quick (<= 200 ms here): only what answering needs is imported by then."""
    with Edge(Publisher()) as edge:
        edge.publish(tiles=9)
        with Client([edge.url], service="demo-shop", cache_dir=tmp_path) as client:
            until(lambda: client.status().state == "ready")
            until(lambda: list(tmp_path.rglob("*-*")))
    stop: Any = START.replace("said =", "import holdfast.sdk.forks as f; said =")
    done = subprocess.run(
        [sys.executable, "-c", stop, str(tmp_path)], capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    assert done.stdout.split()[:2] == ["9", "True"]
    listing = "import sys, holdfast.sdk.client; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"urllib3", "sseclient", "ssl", "asyncio"} & set(loaded)
