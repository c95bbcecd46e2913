"""What the gate of `core.gate` can see: simulated rollouts, looked at again and again.

    traffic = Traffic(rate=0.01, ratio=2.0, share=0.1, requests=2_000)
    power(traffic, draw, runs=500, looks=40, alpha=0.0005)     how many are halted, and when

`draw` gives numbers in [0, 1) that are uniform and independent; the same ones, the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import cos, log, pi, sqrt
from typing import TypeAlias

import msgspec

from holdfast.core.gate import EProcess, observe

Draw: TypeAlias = Callable[[], float]
Side: TypeAlias = tuple[int, int]
"""(requests, errors) since the last look."""


class Traffic(msgspec.Struct, frozen=True):
    """Of the `requests` between two looks about `share` are exposed.

    Those that are not fail at `rate`, those that are `ratio` times as often.
    """

    rate: float
    ratio: float
    share: float
    requests: int

    def look(self, draw: Draw) -> tuple[Side, Side]:
        """The exposed side and the other one."""
        exposed = about(draw, self.requests, self.share)
        other = self.requests - exposed
        return (
            (exposed, happened(draw, exposed, min(1.0, self.rate * self.ratio))),
            (other, happened(draw, other, self.rate)),
        )


def happened(draw: Draw, count: int, rate: float) -> int:
    """How many of `count` happen, binomial: the gaps between them are geometric."""
    if rate > 0.5:
        return count - happened(draw, count, 1 - rate)
    found, at, scale = 0, 0, log(1 - rate) if rate > 0 else 0.0
    while scale:
        at += int(log(1 - draw()) / scale) + 1
        if at > count:
            break
        found += 1
    return found


def about(draw: Draw, count: int, rate: float) -> int:
    """As `happened`, by the normal distribution (Box and Muller, 1958): quick for large counts."""
    normal = sqrt(-2 * log(1 - draw())) * cos(2 * pi * draw())
    return min(count, max(0, round(count * rate + normal * sqrt(count * rate * (1 - rate)))))


def halts(
    traffic: Traffic, draw: Draw, *, runs: int, looks: int, alpha: float
) -> Iterator[int | None]:
    """For each run the exposed requests until the gate halted it; none when it never did."""
    for _ in range(runs):
        test, seen = EProcess(), 0
        for _ in range(looks):
            exposed, other = traffic.look(draw)
            seen += exposed[0]
            test = observe(test, exposed[1], other[1], exposed[0] / traffic.requests)
            if test.peak >= 1 / alpha:
                yield seen
                break
        else:
            yield None


def power(
    traffic: Traffic, draw: Draw, *, runs: int, looks: int, alpha: float
) -> list[tuple[int, float]]:
    """(exposed requests, share of runs that were halted by then), for each look."""
    ends = [one for one in halts(traffic, draw, runs=runs, looks=looks, alpha=alpha) if one]
    per_look = traffic.requests * traffic.share
    points = [round((number + 1) * per_look) for number in range(looks)]
    return [(point, sum(one <= point + per_look / 2 for one in ends) / runs) for point in points]
