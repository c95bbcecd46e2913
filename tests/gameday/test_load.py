"""The load generator against servers that answer, refuse, fall silent and hang up."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Callable, Iterator

import pytest

from holdfast.core.errors import Unavailable
from holdfast.gameday import load_process
from holdfast.gameday.load import Kind, Load, Loaded


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        match self.path:
            case "/refused":
                self._send(503, b"busy", ("Retry-After", "3"))
            case "/fails":
                self._send(500, b"broken")
            case "/unchanged":
                self.send_response(304)
                self.end_headers()
            case "/hangs-up":
                self.close_connection = True
            case "/silent":
                self.server.until.wait(10)  # type: ignore[attr-defined]
            case "/stalls-once":
                self.server.stall()  # type: ignore[attr-defined]
                self._send(200, b"x" * 100_000)
            case _:
                self.server.asked.set()  # type: ignore[attr-defined]
                self._send(200, b"fine")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._send(200 if body == b"asked" else 400, body)

    def _send(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.until = threading.Event()
        self.asked = threading.Event()
        self._stalled = False

    def stall(self) -> None:
        if not self._stalled:
            self._stalled = True
            self.until.wait(0.5)

    def handle_error(self, *_: object) -> None:
        """Clients give up: that is what they are here for."""


@pytest.fixture
def running() -> Iterator[_Server]:
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.until.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def server(running: _Server) -> str:
    return f"http://127.0.0.1:{running.server_port}"


def adds_up(loaded: Loaded) -> bool:
    return all(
        t.offered == t.ok + t.refused + t.failed + t.resets + t.unanswered + t.unsent
        and sum(t.offered_by) == t.offered
        and sum(t.ok_by) == t.ok
        and sum(t.useful_by) == t.useful
        for t in loaded.kinds.values()
    )


def test_each_kind_is_counted_by_what_became_of_it(server: str) -> None:
    kinds = (
        Kind("fine", path="/"),
        Kind("asked", "POST", "/", body=b"asked"),
        Kind("unchanged", path="/unchanged"),
        Kind("refused", path="/refused"),
        Kind("fails", path="/fails"),
        Kind("hangs-up", path="/hangs-up"),
    )
    loaded = Load(server, kinds, 200, 16, 1.5, deadline_s=30, patience_s=30).run()
    assert adds_up(loaded)
    tallies = loaded.kinds
    for name in ("fine", "asked", "unchanged"):
        assert tallies[name].ok == tallies[name].useful == tallies[name].offered > 0
        assert tallies[name].p99_ms >= tallies[name].p50_ms > 0
    assert tallies["refused"].refused == tallies["refused"].offered > 0
    assert tallies["refused"].retry_after_s == (3, 3)
    assert tallies["refused"].refused_without_hint == 0
    assert tallies["fails"].failed == tallies["fails"].offered > 0
    assert tallies["hangs-up"].resets == tallies["hangs-up"].offered > 0
    assert loaded.without_answer == tallies["hangs-up"].resets
    assert set(loaded.statuses) == {200, 304, 500, 503}


def test_a_stall_counts_for_all_that_was_due_meanwhile(server: str) -> None:
    loaded = Load(
        server, [Kind("stall", path="/stalls-once")], 200, 1, 1.0, deadline_s=0.05, patience_s=30
    ).run()
    tally = loaded.kinds["stall"]
    assert adds_up(loaded)
    assert tally.ok == tally.offered
    # One connection, and half a second in which nothing moved: what was due then came late.
    assert tally.p99_ms > 400
    assert tally.ok - tally.useful > 50


def test_quantiles_leave_out_how_it_began(server: str) -> None:
    for settle_s, some in ((0.5, True), (1.0, False)):
        load = Load(server, [Kind("a", path="/")], 100, 10, 1.0, patience_s=30, settle_s=settle_s)
        tally = load.run().kinds["a"]
        assert tally.ok == tally.offered > 0
        assert (tally.p50_ms > 0) == some, "nothing is due after its end"


def test_who_waits_too_long_gives_up_before_or_after_sending(server: str) -> None:
    loaded = Load(server, [Kind("silent", path="/silent")], 100, 2, 0.5, patience_s=0.3).run()
    tally = loaded.kinds["silent"]
    assert adds_up(loaded)
    assert tally.unanswered >= 2
    assert tally.unsent > 0
    assert tally.ok == 0


def test_a_thoughtless_client_asks_again_at_once(server: str) -> None:
    kind = Kind("refused", path="/refused", retries=2)
    loaded = Load(server, [kind], 50, 4, 0.5, patience_s=30).run()
    tally = loaded.kinds["refused"]
    assert tally.refused == tally.offered
    assert tally.retried > 0
    assert sum(loaded.statuses.values()) == tally.offered + tally.retried


def test_a_load_can_be_ended_early(running: _Server, server: str) -> None:
    with Load(server, [Kind("fine")], 50, 2, 60) as load:
        assert running.asked.wait(30)
        loaded = load.stop()
    assert adds_up(loaded)
    assert loaded.took_s < 30


def test_nobody_there_is_no_crash() -> None:
    loaded = Load("http://127.0.0.1:9", [Kind("fine")], 50, 2, 0.3, patience_s=0.1).run()
    assert loaded.connects_failed > 0
    assert loaded.kinds["fine"].unsent == loaded.offered > 0


@pytest.mark.usefixtures("capfdbinary")
def test_a_generator_that_was_held_up_counts_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine nobody may have looked for a while when the time is over."""

    async def held_up(_range: load_process.Range) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(load_process.Range, "_look", held_up)
    plan = Load("http://127.0.0.1:9", [Kind("fine")], 100, 2, 0.2, patience_s=0.1).plan
    loaded = asyncio.run(load_process.Range(plan).fire())
    assert loaded.kinds["fine"].unsent == loaded.offered > 0
    assert adds_up(loaded)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Load("http://example.com", [Kind("x")], 1, 1, 1),
        lambda: Load("http://127.0.0.1:1", [], 1, 1, 1),
        lambda: Load("http://127.0.0.1:1", [Kind("x")], 1, 1, 1e6),
        lambda: Load("http://127.0.0.1:1", [Kind("x")], 1e9, 1, 1),
        lambda: Load("http://127.0.0.1:1", [Kind("x")], 1, 1_000_000, 1),
    ],
)
def test_a_load_is_bounded_and_stays_on_this_machine(make: Callable[[], Load]) -> None:
    with pytest.raises(Unavailable, match="no load"):
        make()
