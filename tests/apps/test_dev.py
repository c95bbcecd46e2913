"""The supervisor: what it says when a child dies, and that it leaves none behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from holdfast.apps import dev
from holdfast.core.errors import Invalid, Unavailable

Result = TypeVar("Result")
WAITS = "import signal; signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"


def program(name: str, code: str) -> dev.Program:
    return dev.Program(name, (sys.executable, "-c", code))


def run(conversation: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(asyncio.wait_for(conversation, 30))


async def eventually(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  another process has no asyncio.Event
        await asyncio.sleep(0.01)


def test_one_child_dies_and_the_other_goes_on() -> None:
    told: list[str] = []

    async def conversation() -> list[dev.Ended]:
        children = dev.Children(told.append)
        await children.start(program("control plane", WAITS))
        await children.start(program("edge", WAITS))
        stop = asyncio.Event()
        supervising = asyncio.create_task(children.supervise(stop))
        os.kill(children.pid("control plane"), signal.SIGKILL)
        await eventually(lambda: bool(told))
        assert not children.alive("control plane")
        assert children.alive("edge")
        assert not supervising.done()
        stop.set()
        return await supervising

    assert run(conversation()) == [dev.Ended("control plane", -signal.SIGKILL)]
    assert told == ["The control plane was killed by SIGKILL; the edge goes on."]


def test_it_ends_when_both_are_gone() -> None:
    told: list[str] = []

    async def conversation() -> list[dev.Ended]:
        children = dev.Children(told.append)
        await children.start(program("control plane", "raise SystemExit(3)"))
        await children.start(program("edge", "pass"))
        return await children.supervise(asyncio.Event())

    ended = run(conversation())
    assert sorted((one.name, one.code) for one in ended) == [("control plane", 3), ("edge", 0)]
    assert len(told) == 2
    assert "goes on" not in told[1]


def test_a_child_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "STOP_S", 0.2)
    told: list[str] = []

    async def conversation() -> int:
        children = dev.Children(told.append)
        await children.start(program("edge", STUBBORN))
        pid = children.pid("edge")
        await eventually(lambda: _ignores_term(pid))
        await children.stop()
        return pid

    pid = run(conversation())
    assert told == ["The edge did not stop in 0 s; killed."]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def _ignores_term(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    ignored = int(status.split("SigIgn:")[1].split()[0], 16)
    return bool(ignored >> (signal.SIGTERM - 1) & 1)


def test_waiting_for_a_child_that_died_ends_at_once() -> None:
    async def conversation() -> None:
        children = dev.Children(lambda _: None)
        await children.start(program("control plane", "pass"))
        await dev.until(lambda: False, children, ["control plane"], 30)

    with pytest.raises(Unavailable, match="the control plane ended before it was ready"):
        run(conversation())


def test_a_taken_port_names_its_flag() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Invalid) as refused:
            dev.choose_ports("127.0.0.1", {"--control-port": port, "--edge-port": 0})
    [problem] = refused.value.problems
    assert problem.code == "port-taken"
    assert str(port) in problem.message
    assert "--control-port" in problem.hint


def test_free_ports_are_chosen_and_differ() -> None:
    chosen = dev.choose_ports("127.0.0.1", {"--control-port": 0, "--edge-port": 0})
    assert len(set(chosen.values())) == 2


def test_one_port_for_both_is_refused() -> None:
    free = dev.choose_ports("127.0.0.1", {"--control-port": 0})["--control-port"]
    with pytest.raises(Invalid):
        dev.choose_ports("127.0.0.1", {"--control-port": free, "--edge-port": free})


def test_a_private_file_is_never_readable_to_others(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text("old")
    path.chmod(0o644)
    dev.write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    """The supervisor is killed outright: its children must not hold its ports for ever."""
    marker = tmp_path / "pid"
    child = (
        "import os, signal, sys; from holdfast.apps.dev import end_with_parent;"
        "end_with_parent(int(sys.argv[1]));"
        f"open({str(marker)!r} + '.new', 'w').write(str(os.getpid()));"
        f"os.rename({str(marker)!r} + '.new', {str(marker)!r}); signal.pause()"
    )
    parent = (
        "import os, signal, subprocess, sys;"
        f"subprocess.Popen([sys.executable, '-c', {child!r}, str(os.getpid())]); signal.pause()"
    )

    async def conversation() -> int:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent)
        await eventually(marker.exists)
        pid = int(marker.read_text())
        process.kill()
        await process.wait()
        await eventually(lambda: not _runs(pid))
        return pid

    assert run(conversation()) > 0


def _runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


def test_under_nohup_a_terminal_that_closes_does_not_stop_it() -> None:
    async def conversation() -> bool:
        stop = dev.stop_on_signals()
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGUSR1)
        await seen.wait()
        return stop.is_set()

    async def whole() -> bool:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, seen.set)
        return await conversation()

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    seen = asyncio.Event()
    try:
        assert not run(whole())
    finally:
        signal.signal(signal.SIGHUP, before)
