"""The simulation held against a real run: one edge, one process of light clients, and their twins.

What operations cost is measured before, on the same fleet with a fifth of the clients; what is then
compared was not looked at for it. Costs are CPU time. Where the clients of the real run had to wait
for a CPU, since others are busy on the machine, everything took them that many times as long: so
the kernel says (`schedstat`), and so the simulation is told (`stretched`).

Without streams, how long a change takes is mostly where between two polls of the edge it came. So
changes come at random there, there are more of them, and their mean is compared.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from holdfast.core.errors import Unavailable
from holdfast.gameday.drill import Day
from holdfast.gameday.fleet import Fleet
from holdfast.gameday.processes import until
from holdfast.gameday.simulation.calibrating import FEW, begin, measure, ran_and_waited_s, reached_s
from holdfast.gameday.simulation.costs import Costs
from holdfast.gameday.simulation.parameters import Change, Pace, Parameters, Region
from holdfast.gameday.simulation.results import Result
from holdfast.gameday.simulation.running import play
from holdfast.gameday.simulation.world import CLIENTS, EDGES
from holdfast.gameday.swarm import Swarm, Swarming

BAR: Final = 0.2
REACHED_S: Final = 60.0
SETTLE_S: Final = 2.0
LOOPBACK_MS: Final = 0.05
NAME: Final = "check"
STREAMED_CHANGES: Final = 5
POLLED_CHANGES: Final = 15
SIMULATED_TIMES: Final = 3
"""As many changes as in the real run are simulated, where each is one draw of the edge's poll."""
CLIENT_COSTS: Final = ("client_poll_s", "client_activate_s", "client_hint_s")


class Checking(msgspec.Struct, frozen=True, kw_only=True):
    """What both runs are told; no `changes` are as many as one wants to tell them apart."""

    clients: int = 2_000
    interval_s: int = 10
    changes: int = 0
    streams: bool = True
    seed: int = 1

    @property
    def real_changes(self) -> int:
        return self.changes or (STREAMED_CHANGES if self.streams else POLLED_CHANGES)

    @property
    def simulated_changes(self) -> int:
        return self.real_changes * (1 if self.streams else SIMULATED_TIMES)

    def middle(self, figures: Sequence[float]) -> float:
        """Of one figure of all changes: the median, which a stall of the machine does not move; or
        the mean, which is closer where each change is one draw."""
        return statistics.median(figures) if self.streams else statistics.fmean(figures)


class Compared(msgspec.Struct, frozen=True):
    """One figure of both; `difference` is the simulated one's, as a share of the real one."""

    figure: str
    real: float
    simulated: float
    difference: float
    holds: bool
    decides: bool


class Checked(msgspec.Struct, frozen=True):
    """PASS if every figure that decides is within the bar; the costs that were measured for it."""

    told: Checking
    figures: tuple[Compared, ...]
    passed: bool
    costs: Costs
    stretch: tuple[float, float]


class Run(msgspec.Struct, frozen=True):
    """What is compared: requests/s while nothing happens, and each change's p50, p99 and last.

    `refused`: requests in all. `stretch`: how many times their CPU time the edge and the clients
    took during changes.
    """

    requests_per_s: float
    changes: tuple[tuple[float, float, float], ...]
    refused: int = 0
    stretch: tuple[float, float] = (1.0, 1.0)


def check(told: Checking, tell: Callable[[str], object]) -> Checked:
    """Both runs, one after the other, and what differs. Raises `Unavailable`."""
    with tempfile.TemporaryDirectory(prefix="holdfast-check-") as place:
        day = Day(Path(place), seed=1, protected=True)
        with Fleet(day) as fleet:
            begin(fleet, told.interval_s)
            light = measure(fleet, Path(place), tell).light
            if not told.streams:
                switch_streams_off(fleet, told.interval_s)
            tell(f"{told.clients} real clients")
            real = real_run(fleet, Path(place), told)
    tell(f"{told.clients} simulated clients")
    costs = stretched(_handing_on(light), real.stretch[1])
    simulated = of_result(play(parameters(told, costs), NAME, told.seed, 1, _quiet))
    return compare(told, real, simulated, costs)


def switch_streams_off(fleet: Fleet, interval_s: int) -> None:
    """Sign that nobody listens to streams; the edge polls as its clients do. Or `Unavailable`.

    An edge listens as long as one of its environments wants it to.
    """
    pacing = {
        "poll_interval_s": interval_s,
        "poll_interval_max_s": interval_s,
        "streams": False,
    }
    body = {"reason": "polls alone", "pacing": pacing}
    for each in fleet.api("GET", "/v1/environments").body["environments"]:
        found = fleet.api("PUT", f"/v1/environments/{each['environment']}", body)
        if found.status >= 300:
            raise Unavailable(f"no pacing: {found.status} {found.body}")
    revision = fleet.count_up()
    until(lambda: fleet.revision_at("edge-a") >= revision, "the edge to have that", REACHED_S)
    time.sleep(SETTLE_S)  # it leaves its stream with what it does next


def stretched(costs: Costs, clients: float) -> Costs:
    """What operations of clients take whose CPU is not theirs alone.

    The edge's are left as they are: it is not the bottleneck, and while it waits for a CPU, what
    comes waits in the kernel and is answered in one batch at full speed. Longer operations within a
    batch would be waits that admission sees, and refuses for; those it never saw.
    """
    return msgspec.structs.replace(
        costs, **{name: getattr(costs, name) * clients for name in CLIENT_COSTS}
    )


