"""`authentication`: every route with every kind of bad token; then a store that somebody edits."""

from __future__ import annotations

import itertools
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.apps.control.openapi_file import document
from holdfast.core.errors import Unavailable
from holdfast.core.history import encode_entry, seal
from holdfast.core.model import GENESIS, Head
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fleet import ENVIRONMENT, Fleet
from holdfast.gameday.processes import Answered, ask, until, until_or_not

FOUND_S_MAX: Final = 60.0
CANARY: Final = "canary-of-the-shop-4711"
PUBLIC: Final = frozenset({"/healthz", "/readyz", "/metrics"})
EDGE_ROUTES: Final = (
    ("GET", "/v1/catalogue"),
    ("GET", "/v1/stream"),
    ("POST", "/v1/reports"),
    ("POST", "/v1/push"),
    ("GET", "/production/shop/snapshot"),
    ("GET", "/production/shop/segments/" + "a" * 64),
    ("POST", "/production/shop/ofrep/v1/evaluate/flags"),
    ("POST", "/production/shop/ofrep/v1/evaluate/flags/canary"),
    ("GET", "/production/shop/ofrep/v1/stream"),
    ("GET", "/config/v1/shop/1.0"),
)
NAMED: Final = {
    "environment": ENVIRONMENT,
    "service": "shop",
    "key": "canary",
    "revision": "1",
    "consumer": "gameday-client",
    "segment": "pilot",
}
"""What stands for a parameter of a path; all others are `some`."""


class Route(msgspec.Struct, frozen=True):
    """One way to ask; whether its path names the shop, and production."""

    base: str
    method: str
    path: str
    service: bool
    environment: bool


class Tried(msgspec.Struct):
    """What came of all requests."""

    requests: int = 0
    let_in: list[str] = []
    leaks: list[str] = []
    statuses: Counter[int] = msgspec.field(default_factory=Counter)


def run(day: Day) -> None:
    with Fleet(day, open_reads=not day.protected) as fleet:
        fleet.begin()
        _plant(fleet)
        tokens = _tokens(fleet)
        secrets = [*_secrets(fleet), *tokens.values()]
        routes = list(_routes(fleet))
        tried = Tried()
        for route, (kind, token) in itertools.product(routes, tokens.items()):
            if kind not in BAD and not _forbidden(route, kind):
                continue
            _try(tried, route, kind, token, secrets)
        day.note("step", f"{len(routes)} routes, {len(tokens)} kinds of bad tokens")
        for text in (*tried.let_in[:10], *tried.leaks[:10]):
            day.note("damage", text)
        found_s = _edited(day, fleet)
        _judge(day, tried, len(routes), found_s)


BAD: Final = ("none", "garbage", "wrong secret", "expired", "revoked")


def _forbidden(route: Route, kind: str) -> bool:
    """Whether a token that is good elsewhere may not be let in there."""
    if kind == "reader":
        return route.method != "GET" and not route.path.startswith(("/production", "/config"))
    return route.service if kind == "other service" else route.environment


def _plant(fleet: Fleet) -> None:
    """A value that must never come out."""
    to = {
        "type": "string",
        "variants": {"on": CANARY},
        "environments": {ENVIRONMENT: {"default": "on"}},
    }
    revision = fleet.commit(edits=[fleet.put("canary", to)], reason="a canary")
    until(lambda: fleet.revision_at("edge-a") >= revision, "the canary at the edge", 30.0)


def _tokens(fleet: Fleet) -> dict[str, str]:
    """Kind -> text: none of them may do what is asked."""
    now_s = int(time.time())
    revoked = _issue(fleet, {"verbs": ["admin"]}, "revoked")
    fleet.api("DELETE", f"/v1/tokens/{revoked.split('_')[1]}")
    good = _issue(fleet, {"verbs": ["admin"]}, "good")
    tokens = {
        "none": "",
        "garbage": "hf_0000000000000000_" + "0" * 64,
        "wrong secret": good[:-4] + ("0000" if good[-4:] != "0000" else "1111"),
        "expired": _issue(fleet, {"verbs": ["admin"]}, "expired", now_s + 1),
        "revoked": revoked,
        "other service": _issue(fleet, {"verbs": ["admin"], "service": "other"}, "elsewhere"),
        "other environment": _issue(
            fleet, {"verbs": ["admin"], "environment": "staging", "service": "shop"}, "staging"
        ),
        "reader": _issue(fleet, {"verbs": ["read"]}, "reader"),
    }
    last = _issue(fleet, {"verbs": ["read"]}, "last")
    url = f"{fleet.edge_urls['edge-a']}/v1/catalogue"
    until(lambda: ask("GET", url, token=last).status == 200, "all tokens at the edge", 30.0)
    time.sleep(max(0.0, now_s + 2 - time.time()))
    return tokens


def _issue(fleet: Fleet, scope: dict[str, Any], name: str, expires_s: int = 0) -> str:
    body: dict[str, Any] = {"name": name, "scopes": [scope], "expires_s": expires_s}
    found = fleet.api("POST", "/v1/tokens", body)
    if found.status != 201:
        raise Unavailable(f"no token: {found}")
    return str(found.body["token"])


