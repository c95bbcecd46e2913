"""Fan-out on real sockets: all readers hear, the slow one is cut, nobody waits for another."""

from __future__ import annotations

import threading

from serving import Raw, call, listening, until

from holdfast.apps import streams
from holdfast.apps.http import Request, Response
from holdfast.apps.streams import STREAM_HEADERS, Fanout, Refusal, Room, Stream, frame
from holdfast.core.model import Subject

ONE = Subject("production", "one")
TWO = Subject("production", "two")
GET = b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n"


def serve(fanout: Fanout, lifetime_s: float | None = None):
    def handle(request: Request) -> Response | Stream:
        if request.path == "/ping":
            return Response(200, [], b"pong")
        only = {"/one": ONE, "/two": TWO}.get(request.path)
        feed = fanout.open(None, lambda s: only is None or s == only, lifetime_s)
        if isinstance(feed, Refusal):
            return Response(503, feed.headers, feed.code.encode())
        return Stream(200, STREAM_HEADERS, feed)

    return listening(handle, on_stop=fanout.close)


def test_a_frame_reaches_those_who_may_see_its_subject():
    fanout = Fanout()
    with serve(fanout) as listener, Raw(listener.port) as all_, Raw(listener.port) as one:
        all_.send(GET % b"/")
        one.send(GET % b"/one")
        for client in (all_, one):
            client.read_until(streams.HEARTBEAT)
        fanout.announce(TWO, None, frame("change", {"service": "two"}))
        fanout.announce(ONE, None, frame("change", {"service": "one"}, 7))

        assert b'event: change\ndata: {"service":"two"}\n\n' in all_.read_until(b'two"}\n\n')
        assert b'id: 7\nevent: change\ndata: {"service":"one"}\n\n' in all_.read_until(b'one"}\n\n')
        assert b"two" not in one.read_until(b'one"}\n\n')


def test_silence_is_filled_with_heartbeats_and_a_lifetime_ends():
    fanout = Fanout(heartbeat_s=0.01)
    with serve(fanout, lifetime_s=0.05) as listener, Raw(listener.port) as client:
        client.send(GET % b"/")

        assert client.read_until(b"\r\n0\r\n\r\n").count(streams.HEARTBEAT) >= 2
        until(lambda: len(fanout) == 0)


def test_a_reader_who_leaves_is_forgotten():
    fanout = Fanout()
    with serve(fanout) as listener:
        with Raw(listener.port) as client:
            client.send(GET % b"/")
            client.read_until(streams.HEARTBEAT)
            assert len(fanout) == 1
        until(lambda: len(fanout) == 0)


def test_a_slow_reader_is_cut_and_counted_and_delays_nobody():
    fanout = Fanout()
    big = frame("change", {"filler": "x" * 100_000})
    with serve(fanout) as listener, Raw(listener.port, 4096) as slow, Raw(listener.port) as quick:
        for client in (slow, quick):
            client.send(GET % b"/")
            client.read_until(streams.HEARTBEAT)
        reading = threading.Event()

        def drain() -> None:
            count = 0
            while not reading.is_set():
                quick.read_until(b'"}\n\n')
                count += 1

        thread = threading.Thread(target=drain, daemon=True)
        thread.start()
        for _ in range(1000):
            if fanout.tally.cut:
                break
            fanout.announce(ONE, None, big)
            assert call(listener.port, "GET", "/ping").body == b"pong"
        until(lambda: fanout.tally.cut == 1)
        until(lambda: listener.bounds.aborted == 1)
        assert len(fanout) == 1
        reading.set()
        fanout.announce(ONE, None, big)
        thread.join(5)


def test_one_reader_too_many_is_refused_and_counted():
    fanout = Fanout(Room(1))
    with serve(fanout) as listener, Raw(listener.port) as client:
        client.send(GET % b"/")
        client.read_until(streams.HEARTBEAT)

        assert call(listener.port, "GET", "/").status == 503
        assert fanout.tally.refused == 1


def test_stopping_ends_the_streams():
    fanout = Fanout()
    with serve(fanout) as listener, Raw(listener.port) as client:
        client.send(GET % b"/")
        client.read_until(streams.HEARTBEAT)
        listener.stop()

        assert client.read_all().endswith(b"0\r\n\r\n")


def test_announcing_without_readers_or_after_the_end_does_nothing():
    fanout = Fanout()
    fanout.announce(ONE, None, b"x")
    with serve(fanout) as listener, Raw(listener.port) as client:
        client.send(GET % b"/")
        client.read_until(streams.HEARTBEAT)
    fanout.announce(ONE, None, b"x")


def test_many_readers_are_woken_in_turns():
    fanout = Fanout()
    with serve(fanout) as listener:
        clients = [Raw(listener.port) for _ in range(90)]
        for client in clients:
            client.send(GET % b"/")
            client.read_until(streams.HEARTBEAT)
        fanout.announce(ONE, None, frame("change", 1))
        for client in clients:
            client.read_until(b"data: 1\n\n")
            client.socket.close()
        assert fanout.tally.frames == 90
        until(lambda: len(fanout) == 0)
