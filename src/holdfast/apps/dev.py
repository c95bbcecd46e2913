"""`holdfast dev`: a control plane and an edge beside each other, each a process of its own.

Each can be killed on its own. Nothing is restarted silently: when one ends, that is said, and the
other goes on, because an edge without its control plane must keep answering. The supervisor ends
when both are gone, or on SIGINT and SIGTERM, which it passes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from holdfast.apps.signals import ending
from holdfast.core.errors import Invalid, Problem, Unavailable

STOP_S = 8.0
"""After SIGTERM, before SIGKILL."""
PR_SET_PDEATHSIG = 1


class Program(msgspec.Struct, frozen=True):
    """One child: a name for people, its whole command line, its extra environment."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = {}


def holdfast(name: str, *arguments: str, **environment: str) -> Program:
    """A child that runs one of our own commands and ends with this process."""
    parent = ("--parent", str(os.getpid()))
    command = (sys.executable, "-m", "holdfast.apps.cli", *arguments, *parent)
    return Program(name, command, environment)


class Ended(msgspec.Struct, frozen=True):
    """How a child ended: its exit code, or minus the signal's number."""

    name: str
    code: int

    def __str__(self) -> str:
        if self.code < 0:
            return f"The {self.name} was killed by {signal.Signals(-self.code).name}"
        return f"The {self.name} ended with code {self.code}"


class Children:
    """The processes of one supervisor, in the order of their start."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._ends: dict[asyncio.Task[int], str] = {}

    async def start(self, program: Program) -> None:
        # A session of its own: the terminal's Ctrl-C reaches the supervisor alone, who passes it
        # on once and in order.
        process = await asyncio.create_subprocess_exec(
            *program.command,
            env={**os.environ, **program.environment},
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        self._running[program.name] = process
        self._ends[asyncio.create_task(process.wait())] = program.name

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def alive(self, name: str) -> bool:
        return self._running[name].returncode is None

    async def next_end(self, stop: asyncio.Event) -> list[Ended]:
        """Wait until a child has ended or `stop` is set; those that ended."""
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([*self._ends, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        return [Ended(self._ends.pop(task), task.result()) for task in done if task in self._ends]

    async def supervise(self, stop: asyncio.Event) -> list[Ended]:
        """Until `stop` is set or all children are gone; tells each end, returns those unasked."""
        unasked: list[Ended] = []
        while self._ends and not stop.is_set():
            for ended in await self.next_end(stop):
                unasked.append(ended)
                left = " and the ".join(self._ends.values())
                onward = f"; the {left} goes on" if left else ""
                self._tell(f"{ended}{onward}.")
        await self.stop()
        return unasked

    async def stop(self) -> None:
        """SIGTERM to all, SIGKILL after `STOP_S`; returns when all are gone."""
        for name in self._ends.values():
            with contextlib.suppress(ProcessLookupError):
                self._running[name].terminate()
        if not self._ends:
            return
        _, late = await asyncio.wait(self._ends, timeout=STOP_S)
        for task in late:
            self._tell(f"The {self._ends[task]} did not stop in {STOP_S:.0f} s; killed.")
            with contextlib.suppress(ProcessLookupError):
                self._running[self._ends[task]].kill()
        if late:
            await asyncio.wait(late)
        self._ends.clear()


def stop_on_signals() -> asyncio.Event:
    """An event that each signal to end sets; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in ending():
        loop.add_signal_handler(number, on_signal, number)
    return stop


def end_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when `parent`, who started this process, is gone (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(f"process {parent} started this one and is gone already")


def choose_ports(host: str, wanted: Mapping[str, int]) -> dict[str, int]:
    """Flag -> a port that is free now; 0 stands for any. Raises `Invalid` for all taken ones."""
    with contextlib.ExitStack() as held:
        chosen = {}
        problems = []
        for flag, port in wanted.items():
            try:
                chosen[flag] = _hold(held, host, port)
            except OSError as taken:
                problems.append(_port_problem(flag, host, port, taken))
    if problems:
        raise Invalid(problems)
    return chosen


def _hold(held: contextlib.ExitStack, host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    probe = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind((host, port))
    probe.listen(1)
    bound = probe.getsockname()[1]
    assert isinstance(bound, int)  # noqa: S101  typeshed says Any
    return bound


def _port_problem(flag: str, host: str, port: int, taken: OSError) -> Problem:
    return Problem(
        code="port-taken",
        message=f"{host}:{port} can't be used: {taken.strerror}",
        hint=f"stop what listens there, or choose another port: {flag} {port + 100} "
        f"({flag} 0 takes any free one)",
    )


def write_private(path: Path, body: bytes) -> None:
    """Replace a file by one that only its owner can read, whole or not at all."""
    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


async def until(
    holds: Callable[[], bool], children: Children, needed: Sequence[str], deadline_s: float
) -> None:
    """Wait until `holds()`, asked in a thread every 50 ms; fails when a needed child has ended."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while not await asyncio.to_thread(holds):
        dead = [name for name in needed if not children.alive(name)]
        if dead:
            raise Unavailable(f"the {dead[0]} ended before it was ready; its log above says why")
        if loop.time() > end:
            raise Unavailable(f"the {needed[-1]} is not ready after {deadline_s:.0f} s")
        await asyncio.sleep(0.05)
