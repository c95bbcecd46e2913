"""How often to ask: steady polls with jitter, full-jitter backoff, a budget, and the contract.

What is signed is the contract, `snapshot.Pacing`. What an edge says (`Retry-After`,
`Holdfast-Pace: poll=SECONDS`) is a hint that nobody signed: it slows a consumer down, never below
the contract's rate and never for longer than the contract allows (`obeyed_*`).

Chance is an argument everywhere: a number drawn evenly from [0, 1). Sources: full jitter is
"Exponential Backoff And Jitter" (AWS Architecture Blog, 2015); the retry budget is Finagle's.
"""

from __future__ import annotations

import math
import re
from typing import Final

import msgspec

from holdfast.core.snapshot import Pacing

JITTER_SHARE = 0.1
"""A steady poll comes up to this share of its interval early or late."""
BACKOFF_DOUBLINGS_MAX = 16
RETRIES_PER_POLL = 0.2
"""Finagle: retries may add a fifth to what is asked anyway."""
RETRIES_SAVED_MAX = 5.0
RETRIES_PER_S = 0.1
"""The floor, for who has nothing to answer from: one retry in ten seconds."""
POLL_INTERVAL_MIN_S = 0.05
POLL_INTERVAL_MAX_S = 3600.0
UNSIGNED: Final = Pacing(poll_interval_max_s=30, retry_after_max_s=10)
"""What holds before the first signed snapshot: an edge can keep nobody from a start for long."""
RETRY_SPREAD = 0.25
"""Who was told to come back later comes up to this share of the time later still."""
PACE_HEADER: Final = "Holdfast-Pace"
_PACE: Final = re.compile(r"\s*poll=([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*")
_SECONDS: Final = re.compile(r"\s*([0-9]{1,18})\s*")
_DATE_CHARS_MAX: Final = 64


def steady(interval_s: float, chance: float) -> float:
    """Seconds to the next poll: `interval_s`, give or take a tenth, `interval_s` on average."""
    return interval_s * (1 + JITTER_SHARE * (2 * chance - 1))


def full_jitter(failures: int, base_s: float, cap_s: float, chance: float) -> float:
    """Seconds to wait after failure `n` in a row: even in [0, min(cap, base * 2^(n-1))).

    Full jitter, because what is spread least comes back as a herd.
    """
    doublings = min(max(failures - 1, 0), BACKOFF_DOUBLINGS_MAX)
    return chance * min(cap_s, base_s * 2.0**doublings)


def spread(bound_s: float, chance: float) -> float:
    """Seconds to wait before acting on what everybody hears at once: even in [0, bound_s)."""
    return chance * bound_s


class RetryBudget(msgspec.Struct, frozen=True):
    """What may be asked on top of the steady polls. Starts full, so that a start may retry.

    `since_s` is up to when the floor was paid in, on any clock that never goes back.
    """

    saved: float = RETRIES_SAVED_MAX
    since_s: float = 0.0

    def earn(self) -> RetryBudget:
        """A steady poll was made."""
        return RetryBudget(min(RETRIES_SAVED_MAX, self.saved + RETRIES_PER_POLL), self.since_s)

    def wait(self, now_s: float) -> RetryBudget:
        """Time passed for somebody who has nothing to answer from."""
        passed_s = max(0.0, now_s - self.since_s)
        return RetryBudget(min(RETRIES_SAVED_MAX, self.saved + passed_s * RETRIES_PER_S), now_s)

    def spend(self) -> RetryBudget | None:
        """One retry taken, or none when the budget has no whole one left."""
        return self.lend() if self.saved >= 1 else None

    def lend(self) -> RetryBudget:
        """One retry taken that the floor will have paid for after `owed_s`."""
        return RetryBudget(max(0.0, self.saved) - 1, self.since_s)

    def owed_s(self) -> float:
        """Seconds until the floor alone has made up for what is missing."""
        return max(0.0, -self.saved) / RETRIES_PER_S


# What a consumer obeys


def obeyed_interval_s(pacing: Pacing, own_s: float | None, hint_s: float) -> float:
    """Seconds between two polls: the host's own number or the contract's, slowed by a hint.

    `hint_s` is 0 for none. It counts up to `poll_interval_max_s`, and only where it is slower.
    """
    asked_s = own_s or min(max(pacing.poll_interval_s, POLL_INTERVAL_MIN_S), POLL_INTERVAL_MAX_S)
    return max(asked_s, min(hint_s, pacing.poll_interval_max_s, POLL_INTERVAL_MAX_S))


def obeyed_wait_s(pacing: Pacing, asked_s: float, chance: float) -> float:
    """Seconds to keep away from who answered `Retry-After: asked_s`; 0 for who asked for nothing.

    Spread upwards, and never above `retry_after_max_s`: so what is capped is spread below it.
    """
    most_s = min(pacing.retry_after_max_s, POLL_INTERVAL_MAX_S) / (1 + RETRY_SPREAD)
    return max(0.0, min(asked_s, most_s)) * (1 + RETRY_SPREAD * chance)


def retry_after_s(text: str, now_s: float) -> float:
    """What a `Retry-After` header asks for, in seconds or as an HTTP date; 0 for none or rubbish.

    `now_s` is unix time. A date that has passed asks for nothing.
    """
    if found := _SECONDS.fullmatch(text):
        return float(found[1])
    if not text or len(text) > _DATE_CHARS_MAX:
        return 0.0
    from email.utils import parsedate_to_datetime  # late: few answers hold a date

    try:
        then_s = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError):
        return 0.0
    return max(0.0, then_s - now_s) if math.isfinite(then_s) else 0.0


def pace_s(text: str) -> float:
    """What a `Holdfast-Pace` header asks for; 0 for none, or for what nobody can read."""
    found = _PACE.fullmatch(text)
    return float(found[1]) if found else 0.0


# What an edge advises


def advised_pace(pacing: Pacing, times: float) -> str:
    """The `Holdfast-Pace` that slows polls down `times`-fold, as far as the contract lets it."""
    poll_s = min(pacing.poll_interval_s * max(1.0, times), pacing.poll_interval_max_s)
    return f"poll={poll_s:.0f}"


def advised_retry_s(pacing: Pacing, wait_s: float) -> int:
    """Whole seconds for `Retry-After`: at least 1, at most what consumers will obey."""
    return max(1, min(math.ceil(wait_s), pacing.retry_after_max_s))
