"""Ctrl-C, at whatever moment: no traceback, and the exit code that shells know."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from holdfast.apps.cli import INTERRUPTED, run

AT_AN_IMPORT = """
import signal, sys

class CtrlC:
    def find_spec(self, name, path, target=None):
        if name == sys.argv[1]:
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # who started us may ignore it
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


class Interrupting(BaseHTTPRequestHandler):
    """Ctrl-C comes while it answers; what it answers, wakes who waits."""

    asked: str

    def do_POST(self) -> None:
        type(self).asked = self.path
        self.rfile.read(int(self.headers["Content-Length"]))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        with contextlib.suppress(OSError):  # who asked may be gone by now
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Nobody wants to know."""

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()


@pytest.fixture
def server() -> Iterator[str]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with ThreadingHTTPServer(("127.0.0.1", 0), Interrupting) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_a_change_is_sent_does_not_say_that_nothing_was_done(
    server: str, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["revert", "2", "--yes", "--server", server, "--token", "hf_a_b"]
    assert run(command) == INTERRUPTED
    assert Interrupting.asked == "/v1/revert"
    told = capfd.readouterr().err
    assert "not known whether the change was made" in told
    assert "holdfast history" in told
    assert "nothing" not in told


def test_ctrl_c_while_only_something_is_asked(
    server: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text("service: shop\n")
    assert run(["plan", str(file), "--server", server, "--token", "hf_a_b"]) == INTERRUPTED
    assert Interrupting.asked == "/v1/changes/check"
    assert capfd.readouterr().err.strip() == "Stopped; nothing more was done."
