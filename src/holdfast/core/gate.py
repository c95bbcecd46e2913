"""Sequential tests that may be looked at at any time, on counts of what went wrong.

The gate asks one thing of every event (an error, a slow request): does it fall on the exposed side
more often than that side's share of the requests explains? With rho the exposed share of the
requests of a look and r a rate ratio, an event is the exposed side's with probability

    theta_r = rho r / (rho r + 1 - rho)        under "exposed requests fail r times as often"
    rho                                        under "both sides fail alike"

    E = mean over r of the product over events of theta_r / rho          for one of the exposed side
                                              or (1 - theta_r) / (1 - rho)     for one of the other

Each product is a non-negative martingale with mean 1 while both sides fail alike, whatever the rate
and however it moves, and so is their mean. By Ville's inequality E ever reaches 1 / alpha with a
probability of at most alpha: looking often costs nothing. Events of one unit are not independent,
so that whoever counts takes at most one of a unit and window.

Sources: Ville (1939); Wald (1945) for the ratio; Ramdas, Grunwald, Vovk, Shafer, "Game-theoretic
statistics and safe anytime-valid inference", Statistical Science 38(4), 2023.
"""

from __future__ import annotations

from math import exp, inf, lgamma, log
from typing import Final

import msgspec

RATIOS: Final = (1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""How many times as often exposed requests may fail; each is bet on alike."""
_ROUNDS: Final = 60  # halvings of an interval: below 1e-18


class EProcess(msgspec.Struct, frozen=True):
    """The test so far: the logarithm of each ratio's product, and the highest E of any look."""

    logs: tuple[float, ...] = (0.0,) * len(RATIOS)
    peak: float = 1.0

    @property
    def value(self) -> float:
        """E, inf when it passes what a float holds."""
        most = max(self.logs)
        if most > 700:
            return inf
        return sum(exp(one) for one in self.logs) / len(self.logs)


def observe(test: EProcess, exposed_events: int, other_events: int, rho: float) -> EProcess:
    """The test after one more look at which so many events had happened since the last one.

    `rho` is the exposed share of the look's requests. Without requests of both sides there is
    nothing to compare, and the look says nothing.
    """
    if not 0 < rho < 1 or exposed_events + other_events <= 0:
        return test
    logs = []
    for ratio, known in zip(RATIOS, test.logs, strict=True):
        odds = rho * ratio + 1 - rho
        logs.append(known + exposed_events * log(ratio / odds) - other_events * log(odds))
    after = EProcess(tuple(logs))
    return EProcess(after.logs, max(test.peak, after.value))


def interval(events: int, requests: int, alpha: float = 0.05) -> tuple[float, float]:
    """A rate's lower and upper bound that hold at every look at once with 1 - alpha.

    The rates that the beta-binomial mixture (Beta(1/2, 1/2)) does not reject at 1 / alpha: Robbins
    (1970); Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic
    confidence sequences", Annals of Statistics 49(2), 2021. Requests count as independent.
    """
    if requests <= 0:
        return 0.0, 1.0
    events = min(max(events, 0), requests)
    others = requests - events
    mixture = _log_beta(events + 0.5, others + 0.5) - _log_beta(0.5, 0.5)
    allowed = mixture - log(1 / alpha)
    rate = events / requests
    return (
        0.0 if events == 0 else _bound(events, others, allowed, 0.0, rate),
        1.0 if others == 0 else _bound(events, others, allowed, 1.0, rate),
    )


def _bound(events: int, others: int, allowed: float, outside: float, inside: float) -> float:
    """The rate between the two at which the likelihood is as small as is allowed."""
    for _ in range(_ROUNDS):
        middle = (outside + inside) / 2
        if events * log(middle) + others * log(1 - middle) >= allowed:
            inside = middle
        else:
            outside = middle
    return outside


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
