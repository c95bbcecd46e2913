"""`disk-full`: disks full, read-only, failing to sync, cutting writes short; then well again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from holdfast.gameday.disks import KINDS, Disk, Kind, own_mounts
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fleet import ENVIRONMENT, SERVICES, Fleet
from holdfast.gameday.naive import Ask
from holdfast.gameday.processes import ask, until_or_not

HEALS_S_MAX: Final = 10.0
TAKEN_S: Final = 10.0
"""For a consumer to have a change in memory while its disk refuses."""
TRIES: Final = 3
"""Publishes on each kind of sick disk."""
SHORT_BYTES: Final = 65_536
"""Above what a consumer's log and notes come to, and below one generation."""
PADDING: Final = 60
"""Settings of 2 kB that make it so."""


class Seen(msgspec.Struct):
    """What was counted over all kinds."""

    publishes: int = 0
    acknowledged: int = 0
    classed: int = 0
    moved: int = 0
    unread: int = 0
    consumers: int = 0
    in_memory: int = 0
    told: int = 0
    publish_heals_s: float = 0.0
    cache_heals_s: float = 0.0
    not_healed: list[str] = []


def run(day: Day) -> None:
    own_mounts()
    kinds = KINDS[: day.sample] if day.sample else KINDS
    with Fleet(day) as fleet, contextlib.ExitStack() as stack:
        disks = {
            name: stack.enter_context(Disk(fleet.directory / name))
            for name in ("control", "edge-a", "sdk-1-cache")
        }
        fleet.begin()
        _pad(fleet)
        _expect_what_stands(fleet)
        fleet.watch("sdk-1", "sdk", [fleet.edge_urls["edge-a"]], interval_s=0.25)
        fleet.wait_answering("sdk-1")
        seen = Seen()
        for kind in kinds:
            _control(day, fleet, disks["control"], kind, seen)
            _consumers(day, fleet, disks, kind, seen)
        lost = _after_a_kill(day, fleet)
        _judge(day, fleet, seen, lost)


def _pad(fleet: Fleet) -> None:
    to = {
        "type": "string",
        "variants": {"on": "x" * 2_000},
        "environments": {ENVIRONMENT: {"default": "on"}},
    }
    edits = [fleet.put(f"padding-{number:02d}", to) for number in range(PADDING)]
    revision = fleet.commit(edits=edits, reason="a larger snapshot")
    until_or_not(lambda: fleet.revision_at("edge-a") >= revision, TAKEN_S)


def _expect_what_stands(fleet: Fleet) -> None:
    asks, right = [], []
    context = {"targetingKey": "u1", "tenant": "contoso", "user": "ada"}
    for service in SERVICES:
        url = f"{fleet.edge_urls['edge-a']}/{ENVIRONMENT}/{service}/ofrep/v1/evaluate/flags"
        for flag in ask("POST", url, {"context": context}).body["flags"]:
            if not flag["key"].startswith("padding-"):
                asks.append(Ask(service, flag["key"], context))
                right.append(flag.get("value"))
    fleet.expect(asks, right)


def _head(fleet: Fleet) -> int:
    return int(fleet.api("GET", "/v1/head").body["revision"])


def _control(day: Day, fleet: Fleet, disk: Disk, kind: Kind, seen: Seen) -> None:
    """Publishing on a sick disk, reading, and publishing when it is well."""
    before = _head(fleet)
    with disk.sick(kind, fleet.control.pid):
        day.note("fault", f"the control plane's disk: {kind}")
        for _ in range(TRIES):
            found = fleet.try_commit(edits=[fleet.next_count()], reason="on a sick disk")
            code = found.body["error"]["code"] if found.status >= 400 else ""
            seen.publishes += 1
            seen.acknowledged += found.status < 300
            seen.classed += found.status == 503 and code.startswith("disk-")
            day.note(
                "blocked" if found.status == 503 else "damage", f"publish: {found.status} {code}"
            )
        seen.moved += _head(fleet) != before
        for path in (f"/{ENVIRONMENT}/shop/snapshot", "/v1/services/shop", "/readyz"):
            seen.unread += fleet.api("GET", path).status != 200
    began = time.monotonic()

    def publishes() -> bool:
        found = fleet.try_commit(edits=[fleet.next_count()], reason="the disk is well")
        return found.status < 300

    _note_healed(day, seen, kind, {"publishing": publishes})
    seen.publish_heals_s = max(seen.publish_heals_s, time.monotonic() - began)


