"""The process of `holdfast.gameday.swarm`: one event loop, a machine and two connections a client.

python -m holdfast.gameday.swarm_process SWARMING.json
"""

from __future__ import annotations

import asyncio
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urlsplit

import msgspec
import uvloop

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.http_source import CONNECT_S, READ_S
from holdfast.apps.dev import end_with_parent
from holdfast.core import trust
from holdfast.core.conversation import (
    Activate,
    Answered,
    CloseStream,
    Command,
    Event,
    Failed,
    Fetch,
    Hinted,
    OpenStream,
    Refused,
    Standing,
    StreamClosed,
    StreamOpened,
    Tick,
    WakeAt,
)
from holdfast.core.errors import Untrusted
from holdfast.core.follow import Follow, Plan
from holdfast.core.model import Subject
from holdfast.core.roots import RootSet
from holdfast.core.trust import Admitted
from holdfast.gameday.swarm import SLICE_S, Slice, Swarming
from holdfast.gameday.wire import Answer, Listening, Polling

REVISIONS_MAX: Final = 1_024
"""Remembered as admitted."""


class Swarm:
    """All clients of a process, and what they share: counts, and bodies looked at before."""

    def __init__(self, told: Swarming) -> None:
        self.told = told
        self.subject = Subject(told.environment, told.service)
        self.places = [urlsplit(each) for each in told.endpoints]
        self.polls = [0] * len(told.endpoints)
        self.opens = [0] * len(told.endpoints)
        self.statuses: Counter[int] = Counter()
        self.revisions: Counter[int] = Counter()
        self.hints = self.well = self.streams = self.refused = self.went_back = 0
        self.last_error = ""
        self.activations: list[tuple[int, float]] = []
        self._chance = random.Random(told.seed)  # noqa: S311  chance of a drill
        self._roots: RootSet | None = None
        self._admitted: dict[str, Admitted] = {}
        self._judged: dict[int, Admitted] = {}

    @property
    def draw(self) -> Callable[[], float]:
        return self._chance.random

    def admit(self, have: str | None, answer: Answer) -> Admitted | Untrusted:
        """What the SDK's own checks say of a body, looked at once for each revision.

        Clients that had other revisions before get other deltas to the same one; of those the first
        is looked at. Of what is refused each is.
        """
        known = self._judged.get(answer.revision)
        if known is not None:
            return known
        found = self._judge(have, answer.body)
        if isinstance(found, Admitted) and found.revision == answer.revision:
            if len(self._judged) >= REVISIONS_MAX:
                self._judged.clear()
            self._judged[found.revision] = found
        return found

    def _judge(self, have: str | None, body: bytes) -> Admitted | Untrusted:
        active = self._admitted.get(have) if have else None
        try:
            admitted = trust.admit(body, self.subject, active, self._roots, verify)
        except Untrusted as error:
            return error
        self._roots = admitted.roots
        if len(self._admitted) >= REVISIONS_MAX:
            self._admitted.pop(next(iter(self._admitted)))
        self._admitted[admitted.digest] = admitted
        return admitted

    async def run(self, out: BinaryIO) -> None:
        """Until somebody ends the process; a line to `out` for each slice."""
        loop = asyncio.get_running_loop()
        for number in range(self.told.clients):
            delay_s = self.told.start_within_s * number / self.told.clients
            loop.call_later(delay_s, Client(self, loop).start)
        began, busy_s = time.monotonic(), time.process_time()
        while True:
            at_s = time.time()
            began += SLICE_S
            await asyncio.sleep(max(0.0, began - time.monotonic()))
            used_s = time.process_time() - busy_s
            busy_s += used_s
            out.write(msgspec.json.encode(self._slice(at_s, used_s)) + b"\n")

    def _slice(self, at_s: float, used_s: float) -> Slice:
        made = Slice(
            at_s=at_s,
            polls=tuple(self.polls),
            opens=tuple(self.opens),
            statuses=dict(self.statuses),
            hints=self.hints,
            well=self.well,
            streams=self.streams,
            revisions={revision: n for revision, n in self.revisions.items() if n and revision},
            refused=self.refused,
            went_back=self.went_back,
            cpu_share=round(used_s / SLICE_S, 3),
            last_error=self.last_error,
            activations=tuple(self.activations),
        )
        self.activations.clear()
        self.polls = [0] * len(self.polls)
        self.opens = [0] * len(self.opens)
        self.statuses.clear()
        self.hints = 0
        return made


