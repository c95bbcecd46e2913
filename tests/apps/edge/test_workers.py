"""One edge in several processes: shared port, restarts, one word for all of them."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_process import BANNER, CONTOSO, Edges, edges
from serving import DEADLINE_S, call, until
from upstream import READ, World

from holdfast.apps.edge.siblings import merged
from holdfast.apps.edge.workers import DELAY_S_MAX, delay_s
from holdfast.gameday.patches import defects, own, patched_tree

WORKERS = 2


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def running(world: World, tmp_path: Path, port: int) -> Iterator[Edges]:
    with (
        world.serving() as upstream,
        edges(tmp_path / "edge", upstream.port, port, workers=WORKERS) as made,
    ):
        made.wait_serving(made.start())
        until(lambda: len(workers_ready(made)) == WORKERS, made.told)
        yield made


def readyz(running: Edges) -> dict:
    with contextlib.suppress(OSError):
        return call(running.port, "GET", "/readyz").json()
    return {}


def workers_ready(running: Edges) -> dict[str, bool]:
    found = readyz(running).get("workers", {})
    return {worker: ready for worker, ready in found.items() if ready}


def metrics(running: Edges) -> str:
    return call(running.port, "GET", "/metrics").body.decode()


def pids(running: Edges) -> list[int]:
    """The workers of the first process, by number."""
    parent = running.all[0].pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return sorted(int(each) for each in children)


def test_the_first_restart_is_at_once_and_later_ones_wait_longer_by_chance() -> None:
    assert delay_s(1, 0.99) == 0.0
    assert delay_s(2, 0.0) < delay_s(2, 0.9) < delay_s(4, 0.0)
    assert delay_s(1_000, 0.999) <= DELAY_S_MAX


def test_metrics_of_all_become_one_exposition() -> None:
    one = "# HELP a_total A.\n# TYPE a_total counter\na_total 1.0\n# HELP b B.\n# TYPE b gauge\n"
    told = merged([(0, one + 'b{x="1 2"} 5.0\n'), (1, one + 'b{x="1 2"} 7.0\n')])
    assert told.splitlines() == [
        "# HELP a_total A.",
        "# TYPE a_total counter",
        'a_total{worker="0"} 1.0',
        'a_total{worker="1"} 1.0',
        "# HELP b B.",
        "# TYPE b gauge",
        'b{worker="0",x="1 2"} 5.0',
        'b{worker="1",x="1 2"} 7.0',
    ]


def test_both_serve_and_one_word_is_for_both(running: Edges) -> None:
    for _ in range(40):
        assert running.answers()
    until(
        lambda: (
            len(re.findall(r'holdfast_evaluations_total{worker="\d"} [1-9]', metrics(running))) == 2
        ),
        lambda: metrics(running),
    )
    assert metrics(running).count("# HELP holdfast_evaluations_total ") == 1
    assert readyz(running)["ready"] is True
    assert (running.cache_dir / "worker-1" / "holdfast-1").is_dir()


def test_a_worker_that_dies_comes_back_and_nobody_is_refused(running: Edges) -> None:
    first = pids(running)
    os.kill(first[0], signal.SIGKILL)
    for _ in range(50):
        assert running.answers(), running.told()
    until(lambda: len(pids(running)) == WORKERS and first[0] not in pids(running))
    assert '"a worker died"' in running.told()
    until(lambda: len(workers_ready(running)) == WORKERS)


@pytest.mark.long
def test_a_worker_that_hangs_is_ended_and_comes_back(running: Edges) -> None:
    hung = pids(running)[1]
    os.kill(hung, signal.SIGSTOP)
    until(lambda: hung not in pids(running), running.told)
    assert "a worker hangs" in running.told()


def test_the_end_of_the_parent_is_the_end_of_all(running: Edges) -> None:
    parent, children = running.all[0], pids(running)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(DEADLINE_S) == 0, running.told()
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_a_parent_that_is_killed_takes_its_workers_along(running: Edges) -> None:
    parent, children = running.all[0], pids(running)
    parent.kill()
    parent.wait(DEADLINE_S)
    until(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()])
    running.wait_serving(running.start(take_over=True))


def test_a_whole_group_takes_over(running: Edges) -> None:
    old, new = running.all[0], running.start(take_over=True)
    running.wait_serving(new)
    assert old.wait(DEADLINE_S) == 0, running.told()
    until(lambda: len(workers_ready(running)) == WORKERS)


@pytest.mark.parametrize("workers", [1, 3])
def test_another_number_of_workers_takes_over(running: Edges, workers: int) -> None:
    new = running.start(take_over=True, workers=workers)
    running.wait_serving(new)
    assert running.all[0].wait(DEADLINE_S) == 0, running.told()
    answered = collections.Counter(
        call(running.port, "POST", BANNER, CONTOSO, READ).status for _ in range(60)
    )
    assert answered == {200: 60}


def test_a_group_that_answers_wrongly_takes_nothing_over(running: Edges, tmp_path: Path) -> None:
    defect = next(one for one in defects(own("defects")) if one.name == "edge-wrong-default")
    new = running.start(take_over=True, tree=patched_tree(tmp_path / "tree", defect))
    assert new.wait(DEADLINE_S) == 1
    assert re.search(r"worker \d: .*this build answers wrongly", running.told())
    assert running.serving() == running.all[0].pid
    assert running.answers()
