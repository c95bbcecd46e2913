"""A control plane that is told to end, by whichever signal: it ends in order."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Self

import pytest

from holdfast.gameday.processes import free_ports, until

PROGRAM = """
import signal, sys
from holdfast.apps.cli import main
if "nohup" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
main(["control", "--development", "--data", sys.argv[1], "--port", sys.argv[2]])
"""
END_S = 60.0


class Node:
    def __init__(self, directory: Path, *more: str) -> None:
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.log = directory / "log"
        command = (sys.executable, "-c", PROGRAM, str(directory / "data"), str(port), *more)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log)

    def __enter__(self) -> Self:
        until(self.leads, "the control plane answers, and leads", END_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=10):  # noqa: S310
                return True
        except OSError:
            return False

    def leads(self) -> bool:
        return "this node leads" in self.log.read_text() and self.answers()

    def told(self, number: signal.Signals) -> tuple[int, str]:
        """Its exit code and what it logged."""
        self.process.send_signal(number)
        return self.process.wait(END_S), self.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_ends_in_order_by_every_signal_that_means_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    with Node(tmp_path) as node:
        code, log = node.told(number)
    assert code == 0
    assert "this node leads no more" in log
    assert "Traceback" not in log


def test_under_nohup_it_outlives_its_terminal(tmp_path: Path) -> None:
    with Node(tmp_path, "nohup") as node:
        node.process.send_signal(signal.SIGHUP)
        assert node.answers()
        assert node.told(signal.SIGTERM)[0] == 0
