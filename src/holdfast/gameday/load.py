"""Load from a process of its own, open loop: requests go out when they are due, answered or not.

    kinds = (Kind("read", "GET", "/production/shop/snapshot", weight=3), Kind("bulk", …))
    loaded = Load(url, kinds, rate_per_s=2_000, connections=256, seconds=5).run()
    loaded.kinds["read"].goodput_per_s

Latency counts from when a request was *due*, so that a server which stalls can't hide it by keeping
the generator waiting ("coordinated omission"). Each connection carries one request at a time; what
is due while all are busy waits its turn, and what has waited for `patience_s` is given up, as a
client would: before it was sent, or with its connection. Loopback only, bounded in number and time.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec

from holdfast.apps.settings import is_loopback
from holdfast.core.errors import Unavailable

SECONDS_MAX: Final = 300.0
REQUESTS_MAX: Final = 3_000_000
"""In one run, sent or not."""
CONNECTIONS_MAX: Final = 20_000
BEGUN: Final = b"begun\n"
"""What the process tells first."""
SLICE_S: Final = 0.1
"""What one number in a series stands for."""
END_S: Final = 15.0
"""For the process to tell what it measured, after its time and its patience are over."""


class Kind(msgspec.Struct, frozen=True):
    """One kind of request. `weight` is its share among all kinds of a load.

    An answer is good with a status in `good`, a refusal with 503 or 429. What was not answered well
    is asked again at once, up to `retries` times, as thoughtless clients do.
    """

    name: str
    method: str = "GET"
    path: str = "/"
    headers: dict[str, str] = {}
    body: bytes = b""
    weight: float = 1.0
    retries: int = 0
    good: tuple[int, ...] = (200, 202, 304)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that the process is told."""

    host: str
    port: int
    kinds: tuple[Kind, ...]
    rate_per_s: float
    burst: int
    connections: int
    seconds: float
    deadline_s: float
    patience_s: float
    settle_s: float
    seed: int
    parent: int
    core: int | None = None


class Tally(msgspec.Struct, kw_only=True):
    """What became of the requests of one kind.

    `offered` = `ok` + `refused` + `failed` + `resets` + `unanswered` + `unsent`. `resets`: the
    connection ended before the answer. `unanswered`: given up on the wire. `unsent`: given up while
    it waited for a connection. Series count per `SLICE_S` from the beginning: `offered_by` and
    `ok_by` by when requests were due, `useful_by` (good answers within the deadline) and
    `refused_by` by when answers came.
    """

    offered: int = 0
    ok: int = 0
    useful: int = 0
    refused: int = 0
    refused_without_hint: int = 0
    failed: int = 0
    resets: int = 0
    unanswered: int = 0
    unsent: int = 0
    retried: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    refused_p99_ms: float = 0.0
    retry_after_s: tuple[int, int] = (0, 0)
    offered_by: list[int] = []
    ok_by: list[int] = []
    useful_by: list[int] = []
    refused_by: list[int] = []

    @property
    def ok_share(self) -> float:
        """Good answers to requests offered; 0 for none offered, which shows nothing."""
        return self.ok / self.offered if self.offered else 0.0

    @property
    def without_answer(self) -> int:
        """Requests that were sent and not answered at all."""
        return self.resets + self.unanswered


class Loaded(msgspec.Struct, kw_only=True):
    """What one load came to.

    `began_s` is unix time. `cpu_share` is the generator's own CPU time to its wall time: near 1 it
    was the bottleneck itself. `lag_p99_ms`: how late requests were sent for which a connection was
    free. `statuses` counts answers.
    """

    began_s: float
    took_s: float
    cpu_share: float
    lag_p99_ms: float
    connects: int
    connects_failed: int
    statuses: dict[int, int]
    kinds: dict[str, Tally]

    @property
    def offered(self) -> int:
        return sum(tally.offered for tally in self.kinds.values())

    @property
    def useful_per_s(self) -> float:
        """Goodput: good answers within their deadline per second, of all kinds."""
        return sum(tally.useful for tally in self.kinds.values()) / self.took_s

    @property
    def without_answer(self) -> int:
        return sum(tally.without_answer for tally in self.kinds.values())

    def ok_share(self, from_s: float = 0.0, to_s: float = SECONDS_MAX) -> float:
        """Good answers to requests that were due in that part of its time; 0 for none."""
        part = slice(round(from_s / SLICE_S), round(to_s / SLICE_S))
        offered = sum(sum(tally.offered_by[part]) for tally in self.kinds.values())
        ok = sum(sum(tally.ok_by[part]) for tally in self.kinds.values())
        return ok / offered if offered else 0.0

    def useful(self, from_s: float = 0.0, to_s: float = SECONDS_MAX) -> int:
        """Good answers within their deadline that came in that part of its time."""
        part = slice(max(0, round(from_s / SLICE_S)), max(0, round(to_s / SLICE_S)))
        return sum(self.useful_by()[part])

    def useful_by(self) -> list[int]:
        """Goodput per `SLICE_S`, of all kinds."""
        return [sum(each) for each in zip(*(t.useful_by for t in self.kinds.values()), strict=True)]


