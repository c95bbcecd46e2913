"""`facebook-2021`: all that edges depend on is dead, and a change has to reach everybody."""

from __future__ import annotations

import shutil
import time
from typing import Any, Final

import msgspec

from holdfast.core.errors import Unavailable
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fleet import ENVIRONMENT, Fleet
from holdfast.gameday.naive import Ask
from holdfast.gameday.processes import Process, ask, until_or_not

EDGES: Final = ("edge-a", "edge-b")
CLIENTS: Final = {"sdk-1": "sdk", "sdk-2": "sdk", "ofrep-1": "ofrep", "ofrep-2": "ofrep"}
PUSHED: Final = 4_242
DEAD_S: Final = 15.0
"""How long all is dead before anybody does anything; 4 in the short form."""
SETTLE_S: Final = 3.0
"""Edges notice the death of their upstream within this: what they then say of themselves counts."""
SPREAD_S_MAX: Final = 10.0
HOME_S: Final = 30.0


def run(day: Day) -> None:
    with Fleet(day) as fleet:
        fleet.begin(EDGES)
        counter = Ask("shop", "counter", {"targetingKey": "u1"})
        fleet.expect([counter], [_now(fleet)])
        both = [fleet.edge_urls[name] for name in EDGES]
        for number, (name, mode) in enumerate(CLIENTS.items()):
            order = both if number % 2 == 0 else both[::-1]
            fleet.watch(name, "sdk" if mode == "sdk" else "ofrep", order)
        for name in CLIENTS:
            fleet.wait_answering(name)
        keys = _all_dies(day, fleet)
        ready = [name for name in EDGES if fleet.edge_ready(name).status == 200]
        day.measure("edges that call themselves well", len(ready), "2 of 2", holds=len(ready) == 2)
        went = _push(day, fleet, keys, counter)
        _measure_dead(day, fleet)
        if went:
            _home(day, fleet, counter)
        day.root_cause = "edges that judged themselves by what stands behind them would withdraw"
        day.stopped_by = "an edge is well while its answers are right, whatever is behind it"


def _now(fleet: Fleet) -> Any:
    return fleet.setting("counter")["variants"]["now"]


def _all_dies(day: Day, fleet: Fleet) -> str:
    """The control plane is killed, and its disk is gone; a copy of the signing key is in a safe."""
    stick = fleet.directory / "stick"
    shutil.copytree(fleet.data_dir / "keys", stick)
    fleet.control.kill()
    fleet.data_dir.rename(fleet.directory / "out-of-reach")
    day.note("fault", "the control plane, its store and who issues tokens are gone, at once")
    time.sleep(SETTLE_S if day.sample else DEAD_S)
    return str(stick)


def _push(day: Day, fleet: Fleet, keys: str, counter: Ask) -> bool:
    """A change, signed with the key from the safe, straight to the edges; whether it went out."""
    fleet.allow(counter.service, counter.key, PUSHED)
    to = [part for name in EDGES for part in ("--to", fleet.edge_urls[name])]
    command = Process(
        "push",
        "holdfast.apps.cli",
        ("edge", "push", *to, "--key", keys, "--value", f"shop/counter={PUSHED}", "--soak", "1"),
        fleet.directory / "push.log",
        HOLDFAST_TOKEN=fleet.token,
    )
    began_s, went = time.time(), False
    more = ("--reason", "game day", "--out", "push.json", "-e", ENVIRONMENT, "--output", "json")
    try:
        told = msgspec.json.decode(command.output(fleet.good, *more))
        day.note("step", f"revision {told['revision']}, signed offline, was pushed to {len(EDGES)}")
        went = True
    except Unavailable as error:
        day.note("damage", f"the push did not go through: {error}")
    fleet.expect([counter], [PUSHED])
    until_or_not(lambda: _all_have(fleet, began_s), SPREAD_S_MAX, every_s=0.1)
    spread_s = round(time.time() - began_s, 1)
    have = _all_have(fleet, began_s)
    day.measure(
        "from the command to the last client, s",
        spread_s if have else "never",
        f"at most {SPREAD_S_MAX:.0f}",
        holds=have and spread_s <= SPREAD_S_MAX,
    )
    return went


