"""The edge's server on real sockets: how it ends, whom its gate lets in, how many it takes."""

from __future__ import annotations

import contextlib
import re
import threading

import pytest
import serving
from serving import Raw, call, until

from holdfast.apps import direct
from holdfast.apps.heads import Known
from holdfast.apps.http import Headers, Request, Response

GET = b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 4\r\n\r\nbusy"


def echo(request: Request) -> Response:
    return Response(200, [(b"x-path", request.path.encode())], request.body)


def serve(gate=None, **more):
    return serving.listening(echo, direct=True, gate=gate, **more)


def stopped(server: serving.Server) -> None:
    """Tell it to stop, and wait until it accepts no more."""
    server.stop()
    until(lambda: server._front.draining)


def test_an_idle_connection_is_closed_when_the_server_stops():
    with serve() as server, Raw(server.port) as client:
        client.send(GET % b"/")
        client.read_until(b"\r\n\r\n")
        stopped(server)

        assert client.read_all() == b""


def test_what_is_asked_while_it_stops_is_answered_and_told_to_be_the_last():
    with serve() as server, Raw(server.port) as client:
        server._address = serving.Address("127.0.0.1", 0, shutdown_s=serving.DEADLINE_S)
        client.send((POST % (b"/", 4)) + b"bo")
        until(lambda: server.bounds.connections)
        stopped(server)
        client.send(b"dy")

        answer = client.read_all()
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close\r\n" in answer
        assert answer.endswith(b"body")


def test_requests_that_wait_are_answered_though_it_stops():
    with serve(on_stop=lambda: None) as server, Raw(server.port) as client:
        client.send((GET % b"/") * 500)
        client.read_until(b"\r\n\r\n")
        stopped(server)

        # Of many at once the last answer may come before the last request: it says so.
        answer = client.read_all()
        count = len(STATUS.findall(answer))
        assert count == 499 or answer.count(b"connection: close\r\n") == 1


def test_nobody_new_is_let_in_while_it_drains():
    with serve() as server, Raw(server.port) as client:
        client.send((POST % (b"/", 4)) + b"bo")
        until(lambda: server.bounds.connections)
        stopped(server)
        until(lambda: not server._servers)

        with pytest.raises(ConnectionError):
            call(server.port, "GET", "/")


def test_who_never_finishes_is_cut_when_the_time_is_over():
    with serve() as server, Raw(server.port) as client:
        client.send((POST % (b"/", 4)) + b"bo")
        until(lambda: server.bounds.connections)
        server._address = serving.Address("127.0.0.1", 0, shutdown_s=0.1)
        stopped(server)

        assert client.read_all() == b""


def test_a_server_that_was_told_to_stop_before_it_ran_ends_at_once():
    server = serving.make(serving.Face(echo, 10), serving.Address("127.0.0.1", 0), direct=True)
    server.stop()
    thread = threading.Thread(target=server.run)
    thread.start()
    thread.join(serving.DEADLINE_S)

    assert not thread.is_alive()


class Gate:
    """Refuses what asks for /no, and keeps what it was told."""

    def __init__(self, alert_s: float = 0.0) -> None:
        self.alert_s = alert_s
        self.asked: list[tuple[bytes, bytes, Headers]] = []
        self.waits: list[float] = []
        self.done_s: list[float] = []
        self.done_requests = 0
        self.batches: list[int] = []

    def admit(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        waited_s: float,
        _known: Known | None = None,
    ) -> bytes | None:
        self.asked.append((method, target, headers))
        self.waits.append(waited_s)
        return BUSY if target == b"/no" else None

    def again(self, known: Known, times: int) -> None:
        raise AssertionError("it left no refusals")

    def done(self, took_s: float, requests: int = 1) -> None:
        self.done_s.append(took_s)
        self.done_requests += requests

    def batch(self, length_s: float, requests: int) -> None:
        assert length_s >= 0
        self.batches.append(requests)


@pytest.mark.parametrize("times", [1, 4], ids=["new", "known"])
def test_a_refusal_is_written_on_the_kept_connection_and_the_body_dropped(times):
    gate = Gate()
    with serve(gate) as server, Raw(server.port) as client:
        for _ in range(times):
            client.send((POST % (b"/no", 4)) + b"body")
            assert client.read_until(b"busy") == BUSY
            client.send((POST % (b"/yes", 4)) + b"body")
            assert client.read_until(b"body").startswith(b"HTTP/1.1 200 ")
        assert len(server.heads.known) == (2 if times > 1 else 0)

    assert len(gate.done_s) == times
    assert sum(gate.batches) == 2 * times
    assert gate.asked[0] == (b"POST", b"/no", [(b"host", b"x"), (b"content-length", b"4")])
    assert gate.asked[-2] == gate.asked[0]
    assert all(wait_s >= 0 for wait_s in gate.waits)


class Leaving(Gate):
    """Refuses all but /hold, and leaves two more refusals for who asks the same in the batch."""

    LEFT = (BUSY.replace(b"r: 1", b"r: 2"), BUSY.replace(b"r: 1", b"r: 3"))

    def __init__(self) -> None:
        super().__init__()
        self.sent_again: list[tuple[bytes, int]] = []

    def admit(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        waited_s: float,
        known: Known | None = None,
    ) -> bytes | None:
        super().admit(method, target, headers, waited_s, known)
        if target == b"/hold":
            return None
        if known is not None:
            known.refusals = self.LEFT
        return BUSY

    def again(self, known: Known, times: int) -> None:
        self.sent_again.append((known.target, times))


