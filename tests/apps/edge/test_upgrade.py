"""Upgrades in place, with real processes: nobody who asks notices."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_process import BANNER, CONTOSO, Edges, all_kept, edges
from serving import DEADLINE_S, Raw, until
from upstream import READ, READ_TEXT, World

from holdfast.gameday.load import Kind, Load, Loaded
from holdfast.gameday.patches import defects, own, patched_tree


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def running(world: World, tmp_path: Path, port: int) -> Iterator[Edges]:
    with world.serving() as upstream, edges(tmp_path / "edge", upstream.port, port) as made:
        made.wait_serving(made.start())
        yield made


def kinds() -> tuple[Kind, ...]:
    single = Kind("single", "POST", BANNER, READ, CONTOSO.encode(), weight=8)
    bulk = Kind("bulk", "POST", BANNER.removesuffix("/banner"), READ, CONTOSO.encode())
    return single, bulk, Kind("snapshot", "GET", "/production/shop/snapshot", READ)


def lost(loaded: Loaded) -> dict[str, int]:
    """All that did not get a good answer, by what became of it; empty for a good upgrade."""
    names = ("failed", "refused", "resets", "unanswered", "unsent")
    sums = {name: sum(getattr(each, name) for each in loaded.kinds.values()) for name in names}
    sums["connects_failed"] = loaded.connects_failed
    return {name: count for name, count in sums.items() if count}


def upgrade(
    running: Edges, times: int, rate_per_s: float, seconds: float, deadline_s: float = 0.1
) -> Loaded:
    url = f"http://127.0.0.1:{running.port}"
    patience_s = DEADLINE_S
    with Load(
        url, kinds(), rate_per_s, 64, seconds, deadline_s=deadline_s, patience_s=patience_s
    ) as load:
        for _ in range(times):
            old = running.all[-1]
            running.wait_serving(running.start(take_over=True))
            assert old.wait(DEADLINE_S) == 0, running.told()
        return load.wait()


@pytest.mark.timeout(300)
def test_two_upgrades_under_load_lose_nothing(running: Edges) -> None:
    """What admission refuses was told when to come again: a machine that does other things."""
    loaded = upgrade(running, 2, 300, 6.0)
    left = lost(loaded)
    left.pop("refused", 0)
    assert left == {}, running.told()
    assert loaded.offered > 1000


@pytest.mark.long
@pytest.mark.timeout(300)
def test_ten_upgrades_at_half_capacity_lose_nothing(running: Edges) -> None:
    """Capacity is what is answered in time when too much is asked, and an upgrade is under way: a
    machine that starts a process has no more to give. What admission refuses at half of it is the
    business of others on the machine, and was told when to come again."""
    able = upgrade(running, 1, 20_000, 6.0, deadline_s=0.5)
    loaded = upgrade(running, 10, able.useful_per_s / 2, 25.0)
    left = lost(loaded)
    assert left.pop("refused", 0) < 0.01 * loaded.offered
    assert left == {}, running.told()


def asking() -> bytes:
    head = f"POST {BANNER} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {READ_TEXT}\r\n"
    return f"{head}content-length: {len(CONTOSO)}\r\n\r\n{CONTOSO}".encode()


def asked(client: Raw) -> bytes:
    """The head of an answer; its body is read, too."""
    client.send(asking())
    head = client.read_until(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].split()[0])
    while len(client.seen) < length:
        client.seen += client.socket.recv(length)
    client.seen = client.seen[length:]
    return head


def used_once(port: int) -> Raw:
    client = Raw(port)
    assert b"200 OK" in asked(client)
    return client


def test_connections_at_rest_are_answered_once_more_and_told_to_go(running: Edges) -> None:
    old = running.all[0]
    with contextlib.ExitStack() as open_ones:
        clients = [open_ones.enter_context(used_once(running.port)) for _ in range(20)]
        running.wait_serving(running.start(take_over=True))
        # It leaves on its event loop, in one turn: who is told to go first, asks until then.
        until(lambda: b"connection: close" in asked(clients[0]), running.told)
        assert clients.pop(0).read_all() == b""
        for client in clients:
            assert old.poll() is None
            head = asked(client)
            assert b"200 OK" in head
            assert b"connection: close" in head
            assert client.read_all() == b""
    assert old.wait(DEADLINE_S) == 0, running.told()


def test_streams_end_in_good_order_and_find_the_new_process(running: Edges) -> None:
    read = b"authorization: Bearer %b" % READ_TEXT.encode()
    opening = b"GET /v1/stream HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n" % read
    with contextlib.ExitStack() as open_ones:
        streams = [open_ones.enter_context(Raw(running.port)) for _ in range(5)]
        for stream in streams:
            stream.send(opening)
            stream.read_until(b":\n\n")
        running.wait_serving(running.start(take_over=True))
        for stream in streams:
            assert stream.read_all().endswith(b"0\r\n\r\n")
    assert running.all[0].wait(DEADLINE_S) == 0, running.told()
    with Raw(running.port) as again:
        again.send(opening)
        again.read_until(b":\n\n")


def ends_with_1(process: subprocess.Popen[bytes], running: Edges, why: str) -> None:
    """A takeover that fails says why, and changes nothing."""
    assert process.wait(DEADLINE_S) == 1
    assert why in running.told()
    running.wait_serving(running.all[0])
    with used_once(running.port) as client:
        assert b"connection: close" not in asked(client)


def test_a_build_that_answers_wrongly_takes_nothing_over(running: Edges, tmp_path: Path) -> None:
    defect = next(one for one in defects(own("defects")) if one.name == "edge-wrong-default")
    tree = patched_tree(tmp_path / "tree", defect)
    new = running.start(take_over=True, tree=tree)
    ends_with_1(new, running, "this build answers wrongly")


def test_who_is_not_ready_in_time_takes_nothing_over(running: Edges) -> None:
    """The disk is empty and nobody can be asked: only the one that runs has what it answers."""
    until(lambda: all_kept(running.cache_dir))
    shutil.rmtree(running.cache_dir / "holdfast-1" / "generations")
    nobody = ["http://127.0.0.1:9"]
    new = running.start(take_over=True, take_over_within_s=0.2, upstreams=nobody)
    ends_with_1(new, running, "not taken over: after 0.2 s there is nothing here as new as")


def test_without_the_flag_a_second_one_is_refused(running: Edges) -> None:
    ends_with_1(running.start(), running, "--take-over")


def test_the_new_one_is_killed_while_the_old_one_ends(running: Edges) -> None:
    """As long as the old one is there, it stands in."""
    with used_once(running.port) as client:
        new = running.start(take_over=True)
        running.wait_serving(new)
        until(lambda: "this one finishes and ends" in running.told())
        new.kill()
        new.wait(DEADLINE_S)
        running.wait_serving(running.all[0])
        assert b"200 OK" in asked(client)
    with used_once(running.port) as client:
        assert b"connection: close" not in asked(client)


def test_the_old_one_is_killed_while_it_ends(running: Edges) -> None:
    with used_once(running.port):
        new = running.start(take_over=True)
        running.wait_serving(new)
        running.all[0].kill()
        running.all[0].wait(DEADLINE_S)
        running.wait_serving(new)
        third = running.start(take_over=True)
        running.wait_serving(third)
        assert new.wait(DEADLINE_S) == 0


def test_a_hangup_starts_a_successor_and_the_manager_is_told(
    world: World, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(DEADLINE_S)
    where = f"\0holdfast-test-{port}"
    manager.bind(where)
    monkeypatch.setenv("NOTIFY_SOCKET", "@" + where[1:])
    with manager, world.serving() as upstream, edges(tmp_path / "e", upstream.port, port) as made:
        old = made.start()
        assert b"READY=1" in manager.recv(4096)
        made.wait_serving(old)
        old.send_signal(signal.SIGHUP)
        assert b"RELOADING=1" in manager.recv(4096)
        heard = {manager.recv(4096), manager.recv(4096)}
        assert old.wait(DEADLINE_S) == 0, made.told()
        successor = made.serving()
        try:
            assert successor != old.pid
            assert made.answers()
            assert b"MAINPID=%d" % successor in heard
            assert any(b"READY=1" in each for each in heard)
        finally:
            os.kill(successor, signal.SIGKILL)