class Load:
    """A load on one server: `run`, or `start` and `wait`, or `with Load(…) as load` and `stop`.

    Requests are due at random, `burst` of them at the same moment.
    `deadline_s`: a good answer is useful until then. `settle_s`: quantiles are of good answers to
    requests that were due later, so that they tell how it is, and not how it began. `core`: the CPU
    that the generator keeps to.
    Raises `Unavailable` for what is not on loopback or beyond the bounds of this module.
    """

    def __init__(  # noqa: PLR0913  what a load is
        self,
        url: str,
        mix: Sequence[Kind],
        rate_per_s: float,
        connections: int,
        seconds: float,
        *,
        deadline_s: float = 0.1,
        patience_s: float = 1.0,
        settle_s: float = 0.0,
        burst: int = 1,
        seed: int = 1,
        core: int | None = None,
    ) -> None:
        parts = urlsplit(url)
        self.plan = Plan(
            host=parts.hostname or "",
            port=parts.port or 80,
            kinds=tuple(mix),
            rate_per_s=rate_per_s,
            burst=burst,
            connections=connections,
            seconds=seconds,
            deadline_s=deadline_s,
            patience_s=patience_s,
            settle_s=settle_s,
            seed=seed,
            parent=os.getpid(),
            core=core,
        )
        _check(self.plan)
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def start(self) -> Self:
        """Begin; returns at once."""
        command = (sys.executable, "-m", "holdfast.gameday.load_process")
        self._process = subprocess.Popen(  # noqa: S603  our own command
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdin  # noqa: S101  for the checker of types
        self._process.stdin.write(msgspec.json.encode(self.plan))
        self._process.stdin.close()
        self._process.stdin = None
        return self

    def await_beginning(self) -> Self:
        """Until its clock runs. Raises `Unavailable` when the generator did not get that far."""
        if not self._begun and self._process is not None and self._process.stdout is not None:
            self._begun = self._process.stdout.readline() == BEGUN
        if not self._begun:
            raise Unavailable("this load was not started, or its generator has ended")
        return self

    def stop_after(self, seconds: float) -> Loaded:
        """Let it go on for so long, then stop it."""
        self.await_beginning()
        time.sleep(seconds)
        return self.stop()

    def stop(self) -> Loaded:
        """End it before its time, and tell what it came to so far.

        What waits for a connection by then is not sent any more.
        """
        self.await_beginning()
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> Loaded:
        """Until its time is over. Raises `Unavailable` when the generator did not get that far."""
        if self._process is None:
            raise Unavailable("this load was not started")
        within_s = self.plan.seconds + self.plan.patience_s + END_S
        try:
            told, _ = self._process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise Unavailable(f"a load of {self.plan.seconds:g} s did not end") from None
        if self._process.returncode:
            raise Unavailable(f"the load generator ended with {self._process.returncode}")
        return msgspec.json.decode(told.rpartition(BEGUN)[2], type=Loaded)

    def run(self) -> Loaded:
        """Start it, and wait for its end."""
        with self:
            return self.wait()


def _check(plan: Plan) -> None:
    requests = plan.rate_per_s * plan.seconds
    for holds, why in (
        (is_loopback(plan.host), f"{plan.host!r} is not on loopback"),
        (bool(plan.kinds), "a load has at least one kind of request"),
        (0 < plan.seconds <= SECONDS_MAX, f"a load takes up to {SECONDS_MAX:.0f} s"),
        (0 < requests <= REQUESTS_MAX, f"a load has up to {REQUESTS_MAX} requests"),
        (
            1 <= plan.connections <= CONNECTIONS_MAX,
            f"a load has 1 to {CONNECTIONS_MAX} connections",
        ),
        (1 <= plan.burst <= plan.connections, "a burst has 1 request or more, each a connection"),
        (math.isfinite(plan.patience_s) and plan.patience_s > 0, "patience is some seconds"),
    ):
        if not holds:
            raise Unavailable(f"no load: {why}")