def test_who_asks_the_same_in_one_batch_is_refused_without_another_question():
    held, release = threading.Event(), threading.Event()

    def answer(request: Request) -> Response:
        if request.path == "/hold":
            held.set()
            assert release.wait(serving.DEADLINE_S)
        return echo(request)

    gate = Leaving()
    with (
        serving.listening(answer, direct=True, gate=gate) as server,
        Raw(server.port) as holding,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(Raw(server.port)) for _ in range(9)]
        for client in clients:  # a head is known from its second time on
            for _ in range(2):
                client.send(GET % b"/same")
                assert client.read_until(b"busy") == BUSY
        until(lambda: sum(gate.batches) == 18)
        gate.asked.clear()
        gate.sent_again.clear()
        gate.batches.clear()
        holding.send(GET % b"/hold")
        assert held.wait(serving.DEADLINE_S)
        for client in clients:  # all this waits in the kernel, for one batch
            client.send(GET % b"/same")
        release.set()
        answers = [client.read_until(b"busy") for client in clients]
        assert holding.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        until(lambda: sum(gate.batches) == 10)

    assert [each[1] for each in gate.asked] == [b"/hold", b"/same"]
    assert gate.sent_again == [(b"/same", 8)]
    assert sorted(answers) == sorted([BUSY, *(Leaving.LEFT * 4)])


@pytest.mark.parametrize("parts", [1, 2], ids=["whole", "in-pieces"])
def test_those_who_waited_less_than_the_gate_minds_are_let_in_unasked_and_counted(parts):
    gate = Gate(alert_s=1000.0)
    with serve(gate) as server, Raw(server.port) as one, Raw(server.port) as another:
        for _ in range(5):
            for client in (one, another):
                if parts > 1:
                    client.send(b"GET /no HTTP/1.1\r\n")
                    client.send(b"host: x\r\n\r\n")
                else:
                    client.send(GET % b"/no")
            for client in (one, another):
                client.read_until(b"\r\n\r\n")
        until(lambda: sum(gate.batches) == 10)

    assert gate.asked == []
    assert gate.done_requests == 10


def test_a_gate_that_minds_later_is_asked_from_then_on():
    gate = Gate(alert_s=1000.0)
    with serve(gate) as server, Raw(server.port) as client:
        for _ in range(4):
            client.send(GET % b"/no")
            client.read_until(b"\r\n\r\n")
        until(lambda: sum(gate.batches) == 4)
        gate.alert_s = 0.0
        client.send(GET % b"/no")

        assert client.read_until(b"busy") == BUSY


def test_a_refusal_comes_before_the_body():
    with serve(Gate()) as server, Raw(server.port) as client:
        head = b"POST /no HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"
        client.send(head)
        client.send(b"body")

        assert client.read_until(b"busy") == BUSY


def test_a_refusal_has_its_place_among_the_answers():
    gate = Gate()
    with serve(gate) as server, Raw(server.port) as client:
        paths = [b"/%d" % n if n % 3 else b"/no" for n in range(200)]
        client.send(b"".join(GET % path for path in paths))
        for path in paths:
            head = client.read_until(b"\r\n\r\n")
            if path == b"/no":
                assert head.startswith(b"HTTP/1.1 503 ")
                client.read_until(b"busy")
            else:
                assert b"x-path: %b\r\n" % path in head

    assert len(gate.done_s) == sum(path != b"/no" for path in paths)


def test_a_refusal_of_head_has_no_body():
    with serve(Gate()) as server, Raw(server.port) as client:
        client.send(b"HEAD /no HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")

        assert client.read_all() == BUSY.removesuffix(b"busy")


def test_what_was_let_in_and_never_came_is_done_with():
    gate = Gate()
    with serve(gate) as server:
        with Raw(server.port) as client:
            client.send((POST % (b"/", 4)) + b"bo")
            until(lambda: gate.asked)
        until(lambda: gate.done_s)

    assert gate.done_s == [0.0]


def test_one_connection_too_many_reads_why_though_it_sends():
    with serve(connections_max=1) as server:
        with Raw(server.port) as first:
            first.send(GET % b"/")
            first.read_until(b"\r\n\r\n")
            with Raw(server.port) as second:
                second.send(GET % b"/" * 100)
                assert second.read_until(b"\r\n").startswith(b"HTTP/1.1 503 ")
        until(lambda: not server.bounds.connections)
        assert call(server.port, "GET", "/").status == 200


def test_a_client_that_ends_its_half_gets_all_its_answers():
    with serve() as server, Raw(server.port) as client:
        client.send((GET % b"/") * 300)
        client.socket.shutdown(1)

        assert len(STATUS.findall(client.read_all())) == 300


def test_slow_readers_are_cut_and_counted(monkeypatch):
    with (
        serving.listening(lambda _: Response(200, [], b"x" * 1_000_000), direct=True) as server,
        Raw(server.port, 4096) as greedy,
    ):
        greedy.send((GET % b"/") * 50)
        greedy.read_until(b"\r\n\r\n")
        monkeypatch.setattr(direct, "SWEEP_S", 0.01)

        until(lambda: server.bounds.aborted == 1)
        until(lambda: not server.bounds.connections)


def test_with_the_deadlines_off_a_drip_goes_on_for_ever(monkeypatch):
    monkeypatch.setattr(direct, "SWEEP_S", 0.001)
    face = serving.Face(echo, 10)
    server = serving.Server(face, serving.Address("127.0.0.1", 0), deadlines=False)
    swept = []
    server.bounds.sweep = lambda: swept.append(1)
    with serving.running(server), Raw(server.port) as client:
        client.send(b"GET / HT")
        for _ in range(50):
            assert call(server.port, "GET", "/").status == 200

        assert not swept
        assert len(server.bounds.connections) >= 1
        server.stop_accepting()
