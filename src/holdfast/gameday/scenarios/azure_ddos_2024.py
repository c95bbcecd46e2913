"""`azure-ddos-2024`: a flood, a defence that engages and lets go, and a defence that is wrong."""

from __future__ import annotations

import re
import time
from typing import Final

from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fleet import ENVIRONMENT, READY_S, Fleet
from holdfast.gameday.load import Kind, Load, Loaded
from holdfast.gameday.naive import Ask
from holdfast.gameday.pressure import Callers, capacity, metric, metrics
from holdfast.gameday.processes import ask, until, until_or_not
from holdfast.gameday.proxy import BLACK_HOLE, Proxy
from holdfast.gameday.watching import Reader

HONEST: Final = ("checkout-service", "mobile-app", "web-shop")
HONEST_PER_S: Final = 60.0
TIMES: Final = 10.0
"""The flood, in times of what the edge can do."""
FLOOD_CONNECTIONS: Final = 1_500
DEADLINE_S: Final = 0.5
"""An answer is useful until then."""
PATIENCE_S: Final = 1.0
"""Of honest clients; then they take their defaults. Longer in the short form, among tests: there it
is the machine that makes them wait."""
FLOOD_PATIENCE_S: Final = 6.0
"""So long that who gets no answer then got none at all."""
ENGAGE_S: Final = 1.0
START_S: Final = 1.0
"""Of the flood's process."""
RELEASE_S: Final = 10.0
MOVE_S: Final = 10.0
SUCCESS: Final = 0.999
WRONG_BUDGET_S: Final = "0.00002"
"""In seconds: a queue of no length at all."""
BUSY_PER_S: Final = 320.0
"""Everyday work while the defence is wrong: bulk reads that are no load at all."""
BURST: Final = 16
"""Of those come at once: a queue that is gone by itself."""
SETTLED_S: Final = 2.5
"""After so long it must have disarmed itself."""
NEVER_BELOW: Final = 0.95
"""Of the goodput without the defence, in each phase: two runs differ by so much by themselves."""
SCRAPES: Final = 1
"""Of ours, between two looks at what an edge has answered."""

_ANSWERS: Final = re.compile(r"^holdfast_answers_total\{.*\} (\S+)$", re.MULTILINE)


class _Siege:
    """How long each part takes; shorter in the short form."""

    def __init__(self, day: Day) -> None:
        short = bool(day.sample)
        self.calm_s = 1.0 if short else 3.0
        self.flood_s = 2.5 if short else 8.0
        self.after_s = 1.5 if short else 4.0
        self.busy_s = 5.0 if short else 12.0

    @property
    def whole_s(self) -> float:
        return self.calm_s + START_S + self.flood_s + self.after_s


def run(day: Day) -> None:
    with Fleet(day) as fleet:
        fleet.begin(("edge-a",))
        follows = (fleet.control_url,)
        fleet.add_edge("edge-a2", follows)
        fleet.add_edge("edge-b", follows, None, "--cell", "two")
        fleet.add_edge("edge-bare", follows, None, "--admission", "off")
        callers = Callers(fleet)
        callers.expect(*HONEST, "busy", "flood", "neighbour")
        with Proxy(int(fleet.edge_urls["edge-a"].rpartition(":")[2])) as line:
            _reader(fleet, [line.url, fleet.edge_urls["edge-a2"]])
            per_s = capacity(
                fleet.edge_urls["edge-bare"],
                callers.bulk("flood", fleet.edge_urls["edge-bare"]),
            )
            day.note("step", f"an edge answers {per_s:.0f} costly requests/s; honest clients ask")
            _flood(day, fleet, callers, per_s)
            _wrong_threshold(day, fleet, callers)
            _cut_off(day, fleet, line)
        answered, wrong, failed = fleet.totals()
        share = 1 - (wrong + failed) / max(1, answered)
        day.measure("evaluations in SDKs", answered, "more than 0", holds=answered > 0)
        day.measure("SDKs: right answers", round(share, 5), f">= {SUCCESS}", holds=share >= SUCCESS)
        day.affected = "callers of the flood" if share >= SUCCESS else "honest clients"
        day.root_cause = "a flood of costly requests from one caller, and a threshold that is wrong"
        day.stopped_by = "admission by fair shares, which measures what it does and disarms itself"


