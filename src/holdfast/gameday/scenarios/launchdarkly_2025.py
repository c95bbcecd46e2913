"""`launchdarkly-2025`: an edge dies under its streams, is refused for a while, and comes back."""

from __future__ import annotations

import os
import time
from typing import Final
from urllib.parse import urlsplit

import msgspec

from holdfast.gameday.drill import Chart, Day, Drill
from holdfast.gameday.fleet import Fleet
from holdfast.gameday.processes import Build, ask, until
from holdfast.gameday.swarm import SLICE_S, Swarm, Swarming

LOAD_MAX: Final = 1.1
LOAD_SHORT_MAX: Final = 2.0
"""In the short form, among tests: who is held up for a second asks twice in the next one."""
BACK_S_MAX: Final = 60.0
SETTLE_S: Final = 60.0
GIVEN_UP_S: Final = 90.0
"""For all clients to be back, before the drill ends without them."""


class Form(msgspec.Struct, frozen=True):
    """How large the drill is: `away_s` is how long clients are refused."""

    clients: int = 2_000
    poll_interval_s: float = 10.0
    away_s: float = 60.0
    load_max: float = LOAD_MAX


SHORT: Final = Form(clients=300, poll_interval_s=2.0, away_s=3.0, load_max=LOAD_SHORT_MAX)


def run(day: Day) -> None:
    form = SHORT if day.sample else Form()
    with Fleet(day) as fleet:
        fleet.begin()
        edge = fleet.edge_urls["edge-a"]
        told = Swarming(
            endpoints=(edge,),
            clients=form.clients,
            poll_interval_s=form.poll_interval_s,
            start_within_s=form.poll_interval_s,
            protected=day.protected,
            seed=day.seed,
        )
        refusing = fleet.client_process(
            "refusing", "holdfast.gameday.refusing", str(urlsplit(edge).port), str(os.getpid())
        )
        arrive_s = time.time()
        with Swarm(fleet.directory, told) as swarm:
            swarm.wait_all(SETTLE_S)
            arrival = swarm.peak(arrive_s, time.time(), form.poll_interval_s)
            day.note(
                "step", f"{form.clients} clients listen, {arrival:.0f} requests/s to get there"
            )
            steady_s = time.time() + form.poll_interval_s / 2
            time.sleep(1.5 * form.poll_interval_s)
            organic = swarm.offered(steady_s, time.time())
            day.note("step", f"they poll: {organic:.0f} requests/s")
            fleet.edges["edge-a"].kill()
            away_s = time.time()
            day.note("fault", f"the edge is killed, and its {form.clients} streams with it")
            refusing.start(Build("a balancer"))
            time.sleep(form.away_s)
            _measure_away(day, swarm, form, organic, away_s)
            refusing.kill()
            healed_s = time.time()
            fleet.edges["edge-a"].start(fleet.good)
            day.note("step", "the edge is started again, from its disk")
            until(lambda: ask("GET", f"{edge}/readyz").status == 200, "the edge", SETTLE_S)
            _measure_return(day, swarm, form, arrival, healed_s)
            _chart(day, swarm, organic)
        day.ticks = swarm.ticks(day.began_s)
    missed = [figure.name for figure in day.figures if not figure.holds]
    day.affected = "whoever shares the servers with these clients" if missed else "nobody"
    day.root_cause = "thousands of clients that lost their stream at the same moment"
    day.stopped_by = (
        "steady polls whatever happens, no retry beyond a budget, full jitter, and a stream is "
        "opened again only where a poll was answered"
    )


def _measure_away(day: Day, swarm: Swarm, form: Form, organic: float, since_s: float) -> None:
    until_s = time.time()
    mean = swarm.offered(since_s, until_s) / organic
    peak = swarm.peak(since_s, until_s, form.poll_interval_s) / organic
    day.note("step", f"refused for {form.away_s:.0f} s: {mean:.2f} times the requests as before")
    day.measure(
        "requests while it is away, in any poll interval, against organic load",
        round(peak, 3),
        f"at most {form.load_max:g} times",
        holds=peak <= form.load_max,
    )


def _measure_return(day: Day, swarm: Swarm, form: Form, arrival: float, healed_s: float) -> None:
    began_s = time.time()
    back_s = until_back(swarm, form.clients)
    if back_s is None:
        last = swarm.slices()[-1]
        text = f"{last.well} polled, {last.streams} listen after {GIVEN_UP_S:.0f} s"
        day.note("damage", f"not all came back: {text}")
    else:
        text = str(round(began_s + back_s - healed_s, 1))
        day.note("recovered", f"all {form.clients} poll and listen again after {text} s")
    holds = back_s is not None and began_s + back_s - healed_s <= BACK_S_MAX
    day.measure(
        "s until all poll and listen again, by themselves",
        text,
        f"at most {BACK_S_MAX:.0f}",
        holds=holds,
    )
    peak = swarm.peak(healed_s, time.time(), form.poll_interval_s) / arrival
    day.measure(
        "requests while they come back, in any poll interval, against the same clients arriving "
        "one by one",
        round(peak, 3),
        f"at most {form.load_max:g} times",
        holds=peak <= form.load_max,
    )
    last = swarm.slices()[-1]
    day.measure("clients that went back a revision", last.went_back, "0", holds=not last.went_back)


def until_back(swarm: Swarm, clients: int) -> float | None:
    """Seconds until all poll and listen; none when they don't come."""
    end_s = time.monotonic() + GIVEN_UP_S
    began_s = time.time()
    while time.monotonic() < end_s:
        found = swarm.slices(began_s)
        for each in found:
            if each.well == clients == each.streams:
                return each.at_s + SLICE_S - began_s
        time.sleep(SLICE_S)
    return None


def _chart(day: Day, swarm: Swarm, organic: float) -> None:
    slices = swarm.slices()
    times = [round(each.at_s - day.began_s, 2) for each in slices]
    polls = [sum(each.polls) / SLICE_S for each in slices]
    opens = [sum(each.opens) / SLICE_S for each in slices]
    day.charts.append(
        Chart(
            name="load",
            title="What clients offer while their edge dies, is refused, and comes back",
            x="seconds since the drill began",
            y="requests/s; organic polls dashed",
            lines={
                "polls/s": tuple(zip(times, polls, strict=True)),
                "streams opened/s": tuple(zip(times, opens, strict=True)),
            },
            bar=round(organic, 1),
        )
    )


DRILL = Drill(
    name="launchdarkly-2025",
    title="LaunchDarkly, 20 October 2025: a storm of reconnects",
    outage=(
        "streaming clients that had lost their connections came back all at once, again and again, "
        "and kept the service down; so did retries at Harness, 7 July 2025."
    ),
    rehearsal=(
        "an edge that holds 2,000 streams is killed; for a minute a balancer in its place answers "
        "503 to everybody; then the edge is started again, and nobody helps."
    ),
    run=run,
)
