"""`cloudflare-2025-11`: what is generated doubles, or grows a hundredfold, again and again."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from holdfast.core.model import DeleteSetting, Edit, PutSetting, Setting, Targeting
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.faults import force
from holdfast.gameday.fleet import ENVIRONMENT, SERVICES, Fleet
from holdfast.gameday.naive import Ask
from holdfast.gameday.processes import ask, until_or_not

ROUNDS: Final = 10
EVERY_S: Final = 5.0
EVERY_SHORT_S: Final = 2.5
GROWTH_PERCENT: Final = 150.0
"""What the environment allows one change to make of a snapshot."""
ARRIVES_S_MAX: Final = 5.0


def run(day: Day) -> None:
    with Fleet(day) as fleet:
        fleet.begin()
        fleet.policy(shape={"growth_percent": GROWTH_PERCENT})
        _expect_what_stands(fleet)
        for name in ("sdk-1", "sdk-2"):
            fleet.watch(name, "sdk", [fleet.edge_urls["edge-a"]])
        fleet.watch("sdk-3", "sdk", [fleet.control_url])
        fleet.watch("ofrep-1", "ofrep", [fleet.edge_urls["edge-a"]], interval_s=0.5)
        for name in list(fleet.clients):
            fleet.wait_answering(name)
        bad: list[int] = []
        arrivals: list[float] = []
        rounds, every_s = (day.sample, EVERY_SHORT_S) if day.sample else (ROUNDS, EVERY_S)
        for number in range(rounds):
            began = time.monotonic()
            times = 2 if number % 2 == 0 else 100
            revision, keys = _grow(day, fleet, times)
            bad.append(revision)
            time.sleep(every_s / 2)
            _taken(day, fleet, bad[-1])
            arrivals.append(_shrink(fleet, keys))
            time.sleep(max(0.0, every_s - (time.monotonic() - began)))
        _judge(day, fleet, bad, arrivals)


def _expect_what_stands(fleet: Fleet) -> None:
    asks, right = [], []
    contexts = [{"targetingKey": f"u{n}", "tenant": "contoso", "user": "ada"} for n in range(5)]
    for service in SERVICES:
        url = f"{fleet.edge_urls['edge-a']}/{ENVIRONMENT}/{service}/ofrep/v1/evaluate/flags"
        for context in contexts:
            for flag in ask("POST", url, {"context": context}).body["flags"]:
                asks.append(Ask(service, flag["key"], context))
                right.append(flag.get("value"))
    fleet.expect(asks, right)


def _grow(day: Day, fleet: Fleet, times: int) -> tuple[int, list[str]]:
    """Past the write door, a snapshot of so many times the size; the revision, and what is new."""
    size = len(msgspec.json.encode(_snapshot(fleet)["snapshot"]))
    filler = Setting(
        "string",
        {"on": "x" * 2_000, "off": ""},
        {ENVIRONMENT: Targeting(default="on")},
    )
    count = max(1, size * (times - 1) // 2_400 + 1)
    keys = [f"generated-{number:05d}" for number in range(count)]
    edits: list[Edit] = [PutSetting("shop", key, filler) for key in keys]
    revision = force(fleet.data_dir, edits, "generated")
    day.note("fault", f"revision {revision}: {times} times the size, past every validator")
    return revision, keys


def _shrink(fleet: Fleet, keys: list[str]) -> float:
    """All that was generated taken back, a good change on top; seconds until the edge has it."""
    edits: list[Edit] = [DeleteSetting("shop", key) for key in keys]
    force(fleet.data_dir, edits, "what was generated is taken back")
    began = time.monotonic()
    revision = fleet.count_up()
    until_or_not(lambda: fleet.revision_at("edge-a") >= revision, 2 * ARRIVES_S_MAX)
    return time.monotonic() - began


def _snapshot(fleet: Fleet) -> dict[str, dict[str, dict[str, object]]]:
    url = f"{fleet.edge_urls['edge-a']}/{ENVIRONMENT}/shop/snapshot"
    body: dict[str, dict[str, dict[str, object]]] = ask("GET", url).body
    return body


def _taken(day: Day, fleet: Fleet, revision: int) -> None:
    """Note who activated the oversized snapshot."""
    at = fleet.revision_at("edge-a")
    if at >= revision:
        day.note("damage", f"the edge took revision {revision}")
    else:
        day.note("blocked", f"the edge stays at {at}")


def _judge(day: Day, fleet: Fleet, bad: list[int], arrivals: list[float]) -> None:
    activated = sorted(
        {
            revision
            for reader in fleet.readers.values()
            for line in reader.read()
            for revision in line.revisions.values()
            if revision in bad
        }
        | {r for r in bad if any(f"took revision {r}" in note.text for note in day.notes)}
    )
    dead = [n for n, p in (*fleet.clients.items(), *fleet.edges.items()) if not p.alive]
    log = fleet.edges["edge-a"].whole_log()
    alerts = sum('"code"' in line and '"shape"' in line for line in log.splitlines())
    answered, wrong, failed = fleet.totals()
    slowest = round(max(arrivals), 1)
    day.measure("processes that ended", ", ".join(dead) or 0, "0", holds=not dead)
    day.measure(
        "oversized snapshots that a consumer activated", len(activated), f"0 of {len(bad)}",
        holds=not activated,
    )  # fmt: skip
    day.measure(
        "alerts of the edge",
        alerts,
        f"at most one for each of {len(bad)}",
        holds=alerts <= len(bad),
    )
    day.measure("answers at clients", answered, "more than 0", holds=answered > 0)
    day.measure("wrong or failed answers", wrong + failed, "0", holds=wrong + failed == 0)
    day.measure(
        "good changes in between arrive within, s", slowest, f"{ARRIVES_S_MAX:.0f}",
        holds=slowest <= ARRIVES_S_MAX,
    )  # fmt: skip
    day.affected = "nobody" if not activated else "every consumer"
    day.root_cause = "a generator that doubled what it made, every few seconds, past all validators"
    day.stopped_by = "the growth that the policy allows: consumers hold each candidate to it"


DRILL = Drill(
    name="cloudflare-2025-11",
    title="Cloudflare, 18 November 2025: a generated file doubled past a limit",
    outage=(
        "a query returned its rows twice; the file made of them passed a limit of 200 entries, "
        "its readers panicked, and it was made anew every 5 minutes."
    ),
    rehearsal=(
        "every few seconds a snapshot of twice, then a hundred times the size is forced past the "
        "write door, signed by the real publisher, with good changes in between."
    ),
    run=run,
)
