"""`crowdstrike-2024`: a shape that a third of the fleet can't read, then a value that kills."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from holdfast.core.model import Contract, Need, PutSetting, Setting
from holdfast.gameday.crew import Crew, Member
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.faults import force
from holdfast.gameday.fleet import ENVIRONMENT, Fleet
from holdfast.gameday.processes import until_or_not

OLD: Final = Contract(
    needs={
        "limits": Need(
            type="object",
            schema={"type": "object", "required": ["requests", "burst", "paths"]},
        )
    },
    environments=(ENVIRONMENT,),
    version="20-fields",
)
"""What the old sensor reads: it knows nothing of a snapshot without these."""
FATAL: Final = 666
RESTARTS_MAX: Final = 3
WATCHED_S: Final = 40.0
SETTLE_S: Final = 3.0
STEADY_S: Final = 4.0
"""Without a death for so long a program counts as serving again."""


def run(day: Day) -> None:
    with Fleet(day) as fleet, Crew(fleet) as crew:
        fleet.begin()
        edge = [fleet.edge_urls["edge-a"]]
        if day.protected:
            contract = msgspec.to_builtins(OLD)
            found = fleet.api(
                "PUT", "/v1/services/shop/contracts/old-sensor", {"contract": contract}
            )
            if found.status >= 300:
                day.note("damage", f"the contract is refused: {found.body}")
        for number, ring in enumerate(("ring1", "general", "general")):
            old = number == 2
            crew.hire(
                f"sensor-{number}-{'old' if old else 'new'}",
                ["limits", "counter"],
                [{"targetingKey": f"u{number}", "ring": ring}],
                edge,
                ring=ring,
                crashes_on={"counter": FATAL},
                needs={"limits": ("burst",)} if old else {},
                contract=OLD if old else None,
                probation_s=60.0,
            )
        crew.wait_serving()
        day.note("step", "three programs; the old one needs a member that the new ones do not")
        _refused_at_the_door(day, fleet)
        _forced(day, fleet, crew)
        _fatal(day, fleet, crew)
        day.measure(
            "reads that raised", crew.total("exceptions"), "0", holds=not crew.total("exceptions")
        )
        day.root_cause = "content that its reader can't read, and content that kills it"
        day.stopped_by = (
            "the contract at the write door, the contract at the consumer, the first ring, and "
            "a crash streak that goes back a generation"
        )
        day.affected = f"{crew.deaths()} deaths of programs in all"


def _narrowed(fleet: Fleet) -> dict[str, Any]:
    """`limits` without the member that the old program reads."""
    to = fleet.setting("limits")
    variants = {
        name: {k: v for k, v in value.items() if k != "burst"}
        for name, value in to["variants"].items()
    }
    return {**to, "variants": variants, "extends": {}}


def _refused_at_the_door(day: Day, fleet: Fleet) -> None:
    found = fleet.try_commit(edits=[fleet.put("limits", _narrowed(fleet))], reason="21 fields")
    named = found.status in (409, 422) and "old-sensor" in str(found.body)
    day.note("blocked" if named else "damage", f"publish: {found.status} {str(found.body)[:200]}")
    day.measure(
        "publishing what a third can't read", f"status {found.status}",
        "refused, naming the consumer", holds=named,
    )  # fmt: skip


def _forced(day: Day, fleet: Fleet, crew: Crew) -> None:
    before = crew.deaths()
    if day.protected:
        to = msgspec.convert(_narrowed(fleet), Setting)
        revision = force(fleet.data_dir, [PutSetting("shop", "limits", to)], "past validation")
        day.note("fault", f"revision {revision}: forced into the journal, past validation")
    time.sleep(SETTLE_S)
    old = crew.members["sensor-2-old"]
    refused = old.last.refused if old.last else {}
    deaths = crew.deaths() - before
    text = f"the old program refused: {refused}; deaths: {deaths}"
    day.note("damage" if deaths else "blocked", text)
    day.measure("crashes when it is forced past validation", deaths, "0", holds=not deaths)
    day.measure(
        "the old program keeps its last proven generation", str(refused) or "no refusal",
        "a NACK by its contract", holds=any("contract" in code for code in refused),
    )  # fmt: skip
    if day.protected:
        back = fleet.api("POST", "/v1/revert", {"revision": revision, "reason": "back"})
        day.note("step", f"taken back: {back.status}")
        time.sleep(1.0)


def _fatal(day: Day, fleet: Fleet, crew: Crew) -> None:
    before = {name: member.deaths for name, member in crew.members.items()}
    if day.protected:
        stages = [
            {"name": "ring1", "rings": ["ring1"], "bake_s": 60.0},
            {"name": "all", "percent": 100.0},
        ]
        fleet.policy(rollout={"stages": stages})
    fleet.commit(edits=[fleet.counter_edit(FATAL)], reason="a value that kills")
    day.note("fault", "a value is published that ends every program that reads it")
    end = time.monotonic() + WATCHED_S
    until_or_not(lambda: crew.deaths() > sum(before.values()), 15.0)
    until_or_not(lambda: all(_serves(m) for m in crew.members.values()), end - time.monotonic())
    died = {
        name: member.deaths - before[name]
        for name, member in crew.members.items()
        if member.deaths > before[name]
    }
    rings = sorted({crew.members[name].ring for name in died})
    serving = all(_serves(member) for member in crew.members.values())
    most = max(died.values(), default=0)
    day.note("recovered" if serving else "damage", f"deaths by program: {died}")
    day.measure(
        "programs that met it and died", len(died), "at least 1: it happened", holds=bool(died)
    )
    day.measure(
        "deaths of one program", most, f"at most {RESTARTS_MAX}", holds=most <= RESTARTS_MAX
    )
    day.measure("rings touched", ", ".join(rings) or "none", "at most 1", holds=len(rings) <= 1)
    day.measure("all programs serve again", str(serving), "by themselves", holds=serving)


def _serves(member: Member) -> bool:
    """Whether it runs, wrote a round a moment ago, and did not die for some seconds."""
    last, now_s = member.last, time.time()
    fresh = last is not None and now_s - last.at_s < 2.0
    return member.process.alive and fresh and now_s - member.died_s > STEADY_S


DRILL = Drill(
    name="crowdstrike-2024",
    title="CrowdStrike, 19 July 2024: content with 21 fields met a sensor of 20",
    outage=(
        "content with one field more than its reader supplied was sent to all at once; 8.5 million "
        "machines crashed, and crashed again at every start."
    ),
    rehearsal=(
        "a shape that one of three programs can't read is published, then forced past validation; "
        "then a value that ends every program that reads it."
    ),
    run=run,
)
