"""The oracles: flagd's Python core 2.0.0 in this process, 1.0.0 in an environment of its own."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.oracle import flagd_core

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".oracle" / "v2"
REQUIREMENT = "openfeature-flagd-core==1.0.0"

Oracle = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="session")
def flagd_v3() -> Oracle:
    return flagd_core.answer


@pytest.fixture(scope="session")
def flagd_v2() -> Iterator[Oracle]:
    """One process for all cases: a line in, a line out."""
    program = [str(_environment() / "bin" / "python"), str(Path(flagd_core.__file__))]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as oracle:
        assert oracle.stdin is not None
        assert oracle.stdout is not None

        def ask(case: dict[str, Any]) -> dict[str, Any]:
            oracle.stdin.write(json.dumps(case) + "\n")
            oracle.stdin.flush()
            return json.loads(oracle.stdout.readline())

        yield ask
        oracle.stdin.close()


def _environment() -> Path:
    """The environment with flagd's core 1.0.0, made when it is not there; one maker at a time."""
    ENVIRONMENT.parent.mkdir(exist_ok=True)
    with (ENVIRONMENT.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready = ENVIRONMENT / "ready"
        if not ready.exists() or ready.read_text() != REQUIREMENT:
            shutil.rmtree(ENVIRONMENT, ignore_errors=True)
            _uv("venv", "--python", sys.executable, str(ENVIRONMENT))
            _uv("pip", "install", "--python", str(ENVIRONMENT / "bin" / "python"), REQUIREMENT)
            ready.write_text(REQUIREMENT)
    return ENVIRONMENT


def _uv(*args: str) -> None:
    program = shutil.which("uv")
    command = [program] if program else [sys.executable, "-m", "uv"]
    done = subprocess.run([*command, "-q", *args], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(
            f"the oracle needs an environment with {REQUIREMENT}, and "
            f"{' '.join(command)} could not make it:\n{done.stderr}"
        )
