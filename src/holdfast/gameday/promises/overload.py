"""Row "10x overload, herd, retry storm": what can be done is done, what matters first."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import msgspec

from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fleet import Fleet
from holdfast.gameday.load import Kind, Load, Loaded
from holdfast.gameday.pressure import Callers, capacity, metric

GOODPUT: Final = 0.9
"""Of the peak, in each kind of overload."""
IMPORTANT: Final = 0.994
HEAL_S: Final = 10.0
HEALED: Final = 0.97
"""Of half of what the edge can do, answered within the deadline."""
CONNECTIONS: Final = 1_000
DEADLINE_S: Final = 0.5
"""An answer is useful until then."""
PATIENCE_S: Final = 5.0


class Fault(msgspec.Struct, frozen=True):
    """More than can be done: so many times, in bursts, by clients that ask again at once."""

    when: str
    text: str
    times: float
    burst: int = 1
    retries: int = 0


FAULTS: Final = (
    Fault("at 10x", "ten times that", 10),
    Fault(
        "in the herd",
        "as much in herds: 100 requests at the same moment, again and again",
        10,
        burst=100,
    ),
    Fault(
        "in the storm of retries",
        "a storm: what is refused is asked three times more, at once",
        3,
        retries=3,
    ),
)


def run(day: Day) -> None:
    with Fleet(day) as fleet:
        fleet.begin(("edge-a",))
        callers = Callers(fleet)
        callers.expect("renewing", "asking", "gathering", "exporting")
        url = fleet.edge_urls["edge-a"]
        costs_s = {kind.name: 1 / capacity(url, kind) for kind in mix(callers, url)}
        per_s = 1 / sum(costs_s[kind.name] * kind.weight for kind in mix(callers, url))
        long_s = 2.0 if day.sample else 6.0
        calm = [
            _work(_under(callers, url, Fault("", "", times), per_s, long_s / 2), costs_s)
            for times in (0.6, 0.8, 1.0, 1.2)
        ]
        peak = max(calm)
        day.note("step", f"of a mixed load an edge answers {per_s:.0f} requests/s")
        for fault in FAULTS:
            day.note("fault", fault.text)
            found = _under(callers, url, fault, per_s, long_s)
            _tell(day, fault.when, found, _work(found, costs_s) / max(1e-9, peak))
        _heal(day, callers, url, per_s)
        engaged = metric(url, 'holdfast_admission_changes_total{state="engaged"}') or 0
        day.note("blocked", f"admission engaged {engaged:.0f} times")
        day.root_cause = "more is asked than can be answered"
        day.stopped_by = "admission: the least important work of the heaviest callers goes first"


def _work(found: Loaded, costs_s: Mapping[str, float]) -> float:
    """Goodput in seconds of work a second: many cheap answers don't make up for few dear ones."""
    useful_s = sum(tally.useful * costs_s[name] for name, tally in found.kinds.items())
    return useful_s / found.took_s


def _under(callers: Callers, url: str, fault: Fault, per_s: float, seconds: float) -> Loaded:
    return Load(
        url,
        mix(callers, url, fault.retries),
        fault.times * per_s,
        CONNECTIONS,
        seconds,
        burst=fault.burst,
        deadline_s=DEADLINE_S,
        patience_s=PATIENCE_S,
    ).run()


def mix(callers: Callers, url: str, retries: int = 0) -> list[Kind]:
    """Most of the work is bulk; most of the requests matter more."""
    return [
        callers.renewal("renewing", url, weight=0.2, retries=retries),
        callers.single("asking", weight=0.3, retries=retries),
        callers.bulk("gathering", url, weight=0.4, retries=retries),
        callers.export("exporting", weight=0.1, retries=retries),
    ]


def _tell(day: Day, when: str, found: Loaded, to_peak: float) -> None:
    ratio = round(to_peak, 2)
    day.measure(
        f"goodput {when}, to the peak", ratio, f">= {GOODPUT}", holds=ratio >= GOODPUT, timed=True
    )
    share = round(found.kinds["renewing"].ok_share, 4)
    day.measure(
        f"important work answered {when}",
        share,
        f">= {IMPORTANT}",
        holds=share >= IMPORTANT,
        timed=True,
    )
    lost = found.without_answer
    day.measure(f"requests without an answer {when}", lost, "0", holds=lost == 0)


def _heal(day: Day, callers: Callers, url: str, per_s: float) -> None:
    """Half of what it can do: when is all of that answered in time?"""
    began_s = time.monotonic()
    took_s = -1.0
    while time.monotonic() - began_s < HEAL_S and took_s < 0:
        at_s = time.monotonic() - began_s
        found = _under(callers, url, Fault("", "", 0.5), per_s, 1.0)
        useful = sum(tally.useful for tally in found.kinds.values())
        if found.offered and useful >= HEALED * found.offered:
            took_s = round(at_s, 1)
    day.measure(
        "seconds until all is well again",
        took_s if took_s >= 0 else f"more than {HEAL_S:.0f}",
        f"<= {HEAL_S:.0f}",
        holds=took_s >= 0,
        timed=True,
    )
    day.note("recovered" if took_s >= 0 else "damage", "half of what it can do is answered in time")


DRILL = Drill(
    name="overload",
    title="10x overload, a herd, a storm of retries",
    outage="demand beyond what can be answered turns into no answers at all, and stays that way.",
    promise=(
        "goodput of at least 90 % of the peak, at least 99.4 % of important work answered; all is "
        "well within 10 s of its end."
    ),
    rehearsal=(
        "open-loop load from other processes: ten times what an edge can do; hundreds of requests "
        "at the same moment; clients that ask again at once what was refused."
    ),
    run=run,
)
