"""What can't be meant in a policy: all problems of one, as the write door finds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from holdfast.core import limits
from holdfast.core.errors import Problem
from holdfast.core.policies import Freeze, Pace, Policy

APPROVALS_MAX: Final = 10
FREEZES_MAX: Final = 64
FREEZE_END_MAX_S: Final = 253_402_300_799
"""The end of the year 9999: later times have no date."""
BREAK_GLASS_MAX_S: Final = 3_600
POLL_INTERVAL_MAX_S: Final = 3_600
RETRY_AFTER_MAX_S: Final = 3_600
STALE_AFTER_MAX_S: Final = 7 * 86_400
_FREEZE_HINT: Final = "give begin_s and end_s in unix seconds, the end after the beginning"


def check_policy(policy: Policy) -> Iterator[Problem]:
    """Problems with paths into the policy; plans of rollouts are checked by `core.rollout`."""
    yield from _between("approvals", policy.approvals, 0, APPROVALS_MAX)
    yield from _between("settings_max", policy.settings_max, 0, limits.SAFE_INTEGER_MAX)
    yield from _between("traffic_percent_max", policy.traffic_percent_max, 0, 100)
    yield from _between("deletion_percent", policy.deletion_percent, 0, 100)
    yield from _between("break_glass_s", policy.break_glass_s, 0, BREAK_GLASS_MAX_S)
    shape = policy.shape
    yield from _between("shape/lost_percent", shape.lost_percent, 0, 100)
    yield from _between("shape/retyped_percent", shape.retyped_percent, 0, 100)
    yield from _between("shape/growth_percent", shape.growth_percent, 100, 1_000_000)
    yield from _between("shape/settings_min", shape.settings_min, 0, limits.SETTINGS_MAX)
    yield from _between("freezes", len(policy.freezes), 0, FREEZES_MAX, " windows")
    for number, freeze in enumerate(policy.freezes):
        yield from _check_freeze(freeze, f"/freezes/{number}")


def check_pace(pace: Pace) -> Iterator[Problem]:
    """Problems with paths into the pacing contract."""
    slowest_s = POLL_INTERVAL_MAX_S
    yield from _between("poll_interval_s", pace.poll_interval_s, 1, slowest_s, " s")
    least_s = max(1, min(pace.poll_interval_s, slowest_s))
    yield from _between("poll_interval_max_s", pace.poll_interval_max_s, least_s, slowest_s, " s")
    yield from _between("retry_after_max_s", pace.retry_after_max_s, 1, RETRY_AFTER_MAX_S, " s")
    yield from _between("stale_after_s", pace.stale_after_s, least_s, STALE_AFTER_MAX_S, " s")


def _check_freeze(freeze: Freeze, path: str) -> Iterator[Problem]:
    if not 0 <= freeze.begin_s < freeze.end_s <= FREEZE_END_MAX_S:
        message = f"no window goes from {freeze.begin_s} to {freeze.end_s}"
        yield Problem(code="policy-freeze", message=message, path=path, hint=_FREEZE_HINT)
    if len(freeze.reason) > limits.TEXT_CHARS_MAX:
        message = f"more than {limits.TEXT_CHARS_MAX} characters"
        yield Problem(code="too-long", message=message, path=f"{path}/reason")


def _between(
    field: str, value: float, least: float, most: float, unit: str = ""
) -> Iterator[Problem]:
    if not least <= value <= most:  # NaN is in no range either
        yield Problem(
            code="policy-range",
            message=f"{value:g}{unit} is out of range",
            path=f"/{field}",
            hint=f"give a number from {least:g} to {most:g}",
        )
