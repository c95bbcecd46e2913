"""Server-sent events to many readers: frames encoded once, grouped by topic and rights, in turns.

A stream is a hint ("poll now"), so that a reader who was cut has lost nothing: it comes back, or
polls. What must never happen is that one reader's slowness delays the others or fills the memory.
So a whole fan-out may be switched off, too, and nothing but promptness is lost.

Readers are the business of `holdfast.apps.streaming`, one by one; here they are many.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from holdfast.apps.http import Headers
from holdfast.apps.streaming import Feed, Group, encode
from holdfast.core.model import Subject

FEEDS_MAX = 10_000
"""Readers of one process, all its fan-outs together, where nobody says another number."""
HEARTBEAT_S = 2.5
"""Often, so that a consumer finds out within seconds that a line is dead in one direction."""
SLOTS: Final = 60
"""Parts of the heartbeat's interval; each reader has its place in one of them."""
WRITES_PER_TURN = 200
"""Readers written to before the event loop may serve others: 200 take it some 2 ms."""
PAYLOAD_BYTES = 16 * 1024
"""Frames are joined up to about this size, for one write to each reader."""
FULL_RETRY_S = 5.0
OFF_RETRY_S = 60.0
"""When a reader who was refused is to ask again: between half of it and one and a half."""
FAREWELL_S = 10.0
"""When streams are switched off, the open ones end spread over this time, many of them."""
FAREWELLS_PER_S: Final = 100.0
"""A few are done sooner."""
FAREWELL_TURN_S: Final = 0.1
HEARTBEAT = b":\n\n"
_HEARTBEAT: Final = encode(HEARTBEAT)

STREAM_HEADERS: Headers = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"holdfast-heartbeat", b"%.1f" % HEARTBEAT_S),
]


def frame(event: str, data: object, ident: int | str | None = None) -> bytes:
    """One event; `data` is encoded as JSON, which holds no line end."""
    head = f"id: {ident}\n" if ident is not None else ""
    return f"{head}event: {event}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"


class Refusal(msgspec.Struct, frozen=True):
    """Why no stream is opened, and when to ask again. Polling goes on whatever this says."""

    code: str
    message: str
    retry_after_s: int

    @property
    def headers(self) -> Headers:
        """What its answer, a 503, is sent with."""
        return [(b"retry-after", b"%d" % self.retry_after_s)]


class Stream(msgspec.Struct):
    """An answer that goes on: a face sends `first`, then the feed's frames until it ends."""

    status: int
    headers: Headers
    feed: Feed
    first: bytes = HEARTBEAT

    def begin(
        self,
        transport: asyncio.Transport,
        *,
        chunked: bool = True,
        start: bytes = b"HTTP/1.1 200 OK\r\n",
    ) -> None:
        """Write the head and `first`; from then on the transport is the feed's.

        `start`: the status line, and headers that a listener sends with every answer.
        """
        lines = [start]
        lines += [b"%b: %b\r\n" % header for header in self.headers]
        lines.append(b"connection: close\r\n")
        if chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        first = encode(self.first)
        transport.write(b"".join([*lines, b"\r\n", first.chunk if chunked else first.plain]))
        self.feed.attach(transport, chunked=chunked)


class Tally:
    """What a fan-out has done, as plain counts for the metrics."""

    __slots__ = ("cut", "ended", "frames", "merged", "opened", "refused", "refused_off", "spoke")

    def __init__(self) -> None:
        self.opened = 0
        self.refused = 0
        """For there were too many."""
        self.refused_off = 0
        """For streams are switched off."""
        self.cut = 0
        self.spoke = 0
        """Ended because the client sent something."""
        self.ended = 0
        """Ended by us, in good order."""
        self.frames = 0
        """Written, one for each reader and event."""
        self.merged = 0
        """Events that a newer one about the same subject overtook before they were written."""


