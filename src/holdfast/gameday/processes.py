"""Processes of a drill, on loopback: started, asked, killed; none outlives it.

Each is started in a session of its own and told whose child it is, so that it ends when its drill
does, even by `kill -9` (Linux; elsewhere the drill's own clean-up does it).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from holdfast.apps.defaults import LOOPBACK
from holdfast.apps.dev import choose_ports
from holdfast.core.errors import Unavailable

UNPROTECTED: Final = "HOLDFAST_UNPROTECTED"
"""With 1, consumers believe what is signed and nodes serve what they make. For drills only."""
ANSWER_S: Final = 5.0
STOP_S: Final = 5.0
LOG_TAIL_CHARS: Final = 2_000
LOG_BYTES_MAX: Final = 8 * 1024 * 1024


class Build(msgspec.Struct, frozen=True):
    """A build of Holdfast: a name for people, and its tree of sources; none: the one that runs."""

    name: str
    tree: Path | None = None


class Answered(msgspec.Struct, frozen=True):
    """An HTTP answer; status 0 stands for none at all."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = {}


class Process:
    """One member of a fleet: a command that can be started again and again, of any build."""

    def __init__(
        self, name: str, module: str, arguments: Sequence[str], log: Path, **environment: str
    ) -> None:
        self.name = name
        self.build = Build("")
        self._module = (module, *arguments)
        self._log = log
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def through(self, *module: str) -> None:
        """From its next start on, run it by another module, which is told what to run."""
        self._module = (*module, *self._module)

    def start(self, build: Build, **environment: str) -> None:
        """Start it on a build; it must not be running."""
        self.build = build
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own command
                (sys.executable, "-m", *self._module),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._told(build, environment),
                cwd=self._log.parent,
                start_new_session=True,
            )

    def output(self, build: Build, *arguments: str, timeout_s: float = 120.0) -> bytes:
        """Run it to its end, with these arguments more; what it printed. Raises `Unavailable`."""
        self.build = build
        command = (sys.executable, "-m", *self._module, *arguments)
        with self._log.open("ab") as log:
            done = subprocess.run(  # noqa: S603  our own command
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._told(build, {}),
                cwd=self._log.parent,
                check=False,
                timeout=timeout_s,
            )
        if done.returncode:
            raise Unavailable(f"{self.name} ended with {done.returncode}: {self.tail()[-500:]}")
        return done.stdout

    def _told(self, build: Build, environment: Mapping[str, str]) -> dict[str, str]:
        told = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}
        told |= {"NO_COLOR": "1", **self._environment, **environment}
        if build.tree is not None:
            told["PYTHONPATH"] = str(build.tree)
            told["PYTHONDONTWRITEBYTECODE"] = "1"
        return told

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process that was started last. Raises `Unavailable` if none was."""
        if self._process is None:
            raise Unavailable(f"{self.name} was not started")
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How it ended; none while it runs, or if it never did."""
        return self._process.poll() if self._process else None

    def kill(self, number: signal.Signals = signal.SIGKILL, within_s: float = STOP_S) -> None:
        """End it, and wait until it is gone; nothing happens if it is gone already.

        One that does not go `within_s` is ended by SIGKILL.
        """
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def whole_log(self) -> str:
        """Its log, up to a bound."""
        try:
            return self._log.read_bytes()[:LOG_BYTES_MAX].decode(errors="replace")
        except OSError:
            return ""

    def tail(self) -> str:
        """The end of its log."""
        try:
            return self._log.read_text(errors="replace")[-LOG_TAIL_CHARS:]
        except OSError:
            return ""


def parent() -> tuple[str, str]:
    """The options that tell one of our commands whose child it is."""
    return ("--parent", str(os.getpid()))


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on now."""
    return list(choose_ports(LOOPBACK, {f"port {number}": 0 for number in range(count)}).values())


def ask(
    method: str, url: str, body: Any = None, token: str = "", timeout_s: float = ANSWER_S
) -> Answered:
    """One HTTP request on loopback; never raises. A body of bytes goes as it is, else as JSON."""
    content = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
    request = urllib.request.Request(url, content, method=method)  # noqa: S310  loopback, http
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            return Answered(answer.status, _decoded(answer.read()), _lower(answer.headers))
    except urllib.error.HTTPError as refused:
        with refused:
            return Answered(refused.code, _decoded(refused.read()), _lower(refused.headers))
    except OSError:
        return Answered(0)


def until(holds: Callable[[], Any], what: str, within_s: float, every_s: float = 0.03) -> Any:
    """Ask until the answer is true, and return it. Raises `Unavailable`."""
    end = time.monotonic() + within_s
    while not (found := holds()):
        if time.monotonic() > end:
            raise Unavailable(f"{what} did not come within {within_s:.0f} s")
        time.sleep(every_s)
    return found


def until_or_not(holds: Callable[[], Any], within_s: float, every_s: float = 0.03) -> bool:
    """As `until`, and whether it came."""
    try:
        until(holds, "it", within_s, every_s)
    except Unavailable:
        return False
    return True


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into what Ctrl-C is, so that every clean-up runs."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content) if content else None
    except msgspec.MsgspecError:
        return content.decode(errors="replace")


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
