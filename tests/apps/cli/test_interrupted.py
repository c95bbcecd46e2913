"""Ctrl-C, at whatever moment: no traceback, and the exit code that shells know."""

from __future__ import annotations

import subprocess
import sys

import pytest

from holdfast.apps.cli import INTERRUPTED

AT_AN_IMPORT = """
import signal, sys

class CtrlC:
    def find_spec(self, name, path, target=None):
        if name == sys.argv[1]:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
from holdfast.apps.cli import main
main(["diff", "1"])
"""


@pytest.mark.parametrize(
    "module", ["click", "click.core", "holdfast.apps.cli.past", "holdfast.apps.cli.options"]
)
def test_ctrl_c_while_it_loads(module: str) -> None:
    command = [sys.executable, "-c", AT_AN_IMPORT, module]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == INTERRUPTED
    assert ended.stdout == ""
    assert ended.stderr.strip() in ("", "Stopped; nothing more was done.")
