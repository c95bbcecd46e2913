"""`cloudflare-2025-12`: kill switches on every kind of setting and rule, ring by ring."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Final

from holdfast.gameday.crew import Crew
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fleet import ENVIRONMENT, Fleet
from holdfast.gameday.processes import until_or_not

RINGS: Final = ("ring0", "ring1", "ring2", "general")
DONE_S_MAX: Final = 10.0
WATCHED_S: Final = 25.0


def run(day: Day) -> None:
    with Fleet(day) as fleet, Crew(fleet) as crew:
        fleet.begin()
        stages = [
            {"name": "ring0", "rings": ["ring0"], "bake_s": 1.5},
            {"name": "ring1", "rings": ["ring1"], "bake_s": 1.5},
            {"name": "ring2", "rings": ["ring2"], "bake_s": 1.5},
            {"name": "all", "percent": 100.0},
        ]
        if day.protected:
            slow = [{**stage, "bake_s": 600.0} for stage in stages]
            fleet.policy(rollout={"stages": slow}, fast={"stages": stages})
        listed = fleet.api("GET", "/v1/services/shop/settings?limit=100").body["settings"]
        keys = sorted(line["key"] for line in listed if line["service"] == "shop")
        contexts = [
            {"targetingKey": f"u{n}", "user": user, "tenant": "contoso", "seats": n * 60}
            for n, user in enumerate(("ada", "member-7", "x"))
        ]
        for ring in RINGS:
            users = [{**context, "ring": ring} for context in contexts]
            crew.hire(ring, keys, users, [fleet.edge_urls["edge-a"]], ring=ring, interval_s=0.1)
        crew.wait_serving()
        already = {
            name: member.last.off if member.last else 0 for name, member in crew.members.items()
        }
        day.note(
            "step", f"{len(keys)} settings of every kind, a program in each of {len(RINGS)} rings"
        )
        edits = []
        for key in keys:
            to = fleet.setting(key)
            targeting = {**to["environments"][ENVIRONMENT], "enabled": False}
            environments = {**to["environments"], ENVIRONMENT: targeting}
            edits.append(fleet.put(key, {**to, "environments": environments}))
        began = time.time()
        fleet.commit(edits=edits, reason="kill everything")
        day.note("fault", "every setting is killed in one change")
        all_off = len(keys) * len(contexts)
        until_or_not(lambda: all(_off(crew, r, all_off) for r in RINGS), WATCHED_S)
        _judge(day, crew, began, all_off, already)


def _off(crew: Crew, ring: str, all_off: int) -> float:
    """When the ring had everything switched off first, in unix seconds; 0 if not yet."""
    return next((one.at_s for one in crew.members[ring].rounds() if one.off >= all_off), 0.0)


def _judge(day: Day, crew: Crew, began: float, all_off: int, already: dict[str, int]) -> None:
    times = [_off(crew, ring, all_off) for ring in RINGS]
    done = all(times)
    after = [round(at - began, 1) if at else None for at in times]
    for ring, at in zip(RINGS, after, strict=True):
        day.note("blocked" if at else "damage", f"{ring} is switched off after {at} s")
    took = max(times) - began if done else WATCHED_S
    gaps = [later - sooner for sooner, later in pairwise(times)]
    in_order = done and all(gap > 0.5 for gap in gaps)
    day.measure(
        "all rings, s",
        round(took, 1),
        f"at most {DONE_S_MAX:.0f}",
        holds=done and took <= DONE_S_MAX,
    )
    day.measure(
        "ring by ring, s after the change", str(after), "one after the other", holds=in_order
    )
    day.measure(
        "reads that raised", crew.total("exceptions"), "0", holds=not crew.total("exceptions")
    )
    day.measure("failed answers", crew.total("failed"), "0", holds=not crew.total("failed"))
    day.measure("programs that died", crew.deaths(), "0", holds=not crew.deaths())
    day.affected = "everybody, as meant: a kill switch reaches all"
    day.root_cause = f"a kill switch on each of {len(already)} rings' settings"
    day.stopped_by = "nothing had to: the faster plan still goes ring by ring" if in_order else ""


DRILL = Drill(
    name="cloudflare-2025-12",
    title="Cloudflare, 5 December 2025: a kill switch met a rule that it had never been used on",
    outage=(
        "a kill switch was applied to a kind of rule on which it had never been used; the code "
        "that read the result raised, everywhere at once: switches skipped the rollout."
    ),
    rehearsal=(
        "every kind of setting and rule is switched off in one change, with programs in 4 rings; "
        "the change must reach all in 10 s, and still ring by ring."
    ),
    run=run,
)
