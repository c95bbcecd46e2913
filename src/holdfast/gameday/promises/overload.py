"""Row "10x overload, herd, retry storm": what can be done is done, what matters first."""

from __future__ import annotations

import time
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
"""Of a third of what the edge was seen to do, answered within the deadline."""
BULK_WEIGHT: Final = 0.4
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
    Fault("in the herd", "a herd: 300 requests at the same moment, again and again", 5, burst=300),
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
        per_s = capacity(url, callers.bulk("gathering", url)) / BULK_WEIGHT
        long_s = 2.0 if day.sample else 6.0
        calm = [
            _under(callers, url, Fault("", "", times), per_s, long_s / 2)
            for times in (0.3, 0.6, 0.8)
        ]
        peak = max(found.useful_per_s for found in calm)
        day.note("step", f"a mixed load has its peak at {peak:.0f} useful answers/s")
        for fault in FAULTS:
            day.note("fault", fault.text)
            _tell(day, fault.when, _under(callers, url, fault, per_s, long_s), peak)
        _heal(day, callers, url, min(per_s, peak))
        engaged = metric(url, 'holdfast_admission_changes_total{state="engaged"}')
        day.note("blocked", f"admission engaged {engaged:.0f} times")
        day.root_cause = "more is asked than can be answered"
        day.stopped_by = "admission: the least important work of the heaviest callers goes first"


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
        callers.bulk("gathering", url, weight=BULK_WEIGHT, retries=retries),
        callers.export("exporting", weight=0.1, retries=retries),
    ]


def _tell(day: Day, when: str, found: Loaded, peak: float) -> None:
    ratio = round(found.useful_per_s / max(1.0, peak), 2)
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
    """A third of what it was seen to do: when is all of that answered in time?"""
    began_s = time.monotonic()
    took_s = -1.0
    while time.monotonic() - began_s < HEAL_S and took_s < 0:
        at_s = time.monotonic() - began_s
        found = _under(callers, url, Fault("", "", 1 / 3), per_s, 1.0)
        useful = sum(tally.useful for tally in found.kinds.values())
        if useful >= HEALED * found.offered:
            took_s = round(at_s, 1)
    day.measure(
        "seconds until all is well again",
        took_s if took_s >= 0 else f"more than {HEAL_S:.0f}",
        f"<= {HEAL_S:.0f}",
        holds=took_s >= 0,
        timed=True,
    )
    day.note("recovered" if took_s >= 0 else "damage", "a third of what it did is answered in time")


DRILL = Drill(
    name="overload",
    title="10x overload, a herd, a storm of retries",
    outage="demand beyond what can be answered turns into no answers at all, and stays that way.",
    rehearsal=(
        "open-loop load from other processes: ten times what an edge can do; hundreds of requests "
        "at the same moment; clients that ask again at once what was refused."
    ),
    run=run,
)
