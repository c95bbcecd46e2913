"""Fan-out on real sockets: all readers hear, the slow one is cut, nobody waits for another.

Both faces run the same tests: feeds on the transport itself, and under an ASGI application.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from serving import Raw, call, listening, until

from holdfast.apps import streams
from holdfast.apps.asgi import Handle
from holdfast.apps.http import Request, Response
from holdfast.apps.streaming import UNREAD_BYTES_MAX
from holdfast.apps.streams import STREAM_HEADERS, Fanout, Refusal, Room, Stream, frame
from holdfast.core.model import Subject

ONE = Subject("production", "one")
TWO = Subject("production", "two")
GET = b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n"
END = b"0\r\n\r\n"


def handler(fanout: Fanout, lifetime_s: float | None = None) -> Handle:
    sights: dict[Subject | None, Callable[[Subject], bool]] = {
        None: lambda _: True,
        ONE: lambda subject: subject == ONE,
        TWO: lambda subject: subject == TWO,
    }

    def handle(request: Request) -> Response | Stream:
        if request.path == "/ping":
            return Response(200, [], b"pong")
        only = {"/one": ONE, "/two": TWO}.get(request.path)
        feed = fanout.open(None, sights[only], lifetime_s)
        if isinstance(feed, Refusal):
            return Response(503, feed.headers, feed.code.encode())
        return Stream(200, STREAM_HEADERS, feed)

    return handle


@pytest.fixture(params=[False, True], ids=["ASGI", "direct"])
def serve(request: pytest.FixtureRequest):
    def serving(fanout: Fanout, lifetime_s: float | None = None):
        handle = handler(fanout, lifetime_s)
        return listening(handle, direct=request.param, on_stop=fanout.close, connections_max=1000)

    return serving


@pytest.fixture
def direct():
    def serving(fanout: Fanout):
        return listening(handler(fanout), direct=True, on_stop=fanout.close, connections_max=1000)

    return serving


@contextlib.contextmanager
def reading(port: int, path: bytes = b"/") -> Iterator[Raw]:
    with Raw(port) as client:
        client.send(GET % path)
        client.read_until(streams.HEARTBEAT)
        yield client


def test_a_frame_reaches_those_who_may_see_its_subject(serve):
    fanout = Fanout()
    with (
        serve(fanout) as listener,
        reading(listener.port) as every,
        reading(listener.port, b"/one") as one,
    ):
        fanout.announce(TWO, None, frame("change", {"service": "two"}))
        fanout.announce(ONE, None, frame("change", {"service": "one"}, 7))

        event = b'event: change\ndata: {"service":"two"}\n\n'
        assert event in every.read_until(b'two"}\n\n')
        event = b'id: 7\nevent: change\ndata: {"service":"one"}\n\n'
        assert event in every.read_until(b'one"}\n\n')
        assert b"two" not in one.read_until(b'one"}\n\n')


def test_rights_are_asked_about_once_for_all_who_have_the_same(direct):
    fanout, asked = Fanout(), []

    def sees(subject: Subject) -> bool:
        asked.append(subject)
        return True

    def handle(_request: Request) -> Stream:
        return Stream(200, STREAM_HEADERS, fanout.open(None, sees))

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening(handle, direct=True, on_stop=fanout.close))
        clients = [stack.enter_context(reading(listener.port)) for _ in range(20)]
        fanout.announce(ONE, None, frame("change", 1))
        for client in clients:
            client.read_until(b"data: 1\n\n")
    assert asked == [ONE]


def test_silence_is_filled_with_heartbeats(serve):
    fanout = Fanout(heartbeat_s=0.01)
    with serve(fanout) as listener, reading(listener.port) as client:
        for _ in range(3):
            client.read_until(streams.HEARTBEAT)


def test_a_lifetime_ends(serve):
    fanout = Fanout(heartbeat_s=0.01)
    with serve(fanout, lifetime_s=0.05) as listener, Raw(listener.port) as client:
        client.send(GET % b"/")

        assert streams.HEARTBEAT in client.read_until(b"\r\n" + END)
        until(lambda: len(fanout) == 0)


def test_heartbeats_are_spread_over_their_interval(direct):
    fanout = Fanout(heartbeat_s=3600.0)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(direct(fanout))
        for _ in range(2 * streams.SLOTS):
            stack.enter_context(reading(listener.port))
        assert {len(slot) for slot in fanout.wheel} == {2}


def test_a_reader_who_leaves_is_forgotten(serve):
    fanout = Fanout()
    with serve(fanout) as listener:
        with reading(listener.port):
            assert len(fanout) == 1
        until(lambda: len(fanout) == 0)


def test_a_reader_who_says_something_is_ended(direct):
    fanout = Fanout()
    with direct(fanout) as listener, reading(listener.port) as client:
        client.send(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")

        assert b"pong" not in client.read_all()
        until(lambda: fanout.tally.spoke == 1)
        assert len(fanout) == 0


def test_a_reader_of_http_1_0_gets_frames_as_they_are_until_the_end(direct):
    fanout = Fanout()
    with direct(fanout) as listener, Raw(listener.port) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert b"transfer-encoding" not in client.read_until(b"\r\n\r\n")
        client.read_until(streams.HEARTBEAT)
        fanout.announce(ONE, None, frame("change", 1))
        assert client.read_until(b"data: 1\n\n") == b"event: change\ndata: 1\n\n"
        listener.stop()
        assert client.read_all() == b""


def flood(fanout: Fanout, serve, holds: Callable[[], object]) -> None:
    """Events of 10 kB to a reader who does not read beside one who does, until it holds."""
    big = frame("change", {"filler": "x" * 10_000})
    with (
        serve(fanout) as listener,
        Raw(listener.port, 4096) as slow,
        reading(listener.port) as quick,
    ):
        slow.send(GET % b"/")
        slow.read_until(streams.HEARTBEAT)
        heard = threading.Semaphore(0)

        def drain() -> None:
            with contextlib.suppress(AssertionError, OSError):
                while True:
                    quick.read_until(b'"}\n\n')
                    heard.release()

        thread = threading.Thread(target=drain)
        thread.start()
        for _ in range(1000):
            if holds():
                break
            fanout.announce(ONE, None, big)
            assert heard.acquire(timeout=10), "the quick reader waits for the slow one"
            assert call(listener.port, "GET", "/ping").body == b"pong"
        until(holds)
        fanout.announce(ONE, None, big)
        assert heard.acquire(timeout=10)
        listener.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_a_slow_reader_is_cut_and_counted_and_delays_nobody(serve):
    fanout = Fanout()
    flood(fanout, serve, lambda: fanout.tally.cut == 1 and len(fanout) == 1)


def test_without_the_cut_a_slow_reader_fills_the_memory(direct):
    fanout, sent = Fanout(Room(cuts=False)), []

    def far_too_much() -> bool:
        sent.append(1)
        waiting = [feed.waiting_bytes() for slot in fanout.wheel for feed in slot]
        return max(waiting, default=0) > 4 * UNREAD_BYTES_MAX

    flood(fanout, direct, far_too_much)
    assert fanout.tally.cut == 0


def test_one_reader_too_many_is_refused_and_counted(serve):
    room = Room(2)
    fanout, other = Fanout(room), Fanout(room)
    with serve(fanout) as listener, reading(listener.port), reading(listener.port):
        refused = call(listener.port, "GET", "/")

        assert (refused.status, refused.body) == (503, b"too-many-streams")
        assert 2 <= int(refused.headers["retry-after"]) <= 8
        assert fanout.tally.refused == 1
        assert isinstance(other.open(None, lambda _: True), Refusal)
    until(lambda: room.taken == 0)


def test_switched_off_streams_end_over_a_while_and_none_are_opened(serve, monkeypatch):
    room = Room()
    fanout, ended_s = Fanout(room, farewell_s=0.5), []
    end = fanout._end
    monkeypatch.setattr(fanout, "_end", lambda feed: (ended_s.append(time.monotonic()), end(feed)))
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(serve(fanout))
        clients = [stack.enter_context(reading(listener.port)) for _ in range(40)]
        room.switch(off=True)
        refused = call(listener.port, "GET", "/")
        assert (refused.status, refused.body) == (503, b"streams-off")
        assert 30 <= int(refused.headers["retry-after"]) <= 90
        for client in clients:
            client.read_until(b"\r\n" + END)
        assert ended_s[-1] - ended_s[0] > 2 * streams.FAREWELL_TURN_S, "they all went at once"
        assert (fanout.tally.ended, fanout.tally.refused_off) == (40, 1)

        room.switch(off=False)
        with reading(listener.port) as client:
            fanout.announce(ONE, None, frame("change", 1))
            client.read_until(b"data: 1\n\n")


def test_stopping_ends_the_streams(serve):
    fanout = Fanout()
    with serve(fanout) as listener, reading(listener.port) as client:
        listener.stop()

        assert client.read_all().endswith(END)


def test_announcing_without_readers_or_after_the_end_does_nothing(serve):
    fanout = Fanout()
    fanout.announce(ONE, None, b"x")
    with serve(fanout) as listener, reading(listener.port):
        pass
    fanout.announce(ONE, None, b"x")


def test_many_readers_are_written_to_in_turns_and_a_burst_is_merged(direct):
    """While the first of them are written to, newer events come: the others get the newest."""
    fanout = Fanout()
    readers = streams.WRITES_PER_TURN + 50
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(direct(fanout))
        clients = [stack.enter_context(reading(listener.port)) for _ in range(readers)]
        for number in range(100):
            fanout.announce(ONE, None, frame("change", number))
        fanout.announce(ONE, None, frame("change", "last"))
        for client in clients:
            client.read_until(b'data: "last"\n\n')
        assert fanout.tally.merged > 0
        assert fanout.tally.frames < 101 * readers


def test_a_change_of_everything_comes_in_pieces_of_a_bounded_size(direct):
    fanout = Fanout(heartbeat_s=3600.0)
    subjects = [Subject("production", f"service-{number}") for number in range(2000)]
    with direct(fanout) as listener, reading(listener.port) as client:
        for subject in subjects:
            fanout.announce(subject, None, frame("change", {"service": subject.service}))
        heard = client.read_until(b'service-1999"}\n\n')
        assert all(f'"{subject.service}"'.encode() in heard for subject in subjects)
        sizes = [int(line, 16) for line in heard.split(b"\r\n") if line and line[0] != 101]
        assert max(sizes) < 2 * streams.PAYLOAD_BYTES
    assert fanout.tally.frames == len(subjects)