class Room:
    """What all fan-outs of one process share: the bound on their readers, and the switch.

    `cuts`: whether slow readers are cut; they are, but in game days.
    """

    def __init__(self, feeds_max: int = FEEDS_MAX, *, cuts: bool = True) -> None:
        self.feeds_max = feeds_max
        self.cuts = cuts
        self.off = False
        self.taken = 0
        self.fanouts: list[Fanout] = []

    def switch(self, *, off: bool) -> None:
        """Whether streams are off, from any thread. When they go, open ones end in a while."""
        went, self.off = off and not self.off, off
        for fanout in self.fanouts if went else ():
            fanout.dismiss()


class Fanout:
    """All feeds of one kind, by topic: a subject, or none for the readers of everything.

    `announce` and `dismiss` may be called from any thread; all else belongs to the event loop.
    Feeds that were opened with the very same `sees` are asked as one who may see a subject.
    """

    def __init__(
        self,
        room: Room | None = None,
        heartbeat_s: float = HEARTBEAT_S,
        farewell_s: float = FAREWELL_S,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.room = room or Room()
        self.room.fanouts.append(self)
        self.heartbeat_s = heartbeat_s
        self.farewell_s = farewell_s
        self.tally = Tally()
        self._draw = draw
        self._groups: dict[Subject | None, dict[Callable[[Subject], bool], Group]] = {}
        self.wheel: tuple[set[Feed], ...] = tuple(set() for _ in range(SLOTS))
        """All feeds, by the part of the interval in which they get their heartbeat."""
        self._waiting: dict[Subject | None, dict[Subject, bytes]] = {}
        self._delivery: Iterator[None] | None = None
        self._count = 0
        self._hand = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return self._count

    def behind(self) -> int:
        """Readers who have something unread."""
        return sum(feed.waiting_bytes() > 0 for slot in self.wheel for feed in slot)

    def open(
        self,
        topic: Subject | None,
        sees: Callable[[Subject], bool],
        lifetime_s: float | None = None,
    ) -> Feed | Refusal:
        """A feed for one more reader, or why there is none (counted)."""
        if self.room.off or self._closed:
            self.tally.refused_off += 1
            return self._refusal("streams-off", "streams are switched off: poll", OFF_RETRY_S)
        if self.room.taken >= self.room.feeds_max:
            self.tally.refused += 1
            return self._refusal(
                "too-many-streams", "too many streams are open: poll", FULL_RETRY_S
            )
        self._loop = asyncio.get_running_loop()
        group = self._groups.setdefault(topic, {}).get(sees)
        if group is None:
            group = self._groups[topic][sees] = Group(topic, sees)
        self.tally.opened += 1
        slot = self.tally.opened % SLOTS
        ends_s = None if lifetime_s is None else self._loop.time() + lifetime_s
        feed = Feed(self, group, slot, ends_s)
        group.feeds.add(feed)
        self.wheel[slot].add(feed)
        self._count += 1
        self.room.taken += 1
        if self._beat is None:
            self._beat = self._loop.call_later(self.heartbeat_s / SLOTS, self._turn_wheel)
        return feed

    def announce(self, subject: Subject, topic: Subject | None, data: bytes) -> None:
        """`publish` from another thread; without readers, or after the loop's end, nothing."""
        self._from_outside(self.publish, subject, topic, data)

    def publish(self, subject: Subject, topic: Subject | None, data: bytes) -> None:
        """Tell every feed of `topic` that may see `subject`, soon.

        What waits about the same subject is not told any more: the newest says it all.
        """
        if self._loop is None or topic not in self._groups:
            return
        waiting = self._waiting.setdefault(topic, {})
        if waiting.pop(subject, None) is not None:
            self.tally.merged += 1
        waiting[subject] = data
        if self._delivery is None:
            self._delivery = self._deliver()
            self._loop.call_soon(self._deliver_on)

    def dismiss(self) -> None:
        """End the feeds that are open now, evenly spread over up to `farewell_s`."""
        self._from_outside(self._dismiss)

    def close(self) -> None:
        """End all feeds; no new ones open."""
        self._closed = True
        if self._beat is not None:
            self._beat.cancel()
        self._waiting.clear()
        for feed in self._all():
            self._end(feed)

    # -- what feeds tell

    def forget(self, feed: Feed) -> None:
        group = feed.group
        group.feeds.discard(feed)
        self.wheel[feed.slot].discard(feed)
        self._count -= 1
        self.room.taken -= 1
        topic = self._groups.get(group.topic)
        if not group.feeds and topic is not None:
            topic.pop(group.sees, None)
            if not topic:
                del self._groups[group.topic]

    def cut(self, feed: Feed) -> None:
        if self.room.cuts:
            self.tally.cut += 1
            feed.cut_off()

    def spoke(self, feed: Feed) -> None:
        self.tally.spoke += 1
        feed.close()

    # -- inside

    def _refusal(self, code: str, message: str, about_s: float) -> Refusal:
        return Refusal(code, message, round(about_s * (0.5 + self._draw())))

    def _from_outside(self, method: Callable[..., None], *arguments: object) -> None:
        loop = self._loop
        if loop is None or self._closed:
            return
        try:
            loop.call_soon_threadsafe(method, *arguments)
        except RuntimeError:
            self._loop = None  # the loop is closed: there is nobody left to tell

    def _all(self) -> list[Feed]:
        return [feed for slot in self.wheel for feed in slot]

    def _end(self, feed: Feed) -> None:
        if not feed.closed:
            self.tally.ended += 1
            feed.close()

    def _deliver_on(self) -> None:
        if self._delivery is None or self._loop is None:
            return
        for _ in self._delivery:
            self._loop.call_soon(self._deliver_on)
            return
        self._delivery = None

    def _deliver(self) -> Iterator[None]:
        """Write what waits, topic by topic, and yield whenever others have to have their turn."""
        done = 0
        while self._waiting:
            topic, events = self._next()
            for group in tuple(self._groups.get(topic, {}).values()):
                done += 1  # to ask takes time as well, where each reader has a token of its own
                if done % WRITES_PER_TURN == 0:
                    yield
                seen = [data for subject, data in events.items() if group.sees(subject)]
                if not seen:
                    continue
                frames = encode(b"".join(seen))
                for feed in tuple(group.feeds):
                    feed.push(frames)
                    self.tally.frames += len(seen)
                    done += 1
                    if done % WRITES_PER_TURN == 0:
                        yield

    def _next(self) -> tuple[Subject | None, dict[Subject, bytes]]:
        """Some events of the topic that waits longest, about `PAYLOAD_BYTES` of them."""
        topic = next(iter(self._waiting))
        waiting = self._waiting.pop(topic)
        events: dict[Subject, bytes] = {}
        size = 0
        while waiting and size < PAYLOAD_BYTES:
            subject = next(iter(waiting))
            events[subject] = waiting.pop(subject)
            size += len(events[subject])
        if waiting:
            self._waiting[topic] = waiting
        return topic, events

    def _turn_wheel(self) -> None:
        """A sixtieth of all readers: end those whose time is over, give the others a heartbeat."""
        assert self._loop is not None  # noqa: S101  the timer is made by `open`, which sets it
        now_s = self._loop.time()
        self._hand = (self._hand + 1) % SLOTS
        for feed in tuple(self.wheel[self._hand]):
            if feed.ends_s is not None and feed.ends_s <= now_s:
                self._end(feed)
            else:
                feed.push(_HEARTBEAT)
        more = self._count > 0 and not self._closed
        self._beat = (
            self._loop.call_later(self.heartbeat_s / SLOTS, self._turn_wheel) if more else None
        )

    def _dismiss(self) -> None:
        leaving = self._all()
        random.Random(self._draw()).shuffle(leaving)  # noqa: S311  no secret: who goes first
        within_s = min(self.farewell_s, len(leaving) / FAREWELLS_PER_S)
        turns = max(1, round(within_s / FAREWELL_TURN_S))
        self._leave(leaving, -(-len(leaving) // turns))

    def _leave(self, leaving: list[Feed], each_turn: int) -> None:
        for feed in leaving[:each_turn]:
            self._end(feed)
        rest = leaving[each_turn:]
        if rest and self._loop is not None and not self._closed:
            self._loop.call_later(FAREWELL_TURN_S, self._leave, rest, each_turn)