def _all_have(fleet: Fleet, since_s: float) -> bool:
    """Whether every client's newest look, after this time, saw what was pushed, and only that."""
    lines = [fleet.readers[name].last for name in CLIENTS]
    return all(
        one and one.at_s > since_s and one.answered and not (one.wrong or one.failed)
        for one in lines
    )


def _measure_dead(day: Day, fleet: Fleet) -> None:
    answered, wrong, failed = fleet.totals()
    day.measure("answers that failed", failed, f"0 of {answered + failed}", holds=not failed)
    if failed:
        day.note("damage", f"{failed} questions found no edge that called itself well")
    day.affected = f"{failed} of {answered + failed} answers failed" if failed else "nobody"
    served = [name for name in CLIENTS if any(one.answered for one in fleet.readers[name].read())]
    day.note("step", f"{answered} answers, {wrong} of them while the new value came")
    day.measure("clients that answered", len(served), "4", holds=len(served) == len(CLIENTS))


def _home(day: Day, fleet: Fleet, counter: Ask) -> None:
    """The control plane is back: the push comes into the journal, and nobody goes back."""
    began_s = time.time()
    (fleet.directory / "out-of-reach").rename(fleet.data_dir)
    fleet.start_control()
    command = Process(
        "import",
        "holdfast.apps.cli",
        ("edge", "push", "--import", "push.json", "--server", fleet.control_url),
        fleet.directory / "push.log",
        HOLDFAST_TOKEN=fleet.token,
    )
    command.output(fleet.good)
    day.note("recovered", "the control plane is back, and has the push in its journal")
    edges = [fleet.edge_urls[name] for name in EDGES]
    digests = {_digest(url) for url in (fleet.control_url, *edges)}
    same = len(digests) == 1 and "" not in digests
    day.measure("digests of the pushed revision", len(digests), "1", holds=same)
    after = fleet.commit(edits=[_next_edit(fleet)], reason="life goes on")
    follows = until_or_not(lambda: all(fleet.revision_at(n) >= after for n in EDGES), HOME_S)
    day.measure(
        "edges that go on with the journal", 2 if follows else "not all", "2", holds=bool(follows)
    )
    seen = [_revisions(fleet, name) for name, mode in CLIENTS.items() if mode == "sdk"]
    back = sum(each != sorted(each) for each in seen)
    day.measure(
        "SDK clients that went back a revision",
        back,
        f"0 of {len(seen)}",
        holds=not back and all(seen),
    )
    wrong = _wrong_since(fleet, began_s)
    day.measure("wrong or failed answers since all had it", wrong, "0", holds=not wrong)
    url = f"{edges[0]}/{ENVIRONMENT}/shop/ofrep/v1/evaluate/flags/{counter.key}"
    value = (ask("POST", url, {"context": counter.context}).body or {}).get("value")
    day.measure("the pushed value still stands", str(value), str(PUSHED), holds=value == PUSHED)


def _digest(url: str) -> str:
    listed = ask("GET", f"{url}/v1/catalogue").body or {}
    found = [
        one["digest"]
        for one in listed.get("subjects", ())
        if (one["environment"], one["service"]) == (ENVIRONMENT, "shop")
    ]
    return found[0] if found else ""


def _next_edit(fleet: Fleet) -> dict[str, Any]:
    to = {
        "type": "boolean",
        "variants": {"yes": True},
        "environments": {ENVIRONMENT: {"default": "yes"}},
    }
    return fleet.put("over", to)


def _revisions(fleet: Fleet, name: str) -> list[int]:
    """Those that a client had, as time went on."""
    seen = [line.revisions.get("shop", 0) for line in fleet.readers[name].read()]
    return [revision for revision in seen if revision]


def _wrong_since(fleet: Fleet, from_s: float) -> int:
    lines = [line for name in CLIENTS for line in fleet.readers[name].read()]
    return sum(line.wrong + line.failed for line in lines if line.at_s > from_s)


DRILL = Drill(
    name="facebook-2021",
    title="All dead but the edge",
    outage=(
        "Facebook, 4 October 2021: all DNS sites judged themselves unhealthy, since their way to "
        "the data centres was gone, and withdrew at once. The tools for the repair needed what "
        "was down."
    ),
    rehearsal=(
        "the control plane is killed, its disk taken away and with it who issues tokens. Edges "
        "have to go on, and a change that is signed with a key from a safe has to reach every "
        "client through them. Then the control plane comes back."
    ),
    run=run,
)
