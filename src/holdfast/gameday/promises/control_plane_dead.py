"""`control-plane-dead`: killed, and gone for half an hour."""

from __future__ import annotations

import shutil
import signal
import statistics
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from holdfast.gameday import clocked
from holdfast.gameday.clocked import Setting
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fleet import ENVIRONMENT, SERVICES, Fleet
from holdfast.gameday.naive import Ask
from holdfast.gameday.pace import Pace
from holdfast.gameday.processes import ask, until_or_not

DEAD_S: Final = 1_800.0
"""On the clock of the consumers."""
LASTS_S: Final = 20.0
LASTS_SHORT_S: Final = 4.0
"""On the clock on the wall."""
ROUNDS: Final = 40
RATIO_MAX: Final = 1.10
BACK_S_MAX: Final = 10.0


def run(day: Day) -> None:
    clock = day.directory / "clock.json"
    clocked.put(clock, Setting())
    with Fleet(day) as fleet:
        fleet.begin()
        expect_what_stands(fleet)
        on_a_clock(fleet, clock, "edge-a")
        for name, endpoint in (("sdk-edge", fleet.edge_urls["edge-a"]), ("sdk", fleet.control_url)):
            fleet.watch(name, "sdk", [endpoint])
            on_a_clock(fleet, clock, name)
        fleet.watch("ofrep", "ofrep", [fleet.edge_urls["edge-a"]], interval_s=0.5)
        for name in fleet.clients:
            fleet.wait_answering(name)
        before = fleet.totals()[0]
        lasts_s = LASTS_SHORT_S if day.sample else LASTS_S
        fleet.control.kill()
        clocked.put(clock, Setting(speed=DEAD_S / lasts_s, since_s=time.time()))
        day.note("fault", "the control plane is killed; half an hour begins to pass")
        if day.sample:
            time.sleep(lasts_s)
        else:
            _pace(day, fleet, lasts_s)
        during = fleet.totals()[0] - before
        day.note("step", f"half an hour later: {during} answers meanwhile")
        _back(day, fleet)
        _judge(day, fleet, during)


def expect_what_stands(fleet: Fleet) -> None:
    """The answers that the edge gives now are right, for a few users, from here on."""
    asks, right = [], []
    for number in range(3):
        context = {"targetingKey": f"u{number}", "tenant": "contoso", "user": "ada"}
        for service in SERVICES:
            url = f"{fleet.edge_urls['edge-a']}/{ENVIRONMENT}/{service}/ofrep/v1/evaluate/flags"
            for flag in ask("POST", url, {"context": context}).body["flags"]:
                asks.append(Ask(service, flag["key"], dict(context)))
                right.append(flag.get("value"))
    fleet.expect(asks, right)


def on_a_clock(fleet: Fleet, clock: Path, name: str) -> None:
    """Start a member of the fleet again, on the clock of that file."""
    process = {"control": fleet.control, **fleet.edges, **fleet.clients}[name]
    process.kill(signal.SIGTERM)  # a crash would count against what it runs
    process.through("holdfast.gameday.clocked", str(clock))
    if name == "control":
        fleet.start_control()
        return
    process.start(fleet.good)
    if name in fleet.edges:
        fleet.wait_ready(name)


def _pace(day: Day, fleet: Fleet, lasts_s: float) -> None:
    """Evaluations beside a dead control plane against those beside a living edge, at one time."""
    began = time.monotonic()
    found: dict[str, list[int]] = {}
    workers = [
        threading.Thread(target=_measure, args=(fleet, name, endpoint, found))
        for name, endpoint in (
            ("living", fleet.edge_urls["edge-a"]),
            ("dead", fleet.control_url),
        )
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    dead, living = (statistics.median(found[name]) for name in ("dead", "living"))
    ratio = round(dead / living, 3)
    day.note("step", f"p99 {dead:.0f} ns with a dead upstream, {living:.0f} ns with a living one")
    day.measure(
        "p99 of an evaluation, against a client whose upstream lives",
        ratio, f"at most {RATIO_MAX}", holds=ratio <= RATIO_MAX,
    )  # fmt: skip
    time.sleep(max(0.0, lasts_s - (time.monotonic() - began)))


def _measure(fleet: Fleet, name: str, endpoint: str, found: dict[str, list[int]]) -> None:
    cache = fleet.directory / f"{name}-pace"
    shutil.copytree(fleet.directory / "sdk-cache" / "shop", cache)
    case = next(case for case in fleet.cases() if case.key == "counter")
    pace = Pace(
        endpoints=(endpoint,),
        environment=ENVIRONMENT,
        service="shop",
        key=case.key,
        context=case.context,
        cache_dir=str(cache),
        rounds=ROUNDS,
    )
    path = fleet.directory / f"{name}-pace.json"
    path.write_bytes(msgspec.json.encode(pace))
    process = fleet.client_process(f"{name}-pace", "holdfast.gameday.pace", str(path))
    found[name] = msgspec.json.decode(process.output(fleet.good), type=list[int])


def _back(day: Day, fleet: Fleet) -> None:
    """The control plane is back: the next change arrives by itself."""
    fleet.start_control()
    revision = fleet.count_up()

    def arrived() -> bool:
        lines = [fleet.readers[name].last for name in ("sdk-edge", "sdk")]
        return all(line and line.revisions.get("shop", 0) >= revision for line in lines)

    began = time.monotonic()
    came = until_or_not(arrived, 3 * BACK_S_MAX)
    took_s = round(time.monotonic() - began, 1)
    day.note("recovered" if came else "damage", f"the next change arrived: {came}, {took_s} s")
    day.measure(
        "the next change arrives, s after the control plane is back",
        took_s, f"at most {BACK_S_MAX:.0f}", holds=came and took_s <= BACK_S_MAX,
    )  # fmt: skip


def _judge(day: Day, fleet: Fleet, during: int) -> None:
    _, wrong, failed = fleet.totals()
    for example in fleet.examples()[:5]:
        day.note("damage", example)
    day.measure("answers while it was dead", during, "more than 0", holds=during > 0)
    day.measure("failed answers", failed, "0", holds=not failed)
    day.measure("wrong answers", wrong, "0", holds=not wrong)
    day.affected = "nobody" if not wrong + failed else f"{wrong + failed} answers"
    day.root_cause = "no control plane"
    day.stopped_by = "consumers answer from memory, and nothing that they have expires"


DRILL = Drill(
    name="control-plane-dead",
    title="Control plane dead for half an hour",
    promise="0 failed or wrong evaluations; p99 within 10 %",
    rehearsal=(
        "kill -9 of the control plane, with clients behind an edge, behind the control plane "
        "itself, and over HTTP; half an hour passes on the clocks of edge and clients. "
        "Meanwhile evaluations are timed in two clients at once, one with a living upstream."
    ),
    run=run,
)
