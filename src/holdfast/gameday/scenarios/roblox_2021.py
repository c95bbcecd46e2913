"""`roblox-2021`: streams under a burst of writes, and then without streams."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from holdfast.core.errors import Unavailable
from holdfast.gameday.drill import Chart, Day, Drill
from holdfast.gameday.fleet import ENVIRONMENT, Fleet
from holdfast.gameday.pressure import metric
from holdfast.gameday.swarm import SLICE_S, Slice, Swarm, Swarming
from holdfast.gameday.vitals import Vitals

POLLED_S_MAX: Final = 30.0
"""From a change to the last client, without streams."""
LOAD_MAX: Final = 2.0
"""Requests while streams are off, against those of steady polls: a client asks for a stream again
when it was told to, and no sooner."""
ENDED_S: Final = 20.0
"""For all open streams to end: they are spread over ten seconds."""
SETTLE_S: Final = 60.0


class Form(msgspec.Struct, frozen=True):
    """How large the drill is. `writes_s`: how long the burst of writes lasts."""

    clients: int = 2_000
    poll_interval_s: int = 12
    writes_s: float = 5.0
    without_s: float = 24.0


SHORT: Final = Form(clients=150, poll_interval_s=2, writes_s=1.0, without_s=2.0)


def run(day: Day) -> None:
    form = SHORT if day.sample else Form()
    with Fleet(day) as fleet:
        fleet.begin()
        _agree(fleet, form)
        edge, control = fleet.edge_urls["edge-a"], fleet.control_url
        told = Swarming(
            endpoints=(edge,),
            clients=form.clients,
            start_within_s=form.poll_interval_s,
            protected=day.protected,
            seed=day.seed,
        )
        urls = {
            f"{name} {path}": url + path
            for name, url in (("edge", edge), ("control plane", control))
            for path in ("/readyz", "/metrics")
        }
        with Swarm(fleet.directory, told) as swarm, Vitals(urls) as vitals:
            swarm.wait_all(SETTLE_S)
            day.note("step", f"{form.clients} clients listen at one edge")
            _writes(day, fleet, swarm, form)
            _switched_off(day, fleet, swarm, form)
            _measure_vitals(day, vitals)
            _chart(day, swarm, form)
        day.ticks = swarm.ticks(day.began_s)
    missed = [figure.name for figure in day.figures if not figure.holds]
    day.affected = f"clients: {', '.join(missed)}" if missed else "nobody"
    day.root_cause = "streams under load, and everything that depends on them"
    day.stopped_by = (
        "streams are hints, written to transports in turns; a file switches them off, and clients "
        "poll at the rate that they would poll at anyway"
    )


def _agree(fleet: Fleet, form: Form) -> None:
    """Sign how often clients may ask; an edge may slow them down to half as often, no further."""
    interval_s = form.poll_interval_s
    pacing = {
        "poll_interval_s": interval_s,
        "poll_interval_max_s": 2 * interval_s,
        "retry_after_max_s": 2 * interval_s,
    }
    body = {"reason": "game day", "pacing": pacing}
    found = fleet.api("PUT", f"/v1/environments/{ENVIRONMENT}", body)
    if found.status >= 300:
        raise Unavailable(f"no pacing: {found.status} {found.body}")


def _writes(day: Day, fleet: Fleet, swarm: Swarm, form: Form) -> None:
    """Changes as fast as the write door takes them, while everybody listens."""
    day.note("fault", "a burst of writes")
    end_s, revision, writes = time.monotonic() + form.writes_s, 0, 0
    while time.monotonic() < end_s:
        revision = fleet.count_up()
        writes += 1
    took_s = swarm.wait(
        lambda now: now.at_least(revision) == form.clients, "the last of the burst", SETTLE_S
    )
    merged = metric(fleet.edge_urls["edge-a"], "holdfast_stream_events_merged_total") or 0
    day.note("recovered", f"{writes} changes, {merged:.0f} of them overtaken by newer ones")
    day.measure(
        "s from the last change of the burst to the last client, by hints",
        round(took_s, 2),
        f"at most {POLLED_S_MAX:.0f}",
        holds=took_s <= POLLED_S_MAX,
    )


def _switched_off(day: Day, fleet: Fleet, swarm: Swarm, form: Form) -> None:
    """The file appears; streams end; a change goes out all the same."""
    file = fleet.directory / "edge-a" / "streams-off"
    file.touch()
    day.note("fault", "the stream path is switched off, by a file")
    ended_s = swarm.wait(lambda now: now.streams == 0, "the end of all streams", ENDED_S)
    day.note("step", f"all streams have ended after {ended_s:.1f} s")
    began_s = time.time()
    revision = fleet.count_up()
    took_s = swarm.wait(
        lambda now: now.at_least(revision) == form.clients, "a change, by polls", SETTLE_S
    )
    day.note("recovered", f"every client has the change after {took_s:.1f} s, by polls")
    day.measure(
        "s from a change to the last client, without streams",
        round(took_s, 2),
        f"at most {POLLED_S_MAX:.0f}",
        holds=took_s <= POLLED_S_MAX,
    )
    swarm.wait(lambda now: now.at_s > began_s + form.without_s, "some time without", SETTLE_S)
    organic = form.clients / form.poll_interval_s
    load = swarm.offered(began_s, time.time()) / organic
    day.measure(
        "requests without streams, against steady polls alone",
        round(load, 2),
        f"at most {LOAD_MAX:.0f} times",
        holds=load <= LOAD_MAX,
    )
    open_ = metric(fleet.edge_urls["edge-a"], 'holdfast_streams{kind="changes"}')
    text = "not told" if open_ is None else int(open_)
    day.measure("streams open at the edge", text, "0", holds=open_ == 0)
    last = swarm.slices()[-1]
    day.measure(
        "clients whose last poll was answered",
        last.well,
        f"all {form.clients}",
        holds=last.well == form.clients,
    )


def _measure_vitals(day: Day, vitals: Vitals) -> None:
    failed = vitals.failed()
    text = ", ".join(f"{name}: {count}" for name, count in failed.items())
    day.measure(
        "questions for health and metrics without an answer",
        text or 0,
        f"0 of {vitals.asked()}",
        holds=not failed,
    )
    day.note("step", f"the slowest answer to an operator took {vitals.slowest_s():.2f} s")


def _chart(day: Day, swarm: Swarm, form: Form) -> None:
    def line(count: str) -> tuple[tuple[float, float], ...]:
        return tuple(
            (round(each.at_s - day.began_s, 2), _per_s(each, count)) for each in swarm.slices()
        )

    day.charts.append(
        Chart(
            name="load",
            title=f"{form.clients} clients: what they ask for, and what they listen to",
            x="seconds since the drill began",
            y="requests/s; streams open",
            lines={"polls/s": line("polls"), "opens/s": line("opens"), "streams": line("streams")},
            bar=form.clients / form.poll_interval_s,
        )
    )


def _per_s(each: Slice, count: str) -> float:
    value = getattr(each, count)
    return float(value) if isinstance(value, int) else sum(value) / SLICE_S


DRILL = Drill(
    name="roblox-2021",
    title="Roblox, October 2021: the streaming feature under load",
    outage=(
        "for 73 hours a store collapsed under the load of its own streaming feature; what would "
        "have shown why depended on that store."
    ),
    rehearsal=(
        "2,000 clients listen at one edge while changes come as fast as the write door takes them; "
        "then the stream path is switched off by a file, and a change has to reach everybody by "
        "polls alone. Health and metrics of both processes are asked four times a second."
    ),
    run=run,
)