def _consumers(day: Day, fleet: Fleet, disks: dict[str, Disk], kind: Kind, seen: Seen) -> None:
    """A change while the disks of an edge and a client refuse; then they are well."""
    told_before = _edge_failures(fleet)
    with (
        disks["edge-a"].sick(kind, fleet.edges["edge-a"].pid, SHORT_BYTES),
        disks["sdk-1-cache"].sick(kind, fleet.clients["sdk-1"].pid, SHORT_BYTES),
    ):
        day.note("fault", f"the disks of an edge and of a client: {kind}")
        revision = fleet.count_up()
        seen.consumers += 2
        seen.in_memory += until_or_not(lambda: fleet.revision_at("edge-a") >= revision, TAKEN_S)
        seen.in_memory += until_or_not(lambda: _client_at(fleet) >= revision, TAKEN_S)
        seen.told += until_or_not(lambda: _edge_failures(fleet) > told_before, TAKEN_S)
        seen.told += until_or_not(lambda: bool(_cache_error(fleet)), TAKEN_S)
        day.note("blocked", f"both answer from revision {revision}, in memory")
    began = time.monotonic()
    name = f"{revision:016d}-*"
    waiting: dict[str, Callable[[], bool]] = {
        "the edge's disk": lambda: _there(fleet.directory / "edge-a", name),
        "the client's disk": lambda: _there(fleet.directory / "sdk-1-cache", name),
        "the client's status": lambda: not _cache_error(fleet),
    }
    _note_healed(day, seen, kind, waiting)
    seen.cache_heals_s = max(seen.cache_heals_s, time.monotonic() - began)


def _note_healed(day: Day, seen: Seen, kind: Kind, waiting: dict[str, Callable[[], bool]]) -> None:
    """Wait until all of it is well again after that."""
    if until_or_not(lambda: all(holds() for holds in waiting.values()), HEALS_S_MAX + 2.0):
        day.note("recovered", f"well again after {kind}: {', '.join(waiting)}")
        return
    sick = [f"{what} after {kind}" for what, holds in waiting.items() if not holds()]
    seen.not_healed += sick
    day.note("damage", f"not well again: {', '.join(sick)}")


def _there(where: Path, name: str) -> bool:
    return any(where.glob(f"**/generations/{ENVIRONMENT}/shop/{name}"))


def _client_at(fleet: Fleet) -> int:
    last = fleet.readers["sdk-1"].last
    return last.revisions.get("shop", 0) if last else 0


def _cache_error(fleet: Fleet) -> str:
    last = fleet.readers["sdk-1"].last
    return last.cache_error if last else ""


def _edge_failures(fleet: Fleet) -> float:
    """Writes that the edge's disk refused, by its metrics."""
    text = str(ask("GET", f"{fleet.edge_urls['edge-a']}/metrics").body)
    wanted = 'holdfast_follower_events_total{event="cache_failed"}'
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(wanted))


def _after_a_kill(day: Day, fleet: Fleet) -> int:
    """Acknowledged revisions that a control plane killed and started again does not have."""
    acknowledged = _head(fleet)
    fleet.control.kill()
    day.note("fault", "the control plane is killed, and started again")
    fleet.start_control()
    return max(0, acknowledged - _head(fleet))


def _judge(day: Day, fleet: Fleet, seen: Seen, lost: int) -> None:
    answered, wrong, failed = fleet.totals()
    for example in fleet.examples()[:5]:
        day.note("damage", example)
    day.measure(
        "publishes acknowledged on a sick disk",
        seen.acknowledged, f"0 of {seen.publishes}", holds=not seen.acknowledged,
    )  # fmt: skip
    day.measure(
        "publishes refused with 503 and the class of the fault",
        seen.classed, f"all {seen.publishes}", holds=seen.classed == seen.publishes,
    )  # fmt: skip
    day.measure(
        "refused publishes of which something stands", seen.moved, "0", holds=not seen.moved
    )
    day.measure(
        "reads of the control plane that failed meanwhile", seen.unread, "0", holds=not seen.unread
    )
    day.measure("acknowledged and lost after a kill", lost, "0", holds=not lost)
    slow = round(seen.publish_heals_s, 1)
    day.measure(
        "publishing goes on, s after the disk is well",
        slow, f"at most {HEALS_S_MAX:.0f}", holds=slow <= HEALS_S_MAX,
    )  # fmt: skip
    day.measure(
        "consumers that took a change in memory",
        seen.in_memory, f"all {seen.consumers}", holds=seen.in_memory == seen.consumers,
    )  # fmt: skip
    day.measure(
        "consumers that said so",
        seen.told, f"all {seen.consumers}", holds=seen.told == seen.consumers,
    )  # fmt: skip
    slow = round(seen.cache_heals_s, 1)
    day.measure(
        "all is on the consumers' disks, s after they are well",
        slow if not seen.not_healed else ", ".join(seen.not_healed),
        f"at most {HEALS_S_MAX:.0f}",
        holds=slow <= HEALS_S_MAX and not seen.not_healed,
    )
    day.measure("answers at clients", answered, "more than 0", holds=answered > 0)
    day.measure("wrong or failed answers", wrong + failed, "0", holds=wrong + failed == 0)
    day.affected = "nobody who reads; whoever published was told to try again"
    day.root_cause = "disks that are full, read-only, fail to sync, or cut writes short"
    day.stopped_by = (
        "a commit is acknowledged after its sync or not at all; consumers answer from memory, and "
        "write down what waits as soon as they can"
    )


DRILL = Drill(
    name="disk-full",
    title="Disks: full, read-only, fsync error, short write",
    promise=(
        "publish fails whole; reads unaffected; no acknowledgement after a failed fsync; heals in "
        "<= 10 s"
    ),
    rehearsal=(
        "the data directory of a control plane, then the caches of an edge and a client, lie on "
        "file systems that are filled, made read-only, fail to sync (EIO), or cut writes short, "
        "while changes are published and a client asks."
    ),
    run=run,
)
