"""`torn-cache`: files of a consumer's cache cut short, and bits of them flipped."""

from __future__ import annotations

import random
import shutil
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from holdfast.gameday.cold import Start, Started
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fleet import ENVIRONMENT, Fleet
from holdfast.gameday.processes import ask, until
from holdfast.gameday.tearing import Torn
from holdfast.gameday.watching import Case

FLIPS: Final = 10_000
EVERY_BYTES: Final = 512
STARTS: Final = 10
"""Cold starts on a torn newest generation."""
STARTS_SHORT: Final = 4
STARTED_S_MAX: Final = 0.2
ARRIVES_S: Final = 10.0


def run(day: Day) -> None:
    with Fleet(day) as fleet:
        cache = filled_cache(day, fleet)
        torn = _tear(day, fleet, cache)
        starts = list(_starts(day, fleet, cache))
        _judge(day, torn, starts)


def filled_cache(day: Day, fleet: Fleet) -> Path:
    """Three generations of what a client followed; then everything else is killed."""
    fleet.begin()
    fleet.expect([], [])
    _write_cases(fleet, [])
    reader = fleet.watch("sdk-1", "sdk", [fleet.edge_urls["edge-a"]])
    for _ in range(3):
        revision = fleet.count_up()
        until(
            lambda r=revision: (line := reader.last) and line.revisions.get("shop", 0) >= r,  # type: ignore[misc]
            "the change at the client",
            ARRIVES_S,
        )
    until(
        lambda: len(_kept(fleet.directory / "sdk-1-cache" / "shop")) == 3,
        "what it keeps",
        ARRIVES_S,
    )
    _write_cases(fleet, _standing(fleet))
    fleet.dismiss("sdk-1")
    for process in (*fleet.edges.values(), fleet.control):
        process.kill()
    day.note("fault", "control plane, edge and client are killed; the cache is what is left")
    return fleet.directory / "sdk-1-cache" / "shop"


def _standing(fleet: Fleet) -> list[Case]:
    """Every setting of the shop, as the edge answers it, with the counter of the one before too."""
    url = f"{fleet.edge_urls['edge-a']}/{ENVIRONMENT}/shop/ofrep/v1/evaluate/flags"
    context = {"targetingKey": "u1", "tenant": "contoso", "user": "ada"}
    flags = ask("POST", url, {"context": context}).body["flags"]
    return [
        Case(
            "shop",
            flag["key"],
            dict(context),
            (flag["value"], flag["value"] - 1) if flag["key"] == "counter" else (flag["value"],),
        )
        for flag in flags
        if flag.get("value") is not None
    ]


def _write_cases(fleet: Fleet, cases: list[Case]) -> None:
    fleet.cases_file.write_bytes(msgspec.json.encode(cases))


def _kept(cache: Path) -> list[Path]:
    folder = cache / "holdfast-1" / "generations" / ENVIRONMENT / "shop"
    return sorted(path for path in folder.glob("*") if "." not in path.name)


def _tear(day: Day, fleet: Fleet, cache: Path) -> Torn:
    """Every file of a copy, cut and flipped, read by the build under test."""
    copy = fleet.directory / "torn"
    shutil.copytree(cache, copy)
    flips = day.sample or FLIPS
    every = EVERY_BYTES if not day.sample else 8 * EVERY_BYTES
    process = fleet.client_process("tearing", "holdfast.gameday.tearing", str(copy))
    printed = process.output(fleet.good, str(day.seed), str(flips), str(every), timeout_s=600.0)
    torn = msgspec.json.decode(printed, type=Torn)
    day.note("fault", f"{torn.truncations} truncations and {torn.flips} bits of {torn.files} files")
    for example in torn.examples:
        day.note("damage", f"given back: {example}")
    return torn


def _starts(day: Day, fleet: Fleet, cache: Path) -> Iterator[Started]:
    """Clients that start on a torn newest generation, with everything dead."""
    chance = random.Random(day.seed)  # noqa: S311  a drill's chance
    for number in range(STARTS_SHORT if day.sample else STARTS):
        copy = fleet.directory / f"start-{number}"
        shutil.copytree(cache, copy)
        newest = _kept(copy)[-1]
        content = bytearray(newest.read_bytes())
        at = chance.randrange(len(content))
        if number % 2:
            content[at] ^= 1 << chance.randrange(8)
            newest.write_bytes(content)
        else:
            newest.write_bytes(content[:at])
        yield started(fleet, f"start-{number}", cache_dir=str(copy))


def started(fleet: Fleet, name: str, **more: object) -> Started:
    """A client of the shop started with everything dead."""
    start = Start(
        endpoints=(fleet.edge_urls["edge-a"], fleet.control_url),
        environment=ENVIRONMENT,
        service="shop",
        cases=str(fleet.cases_file),
    )
    path = fleet.directory / f"{name}.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(start, **more)))
    process = fleet.client_process(name, "holdfast.gameday.cold", str(path))
    return msgspec.json.decode(process.output(fleet.good), type=Started)


def measure_starts(day: Day, what: str, starts: Sequence[Started], bar_s: float) -> None:
    """By the CPU time of the median start: what it takes where nothing else runs beside.

    A sample is for any machine, and says nothing of speed.
    """
    if day.sample:
        return
    wall_ms = round(1_000 * statistics.median(one.took_s for one in starts))
    day.note("step", f"{what}: median {wall_ms} ms on this machine, with all that runs beside")
    cpu_ms = round(1_000 * statistics.median(one.cpu_s for one in starts), 1)
    bar_ms = 1_000 * bar_s
    day.measure(
        f"{what}: import included, CPU ms", cpu_ms, f"at most {bar_ms:.0f}", holds=cpu_ms <= bar_ms
    )


def _judge(day: Day, torn: Torn, starts: list[Started]) -> None:
    tried = torn.truncations + torn.flips
    previous = sum(one.right == one.asked and one.damaged == 1 for one in starts)
    day.measure("torn or rotten files", tried, "more than 0", holds=tried > 0)
    day.measure("detected", torn.detected, f"all {tried}", holds=torn.detected == tried)
    day.measure("given back all the same", torn.served, "0", holds=not torn.served)
    day.measure(
        "starts that answer right from the generation before",
        previous, f"all {len(starts)}", holds=previous == len(starts),
    )  # fmt: skip
    measure_starts(day, "a start on a torn cache", starts, STARTED_S_MAX)
    day.affected = "nobody" if not torn.served else "whoever starts"
    day.root_cause = "a disk that tore or lost what was written"
    day.stopped_by = "a checksum over every byte of every file, and the generation before"


DRILL = Drill(
    name="torn-cache",
    title="Torn or rotten cache",
    promise="100 % detected; 0 served; previous generation in <= 200 ms",
    rehearsal=(
        "every file of a client's cache is truncated at each 512 bytes, and 10,000 random bits are "
        "flipped; then clients start on a torn newest generation with everything else dead."
    ),
    run=run,
)
