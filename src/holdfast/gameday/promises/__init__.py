"""The table "Faults and promises": a row each, by name; a module with a `DRILL`, imported late."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from holdfast.core.errors import Invalid, Problem
from holdfast.gameday.drill import Drill

MODULES: Final = {
    "control-plane-dead": "control_plane_dead",
    "node-lost": "node_lost",
    "cold-start": "cold_start",
    "power-loss": "power_loss",
    "store-stopped": "store_stopped",
    "store-leader-killed": "store_leader_killed",
    "stale-leader": "stale_leader",
    "store-lost": "store_lost",
    "disk-full": "disk_full",
    "torn-cache": "torn_cache",
    "clock-skew": "clock_skew",
    "hostile-edge": "hostile_edge",
    "slow-loris": "slow_loris",
    "overload": "overload",
    "partition": "partition",
    "fuzzed-input": "fuzzed_input",
    "bad-value": "holdfast.gameday.scenarios.bad_value",
    "authentication": "authentication",
}
"""Name -> module: below this package, or anywhere by its whole name."""


def promise(name: str) -> Drill:
    """Raises `Invalid` for a name that none has."""
    if name not in MODULES:
        known = ", ".join(MODULES)
        problem = Problem(
            code="no-such-drill", message=f"there is no drill {name!r}", hint=f"one of: {known}"
        )
        raise Invalid([problem])
    module = MODULES[name]
    found = import_module(module if "." in module else f"{__name__}.{module}").DRILL
    assert isinstance(found, Drill)  # noqa: S101  our own table
    return found
