"""`clock-skew`: clocks an hour and ten years off, either way, one after the other."""

from __future__ import annotations

import itertools
import signal
import time
from pathlib import Path
from typing import Final

import msgspec

from holdfast.core.errors import Unavailable
from holdfast.gameday import clocked
from holdfast.gameday.clocked import Setting
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fleet import ENVIRONMENT, SERVICES, Fleet
from holdfast.gameday.naive import Ask
from holdfast.gameday.pressure import metric
from holdfast.gameday.processes import ask, until_or_not
from holdfast.gameday.promises.control_plane_dead import on_a_clock

HOUR_S: Final = 3_600.0
YEARS_S: Final = 10 * 365.25 * 86_400.0
SKEWS_S: Final = (YEARS_S, -YEARS_S, HOUR_S, -HOUR_S)
MEMBERS: Final = ("control", "edge-a", "sdk-1")
AGREE_S: Final = 60.0
"""Clocks that differ by less agree."""
EXPIRES_S: Final = 1_800
"""The clients' token lasts half an hour: less than every skew."""
ARRIVES_S_MAX: Final = 10.0


class Seen(msgspec.Struct):
    """What was counted over all skews and members."""

    turns: int = 0
    arrived: int = 0
    after: int = 0
    restarted: int = 0
    agreed: int = 0
    reads: int = 0
    let_in: int = 0
    slowest_s: float = 0.0

    def lost(self) -> bool:
        """Whether a change did not arrive, or somebody was not let in."""
        return (
            min(self.arrived, self.restarted, self.after) < self.turns or self.let_in < self.reads
        )


def run(day: Day) -> None:
    skews_s = SKEWS_S[: day.sample] if day.sample else SKEWS_S
    with Fleet(day, open_reads=False) as fleet:
        fleet.begin()
        clocked.put(_clock(fleet, "edge-a"), Setting())
        fleet.client_token = _token(fleet, EXPIRES_S)
        _expect_what_stands(fleet)
        fleet.watch("sdk-1", "sdk", [fleet.edge_urls["edge-a"]])
        for name in MEMBERS:
            clocked.put(_clock(fleet, name), Setting())
            on_a_clock(fleet, _clock(fleet, name), name)
        fleet.wait_answering("sdk-1")
        seen = Seen()
        for skew_s, name in itertools.product(skews_s, MEMBERS):
            if day.protected or not seen.lost():  # without protection the first damage will do
                _skewed(day, fleet, seen, name, skew_s)
        _expires(day, fleet)
        _judge(day, fleet, seen)


def _clock(fleet: Fleet, name: str) -> Path:
    return fleet.directory / f"{name}-clock.json"


def _token(fleet: Fleet, lasts_s: int) -> str:
    """A token that may read everything, and expires."""
    body = {
        "name": "reader",
        "scopes": [{"verbs": ["read"]}],
        "expires_s": int(time.time()) + lasts_s,
    }
    found = fleet.api("POST", "/v1/tokens", body)
    if found.status != 201:
        raise Unavailable(f"no token: {found}")
    text: str = found.body["token"]
    if not until_or_not(lambda: _reads(fleet, text) == 200, ARRIVES_S_MAX):
        raise Unavailable("the edge does not know the token")
    return text


def _reads(fleet: Fleet, token: str) -> int:
    """The status of one read at the edge."""
    url = f"{fleet.edge_urls['edge-a']}/{ENVIRONMENT}/shop/ofrep/v1/evaluate/flags/counter"
    return ask("POST", url, {"context": {}}, token).status


def _expect_what_stands(fleet: Fleet) -> None:
    asks, right = [], []
    context = {"targetingKey": "u1", "tenant": "contoso", "user": "ada"}
    for service in SERVICES:
        url = f"{fleet.edge_urls['edge-a']}/{ENVIRONMENT}/{service}/ofrep/v1/evaluate/flags"
        for flag in ask("POST", url, {"context": context}, fleet.client_token).body["flags"]:
            asks.append(Ask(service, flag["key"], dict(context)))
            right.append(flag.get("value"))
    fleet.expect(asks, right)


