"""2,000 clients whose edge was away come back: how long it takes, and what they ask for meanwhile.

    python benchmarks/herd.py [--clients 2000] [--interval 10] [--away 20]

One edge, one process of clients, each driven by the SDK's own machine over two connections of its
own (`gameday.swarm`): a poll at its steady rate, and a stream. The edge is killed; a stand-in
answers 503 to everybody; then the edge is started again from its disk, and nobody helps. What is
offered is counted at the clients, polls and streams opened, whether anybody answered or not, and
held against their steady polls, and against the same clients arriving one by one. Then the same
with clients that know no jitter, no budget and no throttle. The last line of output is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from holdfast.core.errors import Unavailable
from holdfast.gameday.drill import Day
from holdfast.gameday.fleet import Fleet
from holdfast.gameday.processes import Build, ask, until
from holdfast.gameday.swarm import SLICE_S, Swarm, Swarming

SETTLE_S = 90.0
"""Who is not back by then never is."""
SERIES_S = 1.0
"""One point of the series."""


def measure(told: Swarming, away_s: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="holdfast-herd-") as place:
        day = Day(Path(place), seed=1, protected=True)
        with Fleet(day) as fleet:
            fleet.begin()
            edge = fleet.edge_urls["edge-a"]
            return _measure(day, fleet, edge, told, away_s)


def _measure(day: Day, fleet: Fleet, edge: str, told: Swarming, away_s: float) -> dict[str, Any]:
    assert told.poll_interval_s is not None
    interval_s = told.poll_interval_s
    port = str(urlsplit(edge).port)
    stand_in = fleet.client_process("503", "holdfast.gameday.refusing", port, str(os.getpid()))
    told = Swarming(
        endpoints=(edge,),
        clients=told.clients,
        poll_interval_s=interval_s,
        start_within_s=interval_s,
        protected=told.protected,
    )
    began_s = time.time()
    with Swarm(day.directory, told) as swarm:
        swarm.wait_all(SETTLE_S)
        arrival = swarm.peak(began_s, time.time(), interval_s)
        steady_s = time.time() + interval_s / 2
        time.sleep(1.5 * interval_s)
        organic = swarm.offered(steady_s, time.time())
        fleet.edges["edge-a"].kill()
        gone_s = time.time()
        stand_in.start(Build("a balancer"))
        time.sleep(away_s)
        away = [swarm.offered(gone_s, time.time()), swarm.peak(gone_s, time.time(), interval_s)]
        stand_in.kill()
        healed_s = time.time()
        fleet.edges["edge-a"].start(fleet.good)
        until(lambda: ask("GET", f"{edge}/readyz").status == 200, "the edge", SETTLE_S)
        ready_s = time.time()
        try:
            all_s = ready_s - healed_s + swarm.wait_all(SETTLE_S)
        except Unavailable:
            all_s = SETTLE_S
        return {
            "organic_per_s": round(organic, 1),
            "arrival_per_s": round(arrival, 1),
            "away_times": round(away[0] / organic, 3),
            "away_peak_times": round(away[1] / organic, 3),
            "edge_ready_s": round(ready_s - healed_s, 2),
            "half_back_s": _back_s(swarm, healed_s, told.clients / 2),
            "all_back_s": round(all_s, 2),
            "return_times": round(swarm.peak(healed_s, time.time(), interval_s) / arrival, 3),
            "series": _series(swarm, gone_s - interval_s),
            "gone_at_s": round(interval_s, 1),
            "healed_at_s": round(healed_s - gone_s + interval_s, 1),
        }


def _back_s(swarm: Swarm, since_s: float, clients: float) -> float:
    """Seconds until so many poll and listen."""
    for each in swarm.slices(since_s):
        if min(each.well, each.streams) >= clients:
            return round(each.at_s + SLICE_S - since_s, 2)
    return SETTLE_S


def _series(swarm: Swarm, since_s: float) -> list[tuple[float, float]]:
    """(seconds, requests per second), by `SERIES_S`."""
    sums: dict[int, int] = {}
    for each in swarm.slices(since_s):
        place = int((each.at_s - since_s) / SERIES_S)
        sums[place] = sums.get(place, 0) + each.offered
    return [(place * SERIES_S, count / SERIES_S) for place, count in sorted(sums.items())]


def section(report: dict[str, Any]) -> str:
    """Its part of docs/benchmarks.md, of what this module printed."""
    rows = []
    for name, label in (("gentle", "the SDK's machine"), ("naive", "without jitter and budgets")):
        one = report[name]
        rows.append(
            f"| {label} | {one['away_times']:.2f} | {one['away_peak_times']:.2f} "
            f"| {one['half_back_s']:.1f} | {one['all_back_s']:.1f} | {one['return_times']:.2f} |"
        )
    text = (
        f"{report['clients']:,} clients, each polling once in {report['interval_s']:g} s and "
        f"listening, lose their edge, are refused with 503 for {report['away_s']:g} s, and find it "
        "again. Requests offered while it is away, on average and in the worst poll interval, as a "
        "multiple of their steady polls; seconds until half of them, and all, poll and listen "
        "again; requests in the worst poll interval of their return, as a multiple of the same "
        "clients arriving one by one."
    )
    head = "| clients | away | away, worst | half back, s | all back, s | return, worst |"
    return "\n".join(
        ["## A herd that comes back", "", text, "", head, "|---" + "|---:" * 5 + "|", *rows]
    )


def plot(report: dict[str, Any], path: Path) -> None:
    """Requests per second in time, both kinds of clients."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axis = figure.subplots()
    for name, label in (("gentle", "the SDK's machine"), ("naive", "without jitter and budgets")):
        series = report[name]["series"]
        axis.plot([at for at, _ in series], [rate for _, rate in series], label=label, lw=1.2)
    gentle = report["gentle"]
    axis.axhline(gentle["organic_per_s"], color="#adb5bd", linestyle="--", label="steady polls")
    axis.axvspan(gentle["gone_at_s"], gentle["healed_at_s"], color="#ffe3e3", zorder=0)
    axis.set(xlabel="seconds; the edge is away in the shaded part", ylabel="requests/s offered")
    axis.set_yscale("symlog", linthresh=gentle["organic_per_s"])
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=2_000)
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between two polls")
    parser.add_argument("--away", type=float, default=20.0, help="seconds of 503")
    options = parser.parse_args()
    report: dict[str, Any] = {
        "clients": options.clients,
        "interval_s": options.interval,
        "away_s": options.away,
    }
    for name, protected in (("gentle", True), ("naive", False)):
        told = Swarming(
            endpoints=(),
            clients=options.clients,
            poll_interval_s=options.interval,
            protected=protected,
        )
        report[name] = measure(told, options.away)
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