def _reader(fleet: Fleet, endpoints: list[str]) -> None:
    """An SDK client that follows through the line, and knows another path."""
    contexts = [{"targetingKey": f"u{n}", "tenant": "contoso", "user": "ada"} for n in range(3)]
    asks, right = [], []
    for context in contexts:
        url = f"{fleet.edge_urls['edge-a']}/{ENVIRONMENT}/shop/ofrep/v1/evaluate/flags"
        for flag in ask("POST", url, {"context": context}).body["flags"]:
            asks.append(Ask("shop", flag["key"], context))
            right.append(flag.get("value"))
    fleet.expect(asks, right)
    fleet.watch("sdk", "sdk", endpoints)
    fleet.wait_answering("sdk")


def _honest(fleet: Fleet, callers: Callers, edge: str, seconds: float) -> Load:
    kinds = [callers.single(name) for name in HONEST]
    url = fleet.edge_urls[edge]
    patience_s = FLOOD_PATIENCE_S if fleet.day.sample else PATIENCE_S
    return Load(url, kinds, HONEST_PER_S, 32, seconds, deadline_s=DEADLINE_S, patience_s=patience_s)


def _flood(day: Day, fleet: Fleet, callers: Callers, per_s: float) -> None:
    """The same flood at an edge with its defence and at one without; a look at the neighbour."""
    siege = _Siege(day)
    day.note("fault", f"a flood of {TIMES:.0f} times that, for {siege.flood_s:.0f} s")
    before = _answers(fleet, "edge-b")
    neighbour_url = fleet.edge_urls["edge-b"]
    neighbour = Load(neighbour_url, [callers.single("neighbour")], 20, 8, siege.whole_s)
    with neighbour:
        honest, flood = _besiege(fleet, callers, "edge-a", siege, per_s)
        beside = neighbour.wait()
    spilt = max(0, _answers(fleet, "edge-b") - before - beside.offered - SCRAPES)
    began_s = flood.began_s - honest.began_s
    ended_s = began_s + siege.flood_s
    ends = {
        "before the flood": (0.0, began_s),
        "while it engages": (began_s, began_s + ENGAGE_S),
        "while it holds": (began_s + ENGAGE_S, ended_s),
        "while it lets go": (ended_s, siege.whole_s),
    }
    for phase, (from_s, to_s) in ends.items():
        share = honest.ok_share(from_s, to_s)
        day.measure(
            f"honest answers {phase}",
            round(share, 4),
            f">= {SUCCESS}",
            holds=share >= SUCCESS,
            timed=True,
        )
    url = fleet.edge_urls["edge-a"]
    engaged = metric(url, 'holdfast_admission_changes_total{state="engaged"}') or 0
    day.measure("times that it engaged", engaged, ">= 1", holds=engaged >= 1)
    released = until_or_not(
        lambda: metric(url, "holdfast_admission_engaged") == 0, RELEASE_S, every_s=0.2
    )
    day.measure("it has let go", released, f"within {RELEASE_S:.0f} s", holds=released)
    day.measure("requests without an answer", honest.without_answer + flood.without_answer, "0",
                holds=honest.without_answer + flood.without_answer == 0)  # fmt: skip
    day.measure("spilt into the other cell", spilt, "0", holds=spilt == 0)
    share = beside.ok_share()
    day.measure(
        "answers in the other cell", share, f">= {SUCCESS}", holds=share >= SUCCESS, timed=True
    )
    bare, drowned = _besiege(fleet, callers, "edge-bare", siege, per_s)
    bare_began_s = drowned.began_s - bare.began_s
    later_s = bare_began_s - began_s
    for phase, (from_s, to_s) in list(ends.items())[1:]:
        with_it = _useful(honest, flood, from_s, to_s)
        without = _useful(bare, drowned, from_s + later_s, to_s + later_s)
        ratio = round(with_it / max(1, without), 2)
        day.measure(
            f"goodput {phase}, to that without the defence",
            ratio,
            f">= {NEVER_BELOW}",
            holds=ratio >= NEVER_BELOW,
            timed=True,
        )
    day.note("recovered", f"honest clients without the defence: {bare.ok_share():.1%} answered")


def _useful(honest: Loaded, flood: Loaded, from_s: float, to_s: float) -> int:
    """Useful answers to both from then to then, by the clock of the honest load."""
    began_s = flood.began_s - honest.began_s
    return honest.useful(from_s, to_s) + flood.useful(from_s - began_s, to_s - began_s)


