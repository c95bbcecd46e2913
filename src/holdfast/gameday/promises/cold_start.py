"""`cold-start`: everything is dead, and a client starts: with a cache, and without one."""

from __future__ import annotations

from typing import Final

from holdfast.gameday.cold import Started
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fleet import Fleet
from holdfast.gameday.promises.torn_cache import filled_cache, measure_starts, started

STARTS: Final = 15
STARTS_SHORT: Final = 5
CACHED_S_MAX: Final = 0.2
DEFAULTS_S_MAX: Final = 1.0
BUNDLED: Final = 4_711


def run(day: Day) -> None:
    count = STARTS_SHORT if day.sample else STARTS
    with Fleet(day) as fleet:
        cache = filled_cache(day, fleet)
        kept = str(cache) if day.protected else ""
        cached = [started(fleet, f"cached-{n}", cache_dir=kept) for n in range(count)]
        day.note("step", f"{count} clients started from the cache")
        bare = [started(fleet, f"bare-{n}", defaults=_bundled(fleet)) for n in range(count)]
        day.note("step", f"{count} clients started without one")
        _judge(day, cached, bare)


def _bundled(fleet: Fleet) -> dict[str, int]:
    """The same number for every key that a program reads."""
    return {case.key: BUNDLED for case in fleet.cases()}


def _judge(day: Day, cached: list[Started], bare: list[Started]) -> None:
    right = sum(one.right == one.asked > 0 for one in cached)
    day.measure(
        "starts with a cache that answer everything right",
        right, f"all {len(cached)}", holds=right == len(cached),
    )  # fmt: skip
    measure_starts(day, "answering with a cache", cached, CACHED_S_MAX)
    answering = sum(not one.failed and one.origin == "defaults" for one in bare)
    loud = sum(any("defaults" in text for text in one.warnings) for one in bare)
    day.measure(
        "starts without one that answer from bundled defaults",
        answering, f"all {len(bare)}", holds=answering == len(bare),
    )  # fmt: skip
    day.measure("that say so, loudly", loud, f"all {len(bare)}", holds=loud == len(bare))
    measure_starts(day, "answering without a cache", bare, DEFAULTS_S_MAX)
    day.affected = "nobody" if right == len(cached) else "every client that starts"
    day.root_cause = "nothing behind the client is alive"
    day.stopped_by = "the last proven generation on the client's own disk; bundled defaults"


DRILL = Drill(
    name="cold-start",
    title="All dead, cold start of a client",
    promise="answering in <= 200 ms; without a disk cache bundled defaults in <= 1 s, and loudly",
    rehearsal=(
        "control plane and edge are killed; clients start, each in a process of its own, with a "
        "disk cache and without one."
    ),
    run=run,
)