def _secrets(fleet: Fleet) -> list[str]:
    """What no answer may hold: the canary, tokens, hashes of tokens, lines of private keys."""
    found = [CANARY, fleet.token, "secret_sha256"]
    for path in (fleet.data_dir / "keys").rglob("*"):
        if path.is_file() and b"PRIVATE" in (content := path.read_bytes()):
            found += [line for line in content.decode().splitlines() if len(line) > 30]
    return found


def _routes(fleet: Fleet) -> Iterator[Route]:
    """Every route of the control plane, by its own document, and of the edge."""
    for path, ways in msgspec.json.decode(document())["paths"].items():
        if path in PUBLIC:
            continue
        filled = re.sub(r"\{(\w+)\}", lambda found: NAMED.get(found[1], "some"), path)
        names = "{service}" in path, "{environment}" in path
        for method in ways:
            yield Route(fleet.control_url, method.upper(), filled, *names)
    for base in (fleet.edge_urls["edge-a"], fleet.control_url):
        for method, path in EDGE_ROUTES:
            if base != fleet.control_url or path.startswith(("/v1/cat", "/v1/str", "/production")):
                named = path.startswith(("/production", "/config"))
                yield Route(base, method, path, service=named, environment=named)


def _try(tried: Tried, route: Route, kind: str, token: str, secrets: list[str]) -> None:
    body: dict[str, Any] | None = None if route.method == "GET" else {"context": {}}
    streams = route.path.endswith("stream")
    found = ask(route.method, route.base + route.path, body, token, 1.0 if streams else 5.0)
    tried.requests += 1
    tried.statuses[found.status] += 1
    where = f"{route.method} {route.path} with {kind}: {found.status}"
    if 200 <= found.status < 300:
        tried.let_in.append(where)
    text = _text(found)
    own = token or "\0"
    tried.leaks += [where for secret in secrets if secret and secret != own and secret in text]


def _text(found: Answered) -> str:
    body = found.body if isinstance(found.body, str) else msgspec.json.encode(found.body).decode()
    return body + "".join(f"{name}: {value}\n" for name, value in found.headers.items())


def _edited(day: Day, fleet: Fleet) -> float | None:
    """Rewrite the past below a running node, hashes and all; seconds until it says so, or none."""
    _rewrite(fleet.data_dir / "journal.db")
    began = time.monotonic()
    day.note("fault", "an old entry is edited in the store, every hash after it made to fit")

    def told() -> bool:
        text = str(ask("GET", f"{fleet.control_url}/metrics").body)
        match = re.search(r"^holdfast_journal_rewritten (\S+)", text, re.MULTILINE)
        return bool(match) and float(match[1] if match else 0) > 0

    if not until_or_not(told, FOUND_S_MAX + 5.0, every_s=0.2):
        return None
    day.note("blocked", "the node says that its journal was rewritten")
    return round(time.monotonic() - began, 1)


def _rewrite(path: Path) -> None:
    journal = SqliteJournal(path)
    entries = list(journal.read())
    journal.close()
    head, rows = GENESIS, []
    for entry in entries:
        reason = "nobody did that" if entry.revision == len(entries) // 2 else entry.reason
        made = seal(head, entry.at_ms, entry.actor, reason, entry.edits, entry.published)
        rows.append((bytes.fromhex(made.hash), encode_entry(made), made.revision))
        head = Head(made.revision, made.hash)
    with sqlite3.connect(path) as connection:
        connection.executemany("UPDATE entries SET hash = ?, body = ? WHERE revision = ?", rows)
        connection.execute("UPDATE head SET hash = ?", (bytes.fromhex(head.hash),))
    connection.close()


def _judge(day: Day, tried: Tried, routes: int, found_s: float | None) -> None:
    day.measure("routes", routes, "every route of both", holds=routes > 50)
    day.measure(
        "requests that may not be let in",
        tried.requests,
        "more than 0",
        holds=tried.requests > 0,
    )
    day.measure("let in all the same", len(tried.let_in), "0", holds=not tried.let_in)
    day.measure("answers with a secret in them", len(tried.leaks), "0", holds=not tried.leaks)
    broken = sum(count for status, count in tried.statuses.items() if status in {0, 500})
    day.measure("answers that failed", broken, "0", holds=not broken)
    day.measure(
        "a rewritten journal is found, s",
        "never" if found_s is None else found_s,
        f"at most {FOUND_S_MAX:.0f}",
        holds=found_s is not None and found_s <= FOUND_S_MAX,
    )
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(tried.statuses.items()))
    day.note("step", f"answers by status: {statuses}")
    day.affected = "nobody" if not tried.let_in else "whoever keeps settings here"
    day.root_cause = "somebody who has no token, or one for something else"
    day.stopped_by = (
        "each route names the right that it takes, and tests ask for it; the hash chain's heads "
        "are remembered by the node and by every consumer"
    )


DRILL = Drill(
    name="authentication",
    title="Authentication bypass, cross-service reads, tampered audit",
    promise="0 unexpected 2xx; 0 leaked keys; tampering found in <= 60 s",
    rehearsal=(
        "every route of the control plane, taken from its own OpenAPI document, and of an edge is "
        "asked without a token, with garbage, a wrong secret, an expired and a revoked token, with "
        "one of another service and of another environment, and with a reader's to write; then an "
        "old entry is edited in the store beneath a running node, hashes and all."
    ),
    run=run,
)
