"""`bad-value`: a value that is valid, and breaks the program that reads it."""

from __future__ import annotations

import time
from typing import Final

from holdfast.gameday.crew import Crew
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fleet import Fleet
from holdfast.gameday.processes import until_or_not

PROGRAMS: Final = 4
USERS: Final = 100
"""Of each program: 400 logical clients in all."""
EARLY: Final = 4
"""Of them in ring 1."""
BAD: Final = 9_001
WATCHED_S: Final = 45.0
"""After the change; the bar is 30 s."""
ROLLBACK_S_MAX: Final = 30.0
EXPOSED_PERCENT_MAX: Final = 1.0


def run(day: Day) -> None:
    with Fleet(day) as fleet, Crew(fleet) as crew:
        fleet.begin()
        stages = [
            {"name": "ring1", "rings": ["ring1"], "bake_s": 60.0},
            {"name": "all", "percent": 100.0},
        ]
        if day.protected:
            fleet.policy(rollout={"stages": stages})
        users = [
            {
                "targetingKey": f"u{n}",
                "ring": "ring1" if n % USERS < EARLY // PROGRAMS else "general",
            }
            for n in range(PROGRAMS * USERS)
        ]
        for number in range(PROGRAMS):
            mine = users[number * USERS : (number + 1) * USERS]
            crew.hire(
                f"program-{number}",
                ["counter"],
                mine,
                [fleet.edge_urls["edge-a"]],
                interval_s=0.5,
                breaks_on={"counter": BAD},
            )
        crew.wait_serving()
        day.note("step", f"{len(users)} clients in {PROGRAMS} processes, {EARLY} of them in ring 1")
        fleet.commit(edits=[fleet.counter_edit(BAD)], reason="a value that nobody has tried")
        day.note(
            "fault", f"counter becomes {BAD}: it is valid, and half of all requests fail with it"
        )
        began = time.time()
        until_or_not(lambda: _gone(crew, began), WATCHED_S, every_s=0.2)
        _judge(day, crew, len(users))


def _bad(crew: Crew) -> list[float]:
    """When requests met the value, in unix seconds."""
    rounds = (one for member in crew.members.values() for one in member.rounds())
    return sorted(one.at_s for one in rounds if one.meeting)


def _gone(crew: Crew, began_s: float) -> bool:
    """Whether it was there, and everybody has been without it for two seconds."""
    bad = _bad(crew)
    return bool(bad) and bad[-1] > began_s and time.time() - bad[-1] > 2.0


def _judge(day: Day, crew: Crew, users: int) -> None:
    bad, met = _bad(crew), crew.total("met")
    lasted_s = round(bad[-1] - bad[0], 1) if bad else 0.0
    over = bool(bad) and time.time() - bad[-1] > 2.0
    share = round(100 * met / users, 2)
    if bad:
        day.note("damage", f"{met} clients met the value, {crew.total('errors')} requests failed")
    if over:
        day.note("recovered", f"nobody meets it any more, {lasted_s} s after the first one did")
    day.measure("clients that met the value", met, "at least 1: the drill happened", holds=met > 0)
    day.measure(
        "from the first bad request to the last, s",
        lasted_s if over else f"not over after {WATCHED_S:.0f}",
        f"at most {ROLLBACK_S_MAX:.0f}",
        holds=over and lasted_s <= ROLLBACK_S_MAX,
    )
    day.measure(
        "clients ever exposed, %", share, f"at most {EXPOSED_PERCENT_MAX}",
        holds=share <= EXPOSED_PERCENT_MAX,
    )  # fmt: skip
    day.measure(
        "reads that raised", crew.total("exceptions"), "0", holds=not crew.total("exceptions")
    )
    day.affected = f"{met} of {users} clients; {crew.total('errors')} of their requests failed"
    day.root_cause = "a valid value that the programs can't work with"
    day.stopped_by = "the error gate of ring 1 rolled the change back" if over else ""


DRILL = Drill(
    name="bad-value",
    title="A valid value that breaks its consumer",
    outage="the commonest outage of all: somebody changes a setting, and what reads it breaks.",
    rehearsal=(
        "a value that passes every check makes half of the requests fail that read it. 400 clients "
        "follow; a hundredth of them is in the first ring."
    ),
    run=run,
)
