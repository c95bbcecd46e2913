"""`google-2025`: blank, null and missing in every field of every object; then the herd."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from holdfast.core.snapshot import Freshness
from holdfast.gameday import herd
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.faults import Forge, Upstream
from holdfast.gameday.fleet import ENVIRONMENT, Fleet
from holdfast.gameday.naive import Ask
from holdfast.gameday.processes import ask, until_or_not

MISSING: Final = object()
BLANKS: Final = {"blank": "", "null": None, "missing": MISSING}
SAMPLES: Final = 2
"""Places of one kind that are tried: of 30 settings' `type`, two."""
TAKEN_S: Final = 3.0
"""For a client to look at one forged snapshot; it polls every 50 ms."""
KEYED: Final = frozenset(
    {"flags", "settings", "schemas", "removed", "segments", "$evaluators", "probes", "variants"}
    | {"environments", "rollouts", "weights", "attributes"}
)
"""Objects whose keys are names of things, no fields."""


def run(day: Day) -> None:
    with Fleet(day) as fleet:
        fleet.begin()
        contexts = [{"targetingKey": f"u{n}", "tenant": "contoso", "user": "ada"} for n in range(3)]
        asks, right = [], []
        for context in contexts:
            url = f"{fleet.edge_urls['edge-a']}/{ENVIRONMENT}/shop/ofrep/v1/evaluate/flags"
            for flag in ask("POST", url, {"context": context}).body["flags"]:
                asks.append(Ask("shop", flag["key"], context))
                right.append(flag.get("value"))
        fleet.expect(asks, right)
        fleet.watch("sdk-1", "sdk", [fleet.edge_urls["edge-a"]])
        fleet.wait_answering("sdk-1")
        _at_the_door(day, fleet)
        _in_snapshots(day, fleet)
        herd.measure(day, fleet)
        answered, wrong, failed = fleet.totals()
        dead = [n for n, p in (*fleet.clients.items(), *fleet.edges.items()) if not p.alive]
        dead += [] if fleet.control.alive else ["control"]
        day.measure("processes that ended", ", ".join(dead) or 0, "0", holds=not dead)
        day.measure("answers at clients", answered, "more than 0", holds=answered > 0)
        day.measure("wrong or failed answers", wrong + failed, "0", holds=wrong + failed == 0)
        for example in fleet.examples()[:5]:
            day.note("damage", example)
        day.affected = f"{wrong + failed} answers" if wrong + failed else "nobody"
        day.root_cause = "blank, null and missing fields"
        day.stopped_by = (
            "strict decoding at the write door and at every consumer, probes, and gentle starts"
        )


def _at_the_door(day: Day, fleet: Fleet) -> None:
    """Each field of each kind of edit, at the API."""
    tried = refused = broken = 0
    for edit in _edits():
        for _, mutated in _mutations(edit):
            found = fleet.try_commit(edits=[mutated], reason="blank")
            tried += 1
            refused += 400 <= found.status < 500
            if found.status >= 500 or found.status == 0:
                broken += 1
                day.note(
                    "damage", f"{found.status} for {msgspec.json.encode(mutated).decode()[:200]}"
                )
    accepted = tried - refused - broken
    day.note("blocked", f"at the API {tried} tried, {refused} refused, {accepted} mean something")
    day.measure(
        "edits with a blank field that break the API", broken, f"0 of {tried}", holds=not broken
    )


def _edits() -> list[dict[str, Any]]:
    """One of each kind, of a service that nobody reads."""
    setting = {
        "type": "integer",
        "variants": {"a": 1, "b": 2},
        "description": "x",
        "schema": {"minimum": 0},
        "metadata": {"team": "x"},
        "environments": {
            ENVIRONMENT: {
                "default": "a",
                "enabled": True,
                "rules": [
                    {"name": "one", "logic": {"==": [{"var": "ring"}, "x"]}, "serve": "b"},
                    {"split": {"weights": {"a": 1, "b": 2}, "by": "user", "seed": "s"}},
                ],
            }
        },
    }
    segment = {"audience": {"by": "tenant", "members": ["x"]}, "description": "x"}
    service = {"owners": ["x"], "description": "x", "depends_on": [], "includes": ["shared"]}
    return [
        {"type": "put-service", "service": "blank", "to": service},
        {"type": "put-segment", "service": "blank", "segment": "some", "to": segment},
        {"type": "put-setting", "service": "blank", "key": "some", "to": setting},
        {"type": "delete-setting", "service": "blank", "key": "other"},
    ]


