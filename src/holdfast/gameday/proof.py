"""What one build of Holdfast answers, found out offline and in one process.

    python -m holdfast.gameday.proof DIRECTORY control|edge|sdk

DIRECTORY holds a journal with its blobs and keys (`data/`) and the questions (`asks.json`). The
output is one JSON document: the answers on the ways through that component. `control`, run by the
build that is believed, also writes what it hands out to `handed.json`, which `edge` and `sdk` are
fed with. A defect changes an answer when its build's answers differ from that build's.
"""

from __future__ import annotations

import base64
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from holdfast.adapters.memory import MemoryJournal
from holdfast.adapters.sqlite_blobs import SqliteBlobs
from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.apps.control.upstream import Upstream
from holdfast.apps.distribute import Answer, Distribution
from holdfast.apps.http import Request, Response
from holdfast.apps.streams import Fanout
from holdfast.core.access import ACCESS
from holdfast.core.delta import make_delta
from holdfast.core.history import seal
from holdfast.core.model import JSON, Subject
from holdfast.engine.shelf import Shelf
from holdfast.engine.views import View
from holdfast.gameday import faults
from holdfast.gameday.naive import Ask, answers, document_of, evaluator_of

ENVIRONMENT: Final = "production"
SETTLE_S: Final = 10.0
"""For consumers to take one step; far above what it takes."""
LAST: Final = 4
"""Newest entries that consumers are led through one by one."""


class Handed(msgspec.Struct, frozen=True):
    """What the control plane handed out after one entry; bundles and tables in base64."""

    catalogue: list[dict[str, Any]]
    bundles: dict[str, str]
    tables: dict[str, str]
    freshness: dict[str, str]


class _Open:
    """A door that lets everybody in."""

    public = True

    def admit(self, headers: Sequence[tuple[bytes, bytes]], verb: Any, subject: Subject) -> None:
        """Nothing to check."""

    def sees(self, headers: Sequence[tuple[bytes, bytes]]) -> Any:  # noqa: ARG002  the port's
        return lambda _subject: True


def main(directory: Path, component: str) -> dict[str, list[JSON]]:
    """The answers by way."""
    asks = msgspec.json.decode((directory / "asks.json").read_bytes(), type=list[Ask])
    if component == "control":
        return _control(directory, asks)
    steps = msgspec.json.decode((directory / "handed.json").read_bytes(), type=list[Handed])
    with tempfile.TemporaryDirectory() as cache, _Feed(steps) as feed:
        return (_edge if component == "edge" else _sdk)(Path(cache), feed, asks)


# -- the way through a control plane


def _control(directory: Path, asks: list[Ask]) -> dict[str, list[JSON]]:
    from holdfast.apps.control.parts import load_keys

    keys = load_keys(directory / "data", development=False)
    stored = SqliteJournal(directory / "data" / "journal.db")
    entries = list(stored.read(0))
    stored.close()
    blobs = SqliteBlobs(directory / "data" / "blobs.db")
    journal = MemoryJournal()
    view = View(journal, time.time)
    shelf = Shelf(view, blobs, keys.sign, make_delta)
    distribution = Distribution(Upstream(shelf), _Open(), Fanout())
    documents: dict[str, dict[str, Any]] = {}
    digests: dict[str, str] = {}
    steps, wholes = [], {}
    for entry in entries:
        # Sealed anew, without the digests on record: this is about what the build would answer.
        journal.append(seal(journal.head(), entry.at_ms, entry.actor, entry.reason, entry.edits))
        view.catch_up()
        for subject in _subjects(shelf):
            have = digests.get(subject)
            body = _got(distribution, f"/{subject}/snapshot", f"have={have}" if have else "")
            documents[subject] = document_of(body, documents.get(subject))
            digests[subject] = _digest_of(shelf, subject)
        if entry.revision > entries[-1].revision - LAST:
            steps.append(_handed(distribution, shelf))
    (directory / "handed.new").write_bytes(msgspec.json.encode(steps))
    tables = _tables(distribution, documents)
    for subject in _subjects(shelf):
        wholes[subject] = document_of(_got(distribution, f"/{subject}/snapshot"), None)
    blobs.close()
    return {
        "snapshots": answers(_evaluators(wholes, tables), asks),
        "deltas": answers(_evaluators(documents, tables), asks),
    }


def _subjects(shelf: Shelf) -> list[str]:
    return sorted(str(subject) for subject, _ in shelf.catalogue())


def _digest_of(shelf: Shelf, name: str) -> str:
    found = {str(subject): lineage.digest for subject, lineage in shelf.catalogue()}
    return found[name]


def _handed(distribution: Distribution, shelf: Shelf) -> Handed:
    bundles = {name: _got(distribution, f"/{name}/snapshot") for name in _subjects(shelf)}
    tables = _tables(distribution, {n: document_of(body, None) for n, body in bundles.items()})
    listed = msgspec.json.decode(_got(distribution, "/v1/catalogue"))["subjects"]
    return Handed(
        listed,
        {name: base64.b64encode(body).decode() for name, body in bundles.items()},
        {name: base64.b64encode(body).decode() for name, body in tables.items()},
        {str(s): base64.b64encode(shelf.freshness(s)).decode() for s, _ in shelf.catalogue()},
    )


def _tables(distribution: Distribution, documents: dict[str, dict[str, Any]]) -> dict[str, bytes]:
    return {
        each["digest"]: _got(distribution, f"/{name}/segments/{each['digest']}")
        for name, document in documents.items()
        for each in document["holdfast"]["segments"].values()
    }