def parameters(told: Checking, costs: Costs) -> Parameters:
    """The same fleet, simulated: all clients on one CPU."""
    chance = random.Random(told.seed)  # noqa: S311  chance of a simulation
    gap_s = (2.0 if told.streams else 3.0) * told.interval_s
    times_s = [
        (number + 1) * gap_s + chance.uniform(0.0, told.interval_s)
        for number in range(told.simulated_changes)
    ]
    return Parameters(
        clients=told.clients,
        regions=(
            Region(
                name="loopback",
                share=1.0,
                edges=1,
                client_ms=LOOPBACK_MS,
                control_ms=LOOPBACK_MS,
            ),
        ),
        happenings=tuple(Change(at_s=at_s) for at_s in times_s),
        run_s=times_s[-1] + gap_s,
        settle_s=3.0 * told.interval_s,
        start_within_s=told.interval_s,
        pace=Pace(
            poll_interval_s=told.interval_s,
            poll_interval_max_s=told.interval_s,
            streams=told.streams,
        ),
        upstreams=1,
        clients_per_host=told.clients,
        machines_max=max(10, told.clients),
        costs=costs,
    )


def of_result(result: Result) -> Run:
    """What is compared of a simulated run."""
    first_s = min(each.at_s for each in result.propagation)
    quiet = [
        rate
        for curve in result.curves
        if curve.layer == EDGES
        for number, rate in enumerate(curve.requests_per_s)
        if (number + 1) * result.slot_s <= first_s
    ]
    changes = tuple(
        (each.p50_s, each.p99_s, each.last_s)
        for each in result.propagation
        if each.layer == CLIENTS and not each.region
    )
    return Run(statistics.mean(quiet), changes, result.refusals)


def compare(told: Checking, real: Run, simulated: Run, costs: Costs) -> Checked:
    """The change in the middle of each (`Checking.middle`), and requests/s.

    The p50, the last one and what was refused are told, and don't decide.
    """
    rows = [
        ("requests/s while nothing changes", real.requests_per_s, simulated.requests_per_s, True)
    ]
    for place, (name, decides) in enumerate((("p50", False), ("p99", True), ("last", False))):
        both = [told.middle([each[place] for each in run.changes]) for run in (real, simulated)]
        rows.append((f"propagation, {name}, s", both[0], both[1], decides))
    rows.append(("requests refused", float(real.refused), float(simulated.refused), False))
    figures = tuple(_compared(*row) for row in rows)
    passed = all(each.holds for each in figures if each.decides)
    return Checked(told, figures, passed, costs, real.stretch)


def _compared(figure: str, real: float, simulated: float, decides: bool) -> Compared:
    share = (simulated - real) / real if real else simulated
    return Compared(figure, real, simulated, round(share, 4), abs(share) <= BAR, decides)


def real_run(fleet: Fleet, place: Path, told: Checking) -> Run:
    """A swarm on `edge-a` of a fleet that has begun; requests are counted at the clients."""
    swarming = Swarming(
        endpoints=(fleet.edge_urls["edge-a"],),
        clients=told.clients,
        poll_interval_s=told.interval_s,
        start_within_s=told.interval_s,
        streams=told.streams,
        timed=True,
        seed=told.seed,
    )
    with Swarm(place, swarming, NAME) as swarm:
        swarm.wait_all()
        time.sleep(told.interval_s)
        began_s = time.time()
        time.sleep(2 * told.interval_s)
        rate = swarm.offered(began_s, began_s + 2 * told.interval_s)
        changes, edge, clients = (
            [],
            _Stretch(fleet.edges["edge-a"].pid),
            _Stretch(swarm.process.pid),
        )
        chance = random.Random(told.seed)  # noqa: S311  when to commit is no secret
        for _ in range(told.real_changes):
            with edge, clients:
                spread = reached_s(fleet, swarm, 6.0 * told.interval_s)
            changes.append(_points(spread))
            time.sleep(chance.uniform(0.0, told.interval_s))
        refused = swarm.statuses()[503]
    return Run(rate, tuple(changes), refused, (edge.times, clients.times))


class _Stretch:
    """How many times its CPU time a process took, within the blocks."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._ran_s = self._waited_s = 0.0
        self._before_s = (0.0, 0.0)

    def __enter__(self) -> Self:
        self._before_s = ran_and_waited_s(self._process)
        return self

    def __exit__(self, *_: object) -> None:
        ran_s, waited_s = ran_and_waited_s(self._process)
        self._ran_s += ran_s - self._before_s[0]
        self._waited_s += waited_s - self._before_s[1]

    @property
    def times(self) -> float:
        return round((self._ran_s + self._waited_s) / self._ran_s, 3) if self._ran_s else 1.0


def _points(spread: Sequence[float]) -> tuple[float, float, float]:
    last = len(spread) - 1
    return spread[last // 2], spread[int(last * 0.99)], spread[last]


def _handing_on(light: Costs) -> Costs:
    """The way of a change to the edge's streams: what was measured with few clients, without what
    the simulation itself says that they take."""
    told = Checking(clients=FEW, changes=3)
    alone = msgspec.structs.replace(light, hand_on_s=0.0)
    simulated = of_result(play(parameters(told, alone), NAME, told.seed, 1, _quiet))
    own_s = statistics.median(each[0] for each in simulated.changes)
    return msgspec.structs.replace(light, hand_on_s=max(0.0, light.hand_on_s - own_s))


def _quiet(_: float) -> None:
    """Nobody wants to know."""
