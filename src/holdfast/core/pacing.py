"""How often to ask: steady polls with jitter, full-jitter backoff, and a budget for retries.

Chance is an argument everywhere: a number drawn evenly from [0, 1). Sources: full jitter is
"Exponential Backoff And Jitter" (AWS Architecture Blog, 2015); the retry budget is Finagle's.
"""

from __future__ import annotations

import msgspec

JITTER_SHARE = 0.1
"""A steady poll comes up to this share of its interval early or late."""
BACKOFF_DOUBLINGS_MAX = 16
RETRIES_PER_POLL = 0.2
"""Finagle: retries may add a fifth to what is asked anyway."""
RETRIES_SAVED_MAX = 5.0


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
    """What may be asked on top of the steady polls. Starts full, so that a start may retry."""

    saved: float = RETRIES_SAVED_MAX

    def earn(self) -> RetryBudget:
        """A steady poll was made."""
        return RetryBudget(min(RETRIES_SAVED_MAX, self.saved + RETRIES_PER_POLL))

    def spend(self) -> RetryBudget | None:
        """One retry taken, or none when the budget has no whole one left."""
        return RetryBudget(self.saved - 1) if self.saved >= 1 else None