def _evaluators(documents: dict[str, dict[str, Any]], tables: dict[str, bytes]) -> dict[str, Any]:
    return {
        name.split("/")[1]: evaluator_of(document, tables)
        for name, document in documents.items()
        if name.startswith(f"{ENVIRONMENT}/") and not name.endswith(f"/{ACCESS}")
    }


def _got(distribution: Any, path: str, query: str = "") -> bytes:
    answer: Answer | None = distribution.handle(Request("GET", path, query.encode()))
    if not isinstance(answer, Response) or answer.status != 200:
        raise SystemExit(f"no answer for {path}: {answer}")
    return answer.body


# -- the ways through consumers


class _Feed(faults.Upstream):
    """What was recorded, one step after the other."""

    def __init__(self, steps: Sequence[Handed]) -> None:
        super().__init__()
        self.steps = steps
        self.go(0)

    def go(self, at: int) -> None:
        """Hand out step `at` from now on."""
        self.now = self.steps[at]
        for listed in self.now.catalogue:
            name = f"{listed['environment']}/{listed['service']}"
            bundle, fresh = self.now.bundles[name], self.now.freshness[name]
            self.put(name, listed["digest"], base64.b64decode(bundle), base64.b64decode(fresh))
        self.tables |= {made: base64.b64decode(body) for made, body in self.now.tables.items()}

    def revision(self, service: str) -> int:
        return next(
            int(e["revision"])
            for e in self.now.catalogue
            if (e["environment"], e["service"]) == (ENVIRONMENT, service)
        )


def _edge(cache: Path, feed: _Feed, asks: list[Ask]) -> dict[str, list[JSON]]:
    from holdfast.apps.edge.process import Edge
    from holdfast.apps.observe import start_logs
    from holdfast.apps.settings import EdgeSettings

    start_logs("error", "proof")
    settings = EdgeSettings(
        upstreams=(feed.url,),
        cache_dir=cache,
        port=0,
        open_reads=True,
        poll_interval_s=0.05,
        unprotected=True,
    )
    edge = Edge(settings)
    edge.start()
    try:
        held: dict[str, dict[str, Any]] = {}
        for at in range(len(feed.steps)):
            feed.go(at)
            _until(lambda: _has(edge.follower, feed))
            time.sleep(0.05)  # what hands on is a thread of its own
            for subject in ("shop", "shared"):
                name, before = f"{ENVIRONMENT}/{subject}", held.get(subject)
                have = f"have={_digest_in(feed.steps[max(0, at - 1)], subject)}" if before else ""
                held[subject] = document_of(_got(edge.routes, f"/{name}/snapshot", have), before)
            given = [_evaluated(edge.routes.handle, ask) for ask in asks]
        made = {name: evaluator_of(document, feed.tables) for name, document in held.items()}
        return {"ofrep": given, "handed on": answers(made, asks)}
    finally:
        edge.close()


def _digest_in(handed: Handed, service: str) -> str:
    here = {"environment": ENVIRONMENT, "service": service}.items()
    return next(str(e["digest"]) for e in handed.catalogue if here <= e.items())


def _evaluated(handle: Any, ask: Ask) -> JSON:
    path = f"/{ENVIRONMENT}/{ask.service}/ofrep/v1/evaluate/flags/{ask.key}"
    body = msgspec.json.encode({"context": ask.context})
    answer = msgspec.json.decode(handle(Request("POST", path, b"", (), body)).body)
    return [answer.get("value"), answer.get("variant"), answer.get("errorCode")]


def _sdk(cache: Path, feed: _Feed, asks: list[Ask]) -> dict[str, list[JSON]]:
    from holdfast.sdk.client import Client

    clients = {
        service: Client(
            [feed.url], ENVIRONMENT, service,
            cache_dir=cache / service, poll_interval_s=0.05, streams=False,
        )
        for service in ("shop", "shared")
    }  # fmt: skip
    try:
        for at in range(len(feed.steps)):
            feed.go(at)
            for service, client in clients.items():
                _until(lambda c=client, s=service: c.status().revision >= feed.revision(s))
            given = [_read(clients[ask.service], ask) for ask in asks]
        return {"reads": given}
    finally:
        for client in clients.values():
            client.close()


def _read(client: Any, ask: Ask) -> JSON:
    found = client.evaluate(ask.key, ask.context)
    typed = {bool: client.get_bool, int: client.get_int, str: client.get_str}
    typed |= {float: client.get_float, dict: client.get_object, list: client.get_object}
    read = typed.get(type(found.value))
    again = read(ask.key, type(found.value)(), ask.context) if read else None
    return [found.value, found.variant, found.error_code, again]


def _has(follower: Any, feed: _Feed) -> bool:
    return all(
        (held := follower.generation(Subject(ENVIRONMENT, service))) is not None
        and held.revision >= feed.revision(service)
        for service in ("shop", "shared")
    )


def _until(holds: Any) -> None:
    """Give up quietly: a consumer that never gets there answers from what it has."""
    end = time.monotonic() + SETTLE_S
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)


if __name__ == "__main__":
    out = main(Path(sys.argv[1]), sys.argv[2])
    sys.stdout.buffer.write(msgspec.json.encode(out))
    sys.stdout.flush()
    os._exit(0)  # nothing of a defective build is waited for
