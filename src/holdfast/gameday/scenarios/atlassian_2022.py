"""`atlassian-2022`: half of all settings deleted with a valid token, and brought back."""

from __future__ import annotations

import time
from typing import Final

from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fleet import Fleet
from holdfast.gameday.naive import Ask
from holdfast.gameday.processes import Answered, ask, until_or_not

RESTORE_S_MAX: Final = 60.0
SETTLE_S: Final = 3.0


def run(day: Day) -> None:
    with Fleet(day) as fleet:
        fleet.begin()
        if not day.protected:
            fleet.policy(deletion_percent=100.0, shape={"lost_percent": 100.0})
        listed = fleet.api("GET", "/v1/services/shop/settings?limit=100").body["settings"]
        keys = sorted(line["key"] for line in listed if line["service"] == "shop")
        doomed = keys[::2]
        _expect(fleet, keys)
        for name in ("sdk-1", "sdk-2"):
            fleet.watch(name, "sdk", [fleet.edge_urls["edge-a"]])
        fleet.watch("ofrep-1", "ofrep", [fleet.edge_urls["edge-a"]], interval_s=0.5)
        for name in list(fleet.clients):
            fleet.wait_answering(name)
        edits = [{"type": "delete-setting", "service": "shop", "key": key} for key in doomed]
        day.note(
            "fault", f"a valid token deletes {len(doomed)} of {len(keys)} settings in one change"
        )
        found = fleet.try_commit(edits=edits, reason="clean up")
        refused = found.status in (403, 409, 422)
        day.note(
            "blocked" if refused else "damage",
            _told(found),
        )
        time.sleep(SETTLE_S)
        _, wrong, failed = fleet.totals()
        day.measure(
            "deleting half with one token", f"status {found.status}", "takes a second person",
            holds=refused,
        )  # fmt: skip
        day.measure(
            "failed or wrong answers, before anybody else agrees",
            wrong + failed,
            "0",
            holds=wrong + failed == 0,
        )
        gone = True
        if refused:
            gone = _by_two(day, fleet, edits)
        _restore(day, fleet, len(doomed), gone=gone)


def _expect(fleet: Fleet, keys: list[str]) -> None:
    """What stands now is right."""
    asks, right = [], []
    url = f"{fleet.edge_urls['edge-a']}/production/shop/ofrep/v1/evaluate/flags"
    context = {"targetingKey": "u1", "tenant": "contoso", "ring": "general", "user": "ada"}
    for flag in ask("POST", url, {"context": context}).body["flags"]:
        if flag["key"] in keys and "errorCode" not in flag:
            asks.append(Ask("shop", flag["key"], context))
            right.append(flag.get("value"))
    fleet.expect(asks, right)


def _by_two(day: Day, fleet: Fleet, edits: list[dict[str, str]]) -> bool:
    """The same with a second person who agrees; whether it was committed."""
    proposed = fleet.api("POST", "/v1/changes", {"edits": edits, "reason": "clean up, really"})
    if proposed.status >= 300:
        day.note("damage", f"can't propose: {proposed.body}")
        return False
    change, digest = proposed.body["id"], proposed.body["digest"]
    scopes = [{"verbs": ["admin"]}]
    second = fleet.api("POST", "/v1/tokens", {"name": "second person", "scopes": scopes}).body
    path = f"/v1/changes/{change}"
    own = fleet.api("POST", f"{path}/approve", {"digest": digest})
    agreed = fleet.api("POST", f"{path}/approve", {"digest": digest}, token=second["token"])
    done = fleet.api("POST", f"{path}/commit", {"digest": digest})
    day.note(
        "step",
        f"own approval: {own.status}; a second person's: {agreed.status}; commit: {done.status}",
    )
    day.measure(
        "with a second person", f"status {done.status}", "goes through", holds=done.status < 300
    )
    time.sleep(SETTLE_S)
    return done.status < 300


def _restore(day: Day, fleet: Fleet, doomed: int, *, gone: bool) -> None:
    began = time.monotonic()
    found = fleet.api("POST", "/v1/revert", {"revision": _head(fleet)}) if gone else None
    if found is not None and found.status >= 300:
        day.note("damage", f"revert: {found.status} {str(found.body)[:200]}")
    revision = _head(fleet)
    back = until_or_not(lambda: _whole(fleet, revision), RESTORE_S_MAX)
    took = round(time.monotonic() - began, 1)
    day.note("recovered" if back else "damage", f"everything is back after {took} s")
    day.measure("restore, s", took if back else "never", f"at most {RESTORE_S_MAX:.0f}", holds=back)
    answered, wrong, failed = fleet.totals()
    day.measure("answers at clients", answered, "more than 0", holds=answered > 0)
    day.measure("wrong answers", wrong, "0", holds=wrong == 0)
    day.affected = f"{failed} of {answered} answers failed while {doomed} settings were away"
    day.root_cause = "a clean-up with a valid token, and with the wrong list"
    day.stopped_by = (
        "more than 5 % of a service takes a second person; consumers give up no more of their "
        "settings at once than their shape budget"
    )


def _told(found: Answered) -> str:
    return f"the write door: {found.status} {str(found.body)[:200]}"


def _head(fleet: Fleet) -> int:
    return int(fleet.api("GET", "/v1/head").body["revision"])


def _whole(fleet: Fleet, revision: int) -> bool:
    """Whether the edge has the newest, and the last looks of all clients were without failures."""
    lasts = [reader.last for reader in fleet.readers.values()]
    fine = all(last is not None and last.ready and not last.failed for last in lasts)
    return fine and fleet.revision_at("edge-a") >= revision


DRILL = Drill(
    name="atlassian-2022",
    title="Atlassian, April 2022: a script deleted 883 sites",
    outage="a maintenance script with valid rights was given the wrong list, and deleted for good.",
    rehearsal=(
        "half of all settings are deleted in one change with a valid token; then with a second "
        "person who agrees; then all of it is brought back."
    ),
    run=run,
)
