"""Commands at a server that is none of ours, or not ready: it is told, and taken for no data."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from holdfast.apps.cli import PROBLEMS_FOUND, run

COMMANDS = {
    "get": ["get"],
    "history": ["history"],
    "explain": ["explain", "tiles", "-s", "shop"],
    "export flagd": ["export", "flagd", "-s", "shop"],
    "export snapshot": ["export", "snapshot", "-s", "shop"],
}


class Stranger(BaseHTTPRequestHandler):
    """`answer` is the status and the body of whatever is asked."""

    answer = (200, b"")

    def answered(self) -> None:
        status, body = self.answer
        self.send_response(status)
        self.send_header("Location", "https://portal.example.com/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_HEAD = answered  # noqa: N815  names of the library

    def log_message(self, *_: object) -> None:
        """Nobody wants to know."""


@pytest.fixture
def stranger() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, b"<html>", "shape"),
        (200, b"", "shape"),
        (200, b"[]", "shape"),
        (302, b"{}", "answers 302"),
        (500, b"", "answers 500"),
    ],
)
def test_it_is_told(  # noqa: PLR0917  a table
    stranger: str,
    status: int,
    body: bytes,
    told: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Stranger, "answer", (status, body))
    assert run([*COMMANDS[command], "--server", stranger]) == PROBLEMS_FOUND
    out, error = capsys.readouterr()
    assert out == ""
    assert told in error


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ('"silence":"http://control answered 401"', "not ready: http://control answered 401"),
        ('"missing":["production/shop"]', "not ready: nothing yet of production/shop"),
        ('"missing":[]', "not ready: it knows no tokens"),
    ],
)
def test_an_edge_that_is_not_ready_says_why(
    stranger: str,
    facts: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Stranger, "answer", (503, f'{{"ready":false,{facts}}}'.encode()))
    assert run(["status", "--server", stranger, "--edge", stranger]) == PROBLEMS_FOUND
    assert why in capsys.readouterr().out


def test_no_file_is_written_of_it(
    stranger: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Stranger, "answer", (200, b"<html>"))
    to = tmp_path / "shop.json"
    arguments = ["export", "snapshot", "-s", "shop", "--server", stranger, "--to", str(to)]
    assert run(arguments) == PROBLEMS_FOUND
    assert not to.exists()
