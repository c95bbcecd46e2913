"""A server that answers one after the other, in batches, with admission or without: no clock.

Time is simulated, so that minutes of overload take moments and come out the same each time.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

from holdfast.core.admission import Admission, Rank

REFUSAL_S = 12e-6
DEADLINE_S = 0.1


@dataclass(frozen=True)
class Stream:
    """Requests of one kind from one caller: Poisson arrivals from `from_s` to `to_s`."""

    name: str
    rank: Rank
    per_s: float
    cost_s: float
    token: str = "token"
    service: str = "service"
    from_s: float = 0.0
    to_s: float = float("inf")


@dataclass
class Outcome:
    """What became of the requests of one stream, by when they came: (came_s, latency_s)."""

    offered: int = 0
    answers: list[tuple[float, float]] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)

    def useful(self, from_s: float = 0.0, to_s: float = float("inf")) -> int:
        return sum(from_s <= at <= to_s and took <= DEADLINE_S for at, took in self.answers)

    def p99_s(self, from_s: float = 0.0, to_s: float = float("inf")) -> float:
        took = sorted(took for at, took in self.answers if from_s <= at <= to_s)
        return took[int(0.99 * len(took))] if took else 0.0


def arrivals(streams: list[Stream], seconds: float, seed: int) -> list[tuple[float, int, Stream]]:
    chance = random.Random(seed)
    found = []
    for number, stream in enumerate(streams):
        at = stream.from_s
        while (at := at + chance.expovariate(stream.per_s)) < min(seconds, stream.to_s):
            found.append((at, number, stream))
    return sorted(found)


def serve(
    streams: list[Stream],
    seconds: float,
    admission: Admission | None,
    seed: int = 1,
    stalls: tuple[tuple[float, float], ...] = (),
) -> dict[str, Outcome]:
    """Let time pass; answers leave at the end of their batch. `stalls`: (when, how long)."""
    waiting = arrivals(streams, seconds, seed)
    outcomes = {stream.name: Outcome() for stream in streams}
    pending = list(stalls)
    heapq.heapify(pending)
    now, at = 0.0, 0
    while at < len(waiting):
        start = now = max(now, waiting[at][0])
        batch = []
        while at < len(waiting) and waiting[at][0] <= start:
            batch.append(waiting[at])
            at += 1
        answered = []
        for came, _, stream in batch:
            if pending and pending[0][0] <= now:
                now += heapq.heappop(pending)[1]
            outcome = outcomes[stream.name]
            outcome.offered += 1
            waited = now - start
            why = None
            if admission is not None and waited >= admission.alert_s:
                why = admission.judge(now, waited, stream.rank, stream.token, stream.service)
            if why is None:
                now += stream.cost_s
                answered.append((came, outcome))
                if admission is not None:
                    admission.done(stream.cost_s)
            else:
                now += REFUSAL_S
                outcome.refusals.append(came)
        for came, outcome in answered:
            outcome.answers.append((came, now - came))
        if admission is None:
            continue
        if admission.calm and now - start < admission.wait_budget_s:
            admission.rest()
        else:
            admission.batch(now, now - start)
    return outcomes