def _besiege(
    fleet: Fleet, callers: Callers, edge: str, siege: _Siege, per_s: float
) -> tuple[Loaded, Loaded]:
    """(honest load, flood) at one edge."""
    url = fleet.edge_urls[edge]
    kind = callers.bulk("flood", url)
    with _honest(fleet, callers, edge, siege.whole_s) as honest:
        honest.await_beginning()
        time.sleep(siege.calm_s)
        flood = Load(
            url,
            [kind],
            TIMES * per_s,
            FLOOD_CONNECTIONS,
            siege.flood_s,
            deadline_s=DEADLINE_S,
            patience_s=FLOOD_PATIENCE_S,
            seed=2,
        ).run()
        return honest.wait(), flood


def _wrong_threshold(day: Day, fleet: Fleet, callers: Callers) -> None:
    """The operator's mistake: a budget for waiting that nobody can keep, on an everyday load."""
    siege = _Siege(day)
    day.note("fault", f"the edge gets a wait budget of {WRONG_BUDGET_S} s, by mistake")
    for edge in ("edge-a", "edge-bare"):
        fleet.edges[edge].kill()
        fleet.edges[edge].start(fleet.good, HOLDFAST_WAIT_BUDGET_S=WRONG_BUDGET_S)
        fleet.wait_ready(edge)
    callers.expect(*HONEST, "busy")
    honest, busy = _everyday(fleet, callers, "edge-a", siege)
    url = fleet.edge_urls["edge-a"]
    disarmed = metric(url, 'holdfast_admission_changes_total{state="disarmed"}') or 0
    share = honest.ok_share()
    day.measure("times that it disarmed itself", disarmed, ">= 1", holds=disarmed >= 1)
    day.measure(
        "honest answers with a wrong threshold",
        round(share, 4),
        f">= {SUCCESS}",
        holds=share >= SUCCESS,
        timed=True,
    )
    bare = _everyday(fleet, callers, "edge-bare", siege)
    useful = [found.useful(SETTLED_S) for found in (busy, bare[1])]
    ratio = round(useful[0] / max(1, useful[1]), 2)
    day.measure(
        "goodput then, once disarmed, to that without the defence",
        ratio,
        ">= 0.9",
        holds=ratio >= 0.9,
        timed=True,
    )


def _everyday(fleet: Fleet, callers: Callers, edge: str, siege: _Siege) -> tuple[Loaded, Loaded]:
    url = fleet.edge_urls[edge]
    kinds: list[Kind] = [callers.bulk("busy", url, service="shop")]
    with _honest(fleet, callers, edge, siege.busy_s) as honest:
        busy = Load(
            url, kinds, BUSY_PER_S, 64, siege.busy_s, deadline_s=DEADLINE_S, burst=BURST, seed=3
        ).run()  # fmt: skip
        return honest.wait(), busy


def _cut_off(day: Day, fleet: Fleet, line: Proxy) -> None:
    """The path is dead: clients take the other one, and hear of a change there.

    A new client, for the one before may have left this path while its edge was started again.
    """
    reader = fleet.watch("sdk-2", "sdk", [line.url, fleet.edge_urls["edge-a2"]])
    fleet.wait_answering("sdk-2")
    until(lambda: _upstream(reader) == line.url, "a client on that path", READY_S)
    line.be(BLACK_HOLE)
    day.note("fault", "one path swallows everything")
    revision = fleet.count_up()
    began_s = time.monotonic()
    moved = until_or_not(
        lambda: (last := reader.last) is not None and last.revisions.get("shop", 0) >= revision,
        MOVE_S + 5.0,
    )
    took_s = round(time.monotonic() - began_s, 1) if moved else -1.0
    day.measure(
        "seconds until clients took the other path",
        took_s,
        f"<= {MOVE_S:.0f}",
        holds=moved and took_s <= MOVE_S,
        timed=True,
    )
    day.note("recovered" if moved else "damage", "clients are on the other path")


def _upstream(reader: Reader) -> str:
    line = reader.last
    return line.upstreams.get("shop", "") if line else ""


def _answers(fleet: Fleet, edge: str) -> int:
    """All that an edge has answered so far."""
    url = fleet.edge_urls[edge]
    return int(sum(float(found) for found in _ANSWERS.findall(metrics(url))))


DRILL = Drill(
    name="azure-ddos-2024",
    title="Azure, 30 July 2024: a defence against a flood that made it worse",
    outage=(
        "a flood was mitigated by itself; then a mistake in the defence, as it disengaged, made "
        "the damage larger, and traffic failed over to other paths."
    ),
    rehearsal=(
        "an open-loop flood at ten times what an edge can do, beside honest clients; then a wrong "
        "threshold in the defence itself; then one path is cut off. The same again without it."
    ),
    run=run,
)
