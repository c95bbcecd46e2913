"""Server-sent events to many readers: frames encoded once, queues bounded, the slow cut.

A stream is a hint ("poll now"), so that a reader who was cut has lost nothing: it comes back, or
polls. What must never happen is that one reader's slowness delays the others or fills the memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from holdfast.apps.http import Headers
from holdfast.core.model import Subject

FRAMES_MAX = 64
"""Frames that wait for one reader; one more and the reader is cut."""
FEEDS_MAX = 10_000
"""Readers of one process, all streams together."""
HEARTBEAT_S = 15.0
WAKES_PER_TURN = 200
"""Readers woken before the event loop may serve others: 200 take it some 2 ms."""
HEARTBEAT = b":\n\n"

STREAM_HEADERS: Headers = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


def frame(event: str, data: object, ident: int | str | None = None) -> bytes:
    """One event; `data` is encoded as JSON, which holds no line end."""
    head = f"id: {ident}\n" if ident is not None else ""
    return f"{head}event: {event}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"


class Tally:
    """What a fan-out has done, as plain counts for the metrics."""

    __slots__ = ("cut", "frames", "opened", "refused")

    def __init__(self) -> None:
        self.opened = 0
        self.refused = 0
        self.cut = 0
        self.frames = 0


class Feed:
    """One reader's frames. Everything here happens on the event loop.

    `sees` says which subjects this reader may hear of. `on_cut`, set by the face that writes, ends
    the connection at once, without waiting for the reader.
    """

    __slots__ = ("_fanout", "_frames", "_wake", "closed", "ends_s", "on_cut", "sees", "topic")

    def __init__(
        self,
        fanout: Fanout,
        topic: Subject | None,
        sees: Callable[[Subject], bool],
        ends_s: float | None,
    ) -> None:
        self._fanout = fanout
        self._frames: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self.topic = topic
        self.sees = sees
        self.ends_s = ends_s
        self.closed = False
        self.on_cut: Callable[[], None] | None = None

    def push(self, data: bytes) -> None:
        """Queue one frame; a reader whose queue is full is cut and counted."""
        if self.closed:
            return
        if len(self._frames) >= FRAMES_MAX:
            self._fanout.tally.cut += 1
            self.close()
            if self.on_cut is not None:
                self.on_cut()
            return
        self._frames.append(data)
        self._wake.set()

    async def chunk(self) -> bytes | None:
        """All frames that wait, at least one, as one chunk; none when the feed has ended."""
        await self._wake.wait()
        if self.closed:
            return None
        self._wake.clear()
        data = b"".join(self._frames)
        self._frames.clear()
        return data

    def close(self) -> None:
        self.closed = True
        self._frames.clear()
        self._wake.set()
        self._fanout.forget(self)


class Stream(msgspec.Struct):
    """An answer that goes on: a face sends `first`, then the feed's chunks until it ends."""

    status: int
    headers: Headers
    feed: Feed
    first: bytes = HEARTBEAT


class Fanout:
    """All feeds of one process, by topic: a subject, or none for the readers of everything.

    `open`, `publish` and `close` belong to the event loop; `announce` may be called from any
    thread. `clock` is monotonic seconds, `loop.time` when not given.
    """

    def __init__(self, heartbeat_s: float = HEARTBEAT_S, feeds_max: int = FEEDS_MAX) -> None:
        self.heartbeat_s = heartbeat_s
        self.feeds_max = feeds_max
        self.tally = Tally()
        self._feeds: dict[Subject | None, set[Feed]] = {}
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return self._count

    def open(
        self,
        topic: Subject | None,
        sees: Callable[[Subject], bool],
        lifetime_s: float | None = None,
    ) -> Feed | None:
        """A feed for one more reader, or none when there are too many (counted)."""
        if self._closed or self._count >= self.feeds_max:
            self.tally.refused += 1
            return None
        self._loop = asyncio.get_running_loop()
        ends_s = None if lifetime_s is None else self._loop.time() + lifetime_s
        feed = Feed(self, topic, sees, ends_s)
        self._feeds.setdefault(topic, set()).add(feed)
        self._count += 1
        self.tally.opened += 1
        if self._beat is None:
            self._beat = self._loop.call_later(self.heartbeat_s, self._heartbeat)
        return feed

    def forget(self, feed: Feed) -> None:
        """Drop a feed that has ended; again is fine."""
        group = self._feeds.get(feed.topic)
        if group is None or feed not in group:
            return
        group.remove(feed)
        self._count -= 1
        if not group:
            del self._feeds[feed.topic]

    def announce(self, subject: Subject, topic: Subject | None, data: bytes) -> None:
        """`publish` from another thread; without readers, or after the loop's end, nothing."""
        loop = self._loop
        if loop is None or self._closed:
            return
        try:
            loop.call_soon_threadsafe(self.publish, subject, topic, data)
        except RuntimeError:
            self._loop = None  # the loop is closed: there is nobody left to tell

    def publish(self, subject: Subject, topic: Subject | None, data: bytes) -> None:
        """Queue a frame about `subject` for every feed of `topic` that may see the subject."""
        self._spread([f for f in self._feeds.get(topic, ()) if f.sees(subject)], data)

    def close(self) -> None:
        """End all feeds; no new ones open."""
        self._closed = True
        if self._beat is not None:
            self._beat.cancel()
        for feed in self._all():
            feed.close()

    def _all(self) -> list[Feed]:
        return [feed for group in self._feeds.values() for feed in group]

    def _heartbeat(self) -> None:
        assert self._loop is not None  # noqa: S101 -- the timer is made by `open`, which sets it
        now_s = self._loop.time()
        ended = [f for f in self._all() if f.ends_s is not None and f.ends_s <= now_s]
        for feed in ended:
            feed.close()
        self._spread(self._all(), HEARTBEAT)
        more = self._count > 0 and not self._closed
        self._beat = self._loop.call_later(self.heartbeat_s, self._heartbeat) if more else None

    def _spread(self, feeds: list[Feed], data: bytes) -> None:
        batch: Iterable[Feed] = feeds[:WAKES_PER_TURN]
        for feed in batch:
            feed.push(data)
            self.tally.frames += 1
        rest = feeds[WAKES_PER_TURN:]
        if rest and self._loop is not None:
            self._loop.call_soon(self._spread, rest, data)
