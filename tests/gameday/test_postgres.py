"""A real PostgreSQL for drills: what is done to it, and that it ends with who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from holdfast.core.errors import Unavailable
from holdfast.gameday.postgres import Postgres
from holdfast.gameday.processes import until

DEADLINE_S = 60.0
STARTS_ONE = """
import sys
from holdfast.gameday.postgres import Postgres
with Postgres() as server:
    print(server.pid, server.directory, flush=True)
    if sys.argv[1] == "stopped":
        server.stop()
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as running:
        yield running


def test_what_was_committed_is_there_after_a_kill_on_the_same_port(server: Postgres) -> None:
    server.ask("CREATE TABLE kept AS SELECT 1 AS number")
    port, pid = server.port, server.pid
    server.kill()
    with pytest.raises(psycopg.OperationalError):
        server.ask("SELECT 1")
    server.start()
    assert server.ask("SELECT number FROM kept") == [(1,)]
    assert (server.port, server.pid != pid) == (port, True)
    server.restart()
    assert server.ask("SELECT number FROM kept") == [(1,)]


def test_a_stopped_server_answers_when_it_goes_on(server: Postgres) -> None:
    answers: list[object] = []
    with psycopg.connect(server.url, autocommit=True) as open_before:
        server.stop()
        asking = threading.Thread(
            target=lambda: answers.append(open_before.execute("SELECT 1").fetchone())
        )
        asking.start()
        asking.join(0.5)
        assert answers == []
        server.cont()
        asking.join(DEADLINE_S)
        assert answers == [(1,)]


def test_a_replica_follows_and_takes_over(server: Postgres) -> None:
    with server.replica() as replica:
        assert replica.ask("SELECT pg_is_in_recovery()") == [(True,)]
        replica.promote()
        assert replica.ask("SELECT pg_is_in_recovery()") == [(False,)]


def test_nothing_is_left_of_it() -> None:
    with Postgres() as server:
        directory, pid = server.directory, server.pid
        server.stop()
    assert not directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(Unavailable):
        _ = server.pid


@pytest.mark.parametrize("how", ["running", "stopped"])
def test_it_ends_with_who_started_it_even_by_a_kill(how: str) -> None:
    with subprocess.Popen(
        (sys.executable, "-c", STARTS_ONE, how), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid, directory = parent.stdout.readline().split()
        assert parent.stdout.readline() == b"ready\n"
        parent.send_signal(signal.SIGKILL)
    until(lambda: not Path(directory.decode()).exists(), "the end of its directory", DEADLINE_S)
    until(lambda: not Path(f"/proc/{int(pid)}/stat").exists(), "its end", DEADLINE_S)


def test_a_setting_that_it_refuses_is_told_with_its_own_words() -> None:
    with (
        pytest.raises(Unavailable, match="no_such_setting"),
        Postgres(settings={"no_such_setting": "1"}),
    ):
        pass
