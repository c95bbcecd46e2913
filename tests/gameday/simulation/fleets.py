"""Small fleets for tests of the simulation."""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.gameday.simulation.parameters import Pace, Parameters, Region
from holdfast.gameday.simulation.results import Result
from holdfast.gameday.simulation.running import play

ONE = (Region(name="eu", share=1.0, edges=2),)
TWO = (
    Region(name="eu", share=0.6, edges=2, relays=1, control_ms=5),
    Region(name="us", share=0.4, edges=2, control_ms=40),
)


def fleet(**told: Any) -> Parameters:
    """A small one, which settles and then runs for a minute."""
    standard = {
        "clients": 200,
        "regions": ONE,
        "run_s": 60.0,
        "settle_s": 30.0,
        "start_within_s": 10.0,
        "settings": 3,
        "pace": Pace(poll_interval_s=10, poll_interval_max_s=60),
    }
    return Parameters(**(standard | told))


def played(asked: Parameters, seed: int = 1, weight: int = 1) -> Result:
    return play(asked, "test", seed, weight, lambda _: None)


def encoded(result: Result) -> bytes:
    return msgspec.json.encode(result)