def _mutations(document: Any) -> Iterator[tuple[str, Any]]:
    """(what was done, the document with that done) for each field, a few places of each kind."""
    tried: dict[str, int] = {}
    for path, kind in _fields(document, (), ""):
        tried[kind] = tried.get(kind, 0) + 1
        if tried[kind] > SAMPLES:
            continue
        for name, blank in BLANKS.items():
            mutated = copy.deepcopy(document)
            place = mutated
            for part in path[:-1]:
                place = place[part]
            if blank is MISSING:
                del place[path[-1]]
            else:
                place[path[-1]] = blank
            yield f"{kind} {name}", mutated


def _fields(value: Any, path: tuple[Any, ...], kind: str) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(value, dict):
        named = bool(path) and path[-1] in KEYED
        for key, item in value.items():
            below = f"{kind}/*" if named else f"{kind}/{key}"
            yield (*path, key), below
            yield from _fields(item, (*path, key), below)
    elif isinstance(value, list):
        for number, item in enumerate(value[:SAMPLES]):
            yield from _fields(item, (*path, number), f"{kind}/-")


def _in_snapshots(day: Day, fleet: Fleet) -> None:
    """Forged with the real keys, each field blank, handed to a client that has the true one."""
    url = f"{fleet.edge_urls['edge-a']}/{ENVIRONMENT}/shop"
    document = ask("GET", f"{url}/snapshot").body["snapshot"]
    forge, name = Forge(fleet.data_dir), f"{ENVIRONMENT}/shop"
    shared = ask("GET", f"{fleet.edge_urls['edge-a']}/{ENVIRONMENT}/shared/snapshot").body[
        "snapshot"
    ]
    with Upstream() as upstream:
        for each in document["holdfast"]["segments"].values():
            upstream.tables[each["digest"]] = fleet.table(each["digest"])
        made, bundle = forge.bundle(document)
        fresh = _fresh(forge, document, made)
        upstream.put(name, made, bundle, fresh)
        upstream.put(
            f"{ENVIRONMENT}/shared",
            *forge.bundle(shared),
            _fresh(forge, shared, forge.bundle(shared)[0]),
        )
        reader = fleet.watch("forged", "sdk", [upstream.url], interval_s=0.05, poll_interval_s=0.05)
        fleet.wait_answering("forged")
        tried = looked = 0
        taken: list[str] = []
        revision = document["holdfast"]["revision"]
        mutations = list(_mutations(document))
        if day.sample:
            mutations = day.chance.sample(mutations, min(day.sample, len(mutations)))
        for what, mutated in mutations:
            tried += 1
            block = mutated.get("holdfast")
            if isinstance(block, dict) and "revision" in block and "/holdfast/revision" not in what:
                revision += 1
                block["revision"] = revision
                block["previous"] = None if "/previous" not in what else block.get("previous")
            asked = upstream.asked
            upstream.put(name, *forge.bundle(mutated), fresh)
            looked += until_or_not(lambda a=asked: upstream.asked >= a + 2, TAKEN_S)  # type: ignore[misc]
            if not fleet.clients["forged"].alive:
                taken.append(f"{what}: the client ended")
                break
        time.sleep(0.3)
        last = reader.last
        refused = sum(last.refused.values()) if last else 0
        activated = len({line.revisions.get("shop") for line in reader.read()}) - 1
    day.note("blocked", f"in snapshots {tried} forged, {looked} looked at, {activated} activated")
    day.measure(
        "forged snapshots that the client looked at", looked, f"all {tried}", holds=looked == tried
    )
    day.measure("refusals of forged snapshots", refused, "more than 0", holds=refused > 0)
    for text in taken:
        day.note("damage", text)


def _fresh(forge: Forge, document: dict[str, Any], made: str) -> bytes:
    block = document["holdfast"]
    return forge.freshness(
        Freshness(
            service=block["service"],
            environment=block["environment"],
            revision=block["revision"],
            digest=made,
            journal_revision=block["revision"],
            journal_head=block["journal_head"],
            at_ms=int(time.time() * 1000),
        )
    )


DRILL = Drill(
    name="google-2025",
    title="Google Cloud, 12 June 2025: blank fields, and a herd on restart",
    outage=(
        "a policy with blank fields was replicated worldwide within seconds; its reader followed a "
        "null pointer and crashed, in every region; on their restart all asked the store at once."
    ),
    rehearsal=(
        "every field of every kind of edit is blank, null or missing at the API; then every "
        "field of a snapshot, signed with the real keys and handed to a client; then 100 clients "
        "are killed and started again at once."
    ),
    run=run,
)