def _skewed(day: Day, fleet: Fleet, seen: Seen, name: str, skew_s: float) -> None:
    """A change arrives while one clock is off, and everybody is let in; then it is right again."""
    way = f"{abs(skew_s) / YEARS_S * 10:.0f} years" if abs(skew_s) > HOUR_S else "1 h"
    text = f"the clock of {name} is {way} {'ahead' if skew_s > 0 else 'behind'}"
    day.note("fault", text)
    clocked.put(_clock(fleet, name), Setting(ahead_s=skew_s))
    seen.turns += 1
    seen.arrived += _arrives(day, fleet, seen, text)
    for _ in range(5):
        seen.reads += 1
        seen.let_in += _reads(fleet, fleet.client_token) == 200
    if name != "control":
        process = {**fleet.edges, **fleet.clients}[name]
        process.kill(signal.SIGTERM)  # a crash would count against what it runs
        process.start(process.build)
    else:
        fleet.control.kill(signal.SIGTERM)
        fleet.start_control()
    seen.restarted += _arrives(day, fleet, seen, f"{text}, and it was started again")
    clocked.put(_clock(fleet, name), Setting())
    seen.after += _arrives(day, fleet, seen, f"{text} no more")
    # One clock is wrong at a time, and whoever looks at the edge sees that it is right again.
    seen.agreed += until_or_not(lambda: _agrees(fleet.edge_urls["edge-a"]), ARRIVES_S_MAX)


def _agrees(url: str) -> bool:
    skew_s = metric(url, "holdfast_clock_skew_seconds")
    return skew_s is not None and abs(skew_s) < AGREE_S


def _arrives(day: Day, fleet: Fleet, seen: Seen, when: str) -> bool:
    revision = fleet.count_up()
    began = time.monotonic()

    def at_client() -> bool:
        line = fleet.readers["sdk-1"].last
        return bool(line and line.revisions.get("shop", 0) >= revision)

    came = until_or_not(at_client, 2 * ARRIVES_S_MAX)
    seen.slowest_s = max(seen.slowest_s, time.monotonic() - began)
    if not came:
        day.note("damage", f"revision {revision} does not arrive while {when}")
    return came


def _expires(day: Day, fleet: Fleet) -> None:
    """With right clocks a token still ends when it should."""
    token = _token(fleet, 3)
    gone = until_or_not(lambda: _reads(fleet, token) == 401, ARRIVES_S_MAX)
    day.measure("a token that has expired is refused", str(gone), "True", holds=gone)


def _judge(day: Day, fleet: Fleet, seen: Seen) -> None:
    answered, wrong, failed = fleet.totals()
    for example in fleet.examples()[:5]:
        day.note("damage", example)
    for name, value in (
        ("changes that arrive while a clock is off", seen.arrived),
        ("changes that arrive when that member was started again", seen.restarted),
        ("changes that arrive when the clock is right again", seen.after),
        ("times that the edge's clock agrees with what is signed again", seen.agreed),
    ):
        day.measure(name, value, f"all {seen.turns}", holds=value == seen.turns)
    slowest_s = round(seen.slowest_s, 1)
    day.measure(
        "the slowest of them, s", slowest_s, f"at most {ARRIVES_S_MAX:.0f}",
        holds=slowest_s <= ARRIVES_S_MAX,
    )  # fmt: skip
    day.measure(
        "reads by a token that expires in half an hour",
        f"{seen.let_in} let in", f"all {seen.reads}", holds=seen.let_in == seen.reads,
    )  # fmt: skip
    day.measure("answers at clients", answered, "more than 0", holds=answered > 0)
    day.measure("wrong or failed answers", wrong + failed, "0", holds=wrong + failed == 0)
    day.affected = "nobody" if not wrong + failed else f"{wrong + failed} answers"
    day.root_cause = "a clock that is wrong"
    day.stopped_by = (
        "nothing that answers expires; tokens expire by the earlier of the machine's clock and "
        "what was signed; a journal's times never go back"
    )


DRILL = Drill(
    name="clock-skew",
    title="Clock skew of an hour and of ten years",
    promise="never stops serving",
    rehearsal=(
        "the clocks of control plane, edge and client, one at a time, are set ahead and back by "
        "an hour and by ten years, while changes are published and a client reads with a token "
        "that expires; each is also started again on its wrong clock."
    ),
    run=run,
)
