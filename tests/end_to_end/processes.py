"""Real processes on free ports: what the end-to-end tests start, ask and kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from holdfast.apps.cli.connection import DevFile

ROOT = Path(__file__).parent.parent.parent
HOLDFAST = Path(sys.executable).with_name("holdfast")
DEMO_SHOP = ROOT / "examples" / "demo-shop.flagd.json"
CONTOSO = ROOT / "examples" / "contoso"
DEADLINE_S = 60.0
"""Far above what anything here takes: it bounds a test that fails, and measures nothing."""


def eventually(holds: Callable[[], Any], what: str, within_s: float = DEADLINE_S) -> Any:
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.02)
    return found


def call(
    method: str, url: str, body: Any = None, token: str = "", headers: dict[str, str] | None = None
) -> tuple[int, Any, dict[str, str]]:
    """(status, decoded body, headers in lower case) of one plain HTTP request."""
    content = None if body is None else msgspec.json.encode(body)
    request = urllib.request.Request(url, content, headers or {}, method=method)  # noqa: S310
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, decoded(answer.read()), lower(answer.headers)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, decoded(refused.read()), lower(refused.headers)


def decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content) if content else None
    except msgspec.MsgspecError:
        return content


def lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class Dev:
    """One `holdfast dev` and its two children."""

    def __init__(self, data_dir: Path, *arguments: str, command: tuple[str, ...] = ()) -> None:
        self.data_dir = data_dir
        ports = ("--control-port", "0", "--edge-port", "0")
        default = (str(HOLDFAST), "dev", "--data", str(data_dir), *ports, *arguments)
        self.log = data_dir.parent / f"{data_dir.name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command or default,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "NO_COLOR": "1"},
                start_new_session=True,
            )
        self.facts: DevFile = eventually(self._facts, "dev.json")

    def _facts(self) -> DevFile | None:
        code = self.process.poll()
        assert code is None, f"holdfast dev ended with {code}:\n{self.log.read_text()}"
        path = self.data_dir / "dev.json"
        return msgspec.json.decode(path.read_bytes(), type=DevFile) if path.exists() else None

    @property
    def control(self) -> str:
        return self.facts.server

    @property
    def edge(self) -> str:
        return self.facts.edge

    @property
    def token(self) -> str:
        return self.facts.token

    def kill(self, name: str) -> None:
        """`kill -9` one child, and wait until it is gone."""
        pid = self.facts.processes[name]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not runs(pid), f"{name} gone")

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any, dict[str, str]]:
        """One request to the control plane, with the admin token."""
        return call(method, self.control + path, body, self.token)

    def evaluate(self, service: str, key: str, **context: Any) -> tuple[int, Any]:
        """One OFREP evaluation at the edge, without a token."""
        url = f"{self.edge}/production/{service}/ofrep/v1/evaluate/flags/{key}"
        status, body, _ = call("POST", url, {"context": {"targetingKey": "user-1", **context}})
        return status, body

    def value(self, service: str, key: str, **context: Any) -> Any:
        status, body = self.evaluate(service, key, **context)
        assert status == 200, body
        return body["value"]

    def holdfast(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """One command in a process of its own, told of this control plane by the environment."""
        return subprocess.run(
            [str(HOLDFAST), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=self.data_dir,
            env={
                **os.environ,
                "HOLDFAST_SERVER": self.control,
                "HOLDFAST_TOKEN": self.token,
                **environment,
            },
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


def runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"