class Client:
    """One client: performs what its machine commands, as `sdk.follower` does."""

    def __init__(self, swarm: Swarm, loop: asyncio.AbstractEventLoop) -> None:
        self._swarm = swarm
        self._loop = loop
        self._machine: Follow | None = None
        self._wake: asyncio.TimerHandle | None = None
        self._wires: dict[int, Polling] = {}
        self._listening: Listening | None = None
        self._revision = 0
        self._well = False

    def start(self) -> None:
        told = self._swarm.told
        plan = Plan(
            upstreams=len(told.endpoints),
            subjects=(self._swarm.subject,),
            streams=told.streams,
            poll_interval_s=told.poll_interval_s,
            gentle=told.protected,
        )
        self._machine = Follow(plan, self._swarm.draw, time.monotonic())
        self._step(Tick())

    def _step(self, event: Event) -> None:
        assert self._machine is not None  # noqa: S101  nothing happens before the start
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        for command in self._machine.step(event, time.monotonic()):
            self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case WakeAt(at_s=at_s):
                wait_s = max(0.0, at_s - time.monotonic())
                self._wake = self._loop.call_later(wait_s, self._step, Tick())
            case Fetch(upstream=upstream, have=have, patience_s=patience_s):
                self._fetch(upstream, have, patience_s)
            case OpenStream(upstream=upstream):
                self._open(upstream)
            case CloseStream():
                self._close()
            case Activate(standing=standing):
                self._activate(standing)
            case _:
                pass  # nothing is kept, nobody is told

    def _activate(self, standing: Standing) -> None:
        swarm = self._swarm
        swarm.went_back += standing.revision < self._revision
        swarm.revisions[self._revision] -= 1
        self._revision = standing.revision
        swarm.revisions[self._revision] += 1
        if swarm.told.timed:
            swarm.activations.append((standing.revision, time.time()))

    def _fetch(self, upstream: int, have: str | None, patience_s: float) -> None:
        swarm = self._swarm
        swarm.polls[upstream] += 1
        wire = self._wires.get(upstream)
        if wire is None:
            wire = self._wires[upstream] = Polling(swarm.places[upstream], swarm.told.token)
        path = f"/{swarm.subject}/snapshot"
        extra = ""
        if have is not None:
            path, extra = f"{path}?have={have}", f'if-none-match: "{have}"\r\n'

        def told(answer: Answer) -> None:
            self._answered(upstream, have, answer)

        wire.ask(self._loop, path, extra, told, min(patience_s, CONNECT_S + READ_S))

    def _answered(self, upstream: int, have: str | None, answer: Answer) -> None:
        swarm = self._swarm
        swarm.statuses[answer.status] += 1
        well = answer.status in {200, 304}
        swarm.well += well - self._well
        self._well = well
        self._step(self._event(upstream, have, answer))

    def _event(self, upstream: int, have: str | None, answer: Answer) -> Event:
        swarm = self._swarm
        if answer.status == 304:
            return Answered(swarm.subject, upstream, None, answer.pace_s)
        if answer.status != 200:
            return Failed(swarm.subject, upstream, answer.retry_after_s)
        found = swarm.admit(have, answer)
        if isinstance(found, Untrusted):
            swarm.refused += 1
            swarm.last_error = str(found)
            return Refused(swarm.subject, upstream, found.code, str(found))
        standing = Standing(found.revision, found.digest, found.snapshot.holdfast.pacing)
        return Answered(swarm.subject, upstream, standing, answer.pace_s)

    def _open(self, upstream: int) -> None:
        swarm = self._swarm
        swarm.opens[upstream] += 1

        def opened() -> None:
            swarm.streams += 1
            self._step(StreamOpened(upstream))

        def hinted(digests: dict[Subject, str]) -> None:
            swarm.hints += 1
            self._step(Hinted(digests))

        def closed(answer: Answer, was_open: bool) -> None:
            swarm.streams -= was_open
            swarm.statuses[answer.status] += not was_open
            if self._listening is listening:
                self._listening = None
                cut = was_open and not listening.farewell
                self._step(StreamClosed(upstream, answer.retry_after_s, cut=cut))

        listening = Listening(swarm.places[upstream], swarm.told.token, opened, hinted, closed)
        self._listening = listening
        listening.open(self._loop, CONNECT_S + READ_S)

    def _close(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.close()


def main(told: Swarming) -> None:
    end_with_parent(told.parent)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Path(told.out).open("ab", buffering=0) as out:
        uvloop.run(Swarm(told).run(out))


if __name__ == "__main__":
    main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Swarming))
