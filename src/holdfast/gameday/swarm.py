"""Thousands of light clients in one process, each driven by the SDK's own machine, `core.follow`.

    with Swarm(directory, Swarming(endpoints=urls, clients=2_000, poll_interval_s=10.0)) as swarm:
        swarm.wait(lambda now: now.well == 2_000, "all clients", 60.0)
        fault()
        swarm.offered(began_s, ended_s)

When to poll, to retry, to listen and to move on is decided as in the SDK; only the HTTP around it
is small, and what is the same for all is verified once: a body that one of them admitted is known
to the others. So their load is that of so many real clients, and most of the CPU time is left for
whom they ask.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from holdfast.core.errors import Unavailable
from holdfast.gameday.drill import Tick
from holdfast.gameday.processes import UNPROTECTED, Build, Process

CLIENTS_MAX: Final = 5_000
SLICE_S: Final = 0.25
"""What one line of a swarm's file stands for."""
START_S: Final = 60.0
LOOK_S: Final = 0.05


class Swarming(msgspec.Struct, frozen=True, kw_only=True):
    """What a swarm is told. Without `poll_interval_s` the snapshots say how often to poll.

    `start_within_s`: the clients begin one after another, evenly over that time; the interval that
    they poll at keeps their polls apart from the first one on. `timed`: each activation is told
    with its time.
    """

    endpoints: tuple[str, ...]
    clients: int
    environment: str = "production"
    service: str = "shop"
    poll_interval_s: float | None = None
    start_within_s: float = 5.0
    streams: bool = True
    protected: bool = True
    timed: bool = False
    token: str = ""
    seed: int = 1
    out: str = ""
    parent: int = 0
    core: int | None = None


class Slice(msgspec.Struct, frozen=True, omit_defaults=True):
    """`SLICE_S` at all clients, from `at_s` on (unix time).

    What was offered in that time, by upstream (its place in `endpoints`): `polls` and `opens`, of
    streams, whether anybody was there or not. `statuses` of what came back, 0 for no answer.
    How things stood at its end: `well`, clients whose last poll was answered; `streams` that were
    open; `revisions`, clients by the revision they have. `refused` and `went_back` count since the
    start: answers that were not believed, and clients that went back a revision. `activations`, of
    a swarm that is `timed`: (revision, unix time), one for each that a client made.
    """

    at_s: float
    polls: tuple[int, ...]
    opens: tuple[int, ...]
    statuses: dict[int, int] = {}
    hints: int = 0
    well: int = 0
    streams: int = 0
    revisions: dict[int, int] = {}
    refused: int = 0
    went_back: int = 0
    cpu_share: float = 0.0
    last_error: str = ""
    activations: tuple[tuple[int, float], ...] = ()

    @property
    def offered(self) -> int:
        return sum(self.polls) + sum(self.opens)

    def at_least(self, revision: int) -> int:
        """Clients that have this revision or a newer one."""
        return sum(count for held, count in self.revisions.items() if held >= revision)


class Swarm:
    """A process of clients; see the module. It is gone when the block is left."""

    def __init__(self, directory: Path, told: Swarming, name: str = "swarm") -> None:
        if not 0 < told.clients <= CLIENTS_MAX:
            raise Unavailable(f"a swarm has at most {CLIENTS_MAX} clients")
        self._out = directory / f"{name}.jsonl"
        self.told = msgspec.structs.replace(told, out=str(self._out), parent=os.getpid())
        path = directory / f"{name}.json"
        path.write_bytes(msgspec.json.encode(self.told))
        guard = {} if told.protected else {UNPROTECTED: "1"}
        module = "holdfast.gameday.swarm_process"
        self.process = Process(name, module, (str(path),), directory / f"{name}.log", **guard)
        self._offset = 0
        self._slices: list[Slice] = []

    def __enter__(self) -> Self:
        self.process.start(Build("the build under test"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()

    def slices(self, since_s: float = 0.0, until_s: float = float("inf")) -> list[Slice]:
        """What was seen so far, within these unix times."""
        try:
            with self._out.open("rb") as file:
                file.seek(self._offset)
                body = file.read()
        except OSError:
            body = b""
        whole = body[: body.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._slices += [msgspec.json.decode(line, type=Slice) for line in whole.splitlines()]
        return [each for each in self._slices if since_s <= each.at_s < until_s]

    def wait(self, holds: Callable[[Slice], bool], what: str, within_s: float) -> float:
        """Until it holds at the end of a slice; the seconds that took. Raises `Unavailable`."""
        began_s = time.time()
        looked = len(self.slices())
        while True:
            for each in self.slices()[looked:]:
                looked += 1
                if holds(each):
                    return max(0.0, each.at_s + SLICE_S - began_s)
            if not self.process.alive:
                raise Unavailable(f"the swarm ended: {self.process.tail()}")
            if time.time() - began_s > within_s:
                last = self._slices[-1] if self._slices else None
                raise Unavailable(f"{what} did not come within {within_s:.0f} s: {last}")
            time.sleep(LOOK_S)

    def wait_all(self, within_s: float = START_S) -> float:
        """Until every client was answered and, where they listen, listens; the seconds."""
        streams = self.told.clients if self.told.streams else 0
        return self.wait(
            lambda now: now.well == self.told.clients and now.streams >= streams,
            f"all {self.told.clients} clients",
            within_s,
        )

    def offered(self, since_s: float, until_s: float) -> float:
        """Requests per second that the clients made in that time, of all kinds, to anybody."""
        found = self.slices(since_s, until_s)
        return sum(each.offered for each in found) / (len(found) * SLICE_S) if found else 0.0

    def peak(self, since_s: float, until_s: float, window_s: float) -> float:
        """The most requests per second in any `window_s` of that time."""
        counts = [each.offered for each in self.slices(since_s, until_s)]
        width = max(1, min(len(counts), round(window_s / SLICE_S)))
        sums = [sum(counts[at : at + width]) for at in range(len(counts) - width + 1)]
        return max(sums, default=0) / (width * SLICE_S)

    def statuses(self, since_s: float = 0.0, until_s: float = float("inf")) -> Mapping[int, int]:
        found: Counter[int] = Counter()
        for each in self.slices(since_s, until_s):
            found.update(each.statuses)
        return found

    def ticks(self, began_s: float) -> list[Tick]:
        """Answers in time, for the picture of a drill: refused ones and none at all as failed."""
        sums: dict[int, list[int]] = {}
        for each in self.slices():
            place = sums.setdefault(int((each.at_s - began_s) / 0.5), [0, 0])
            place[0] += sum(each.statuses.values())
            place[1] += sum(n for status, n in each.statuses.items() if status not in {200, 304})
        return [Tick(at * 0.5, asked, 0, failed) for at, (asked, failed) in sorted(sums.items())]
