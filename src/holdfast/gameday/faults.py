"""Faults that go past every door: entries forced into the journal, snapshots forged with real keys.

What is forged is signed by the drill's own development keys: consumers see a publisher that they
trust, and that is wrong.
"""

from __future__ import annotations

import base64
import http.server
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self
from urllib.parse import urlsplit

import msgspec

from holdfast.adapters.signing import Keys
from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.core.bundle import Bundle, encode_bundle
from holdfast.core.errors import Conflict
from holdfast.core.history import seal
from holdfast.core.model import Edit
from holdfast.core.snapshot import (
    FRESHNESS_TYPE,
    STATEMENT_TYPE,
    Freshness,
    Statement,
    freshness,
)
from holdfast.core.wire import Envelope, canonical, digest

TRIES: Final = 5


def force(data_dir: Path, edits: Sequence[Edit], reason: str) -> int:
    """Append an entry to a control plane's journal, past its write door; the revision.

    The control plane may run: it follows its journal. Raises `Conflict` when others kept writing.
    """
    journal = SqliteJournal(data_dir / "journal.db")
    try:
        for _ in range(TRIES):
            head = journal.head()
            entry = seal(head, int(time.time() * 1000), "nobody", reason, edits)
            try:
                journal.append(entry)
            except Conflict:
                continue
            return entry.revision
        raise Conflict(head.revision, journal.head().revision)
    finally:
        journal.close()


class Forge:
    """Signs whatever document it is given, as the publisher would."""

    def __init__(self, data_dir: Path) -> None:
        self._keys = Keys.load(data_dir / "keys")

    def bundle(self, document: Mapping[str, Any]) -> tuple[str, bytes]:
        """(digest, bundle) of a document that names its environment, service and revision."""
        body = canonical(document)
        block = document["holdfast"] if isinstance(document.get("holdfast"), dict) else {}
        stated = Statement(
            service=str(block.get("service") or "shop"),
            environment=str(block.get("environment") or "production"),
            revision=_number(block.get("revision")),
            digest=digest(body),
            bytes=len(body),
        )
        return digest(body), self.sealed(stated, body)

    def sealed(self, stated: Statement, body: bytes) -> bytes:
        """The bundle of these bytes under this statement."""
        signed = self._keys.signer(stated.environment)(STATEMENT_TYPE, canonical(stated))
        signature = msgspec.json.decode(signed, type=Envelope)
        return encode_bundle(Bundle(self._keys.chain, signature, snapshot=body))

    def freshness(self, made: Freshness) -> bytes:
        """The signed statement."""
        return self._keys.signer(made.environment)(FRESHNESS_TYPE, freshness(made))


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


class Upstream:
    """An upstream on loopback that hands out what it is told to, one snapshot to each subject."""

    def __init__(self) -> None:
        upstream = self

        class Handler(_Handler):
            held_by = upstream

        self.held: dict[str, tuple[str, bytes, bytes]] = {}
        self.tables: dict[str, bytes] = {}
        self.asked = 0
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def put(self, name: str, made: str, bundle: bytes, fresh: bytes = b"") -> None:
        """From now on `name` (environment/service) has this bundle, with digest `made`."""
        self.held[name] = (made, bundle, fresh)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Consumers hang up as they like."""


class _Handler(http.server.BaseHTTPRequestHandler):
    held_by: ClassVar[Upstream]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        upstream, path = self.held_by, urlsplit(self.path).path
        match path.split("/"):
            case ["", "v1", "catalogue"]:
                return self._catalogue(upstream)
            case ["", environment, service, "snapshot"]:
                held = upstream.held.get(f"{environment}/{service}")
                return self._send(404, b"{}") if held is None else self._snapshot(upstream, held)
            case ["", _, _, "segments", wanted] if wanted in upstream.tables:
                return self._send(200, upstream.tables[wanted])
        return self._send(404, b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._send(202, b"{}")

    def _catalogue(self, upstream: Upstream) -> None:
        listed = [
            {
                "environment": name.split("/")[0],
                "service": name.split("/")[1],
                "revision": 1,
                "digest": made,
            }
            for name, (made, _, _) in upstream.held.items()
        ]
        self._send(200, msgspec.json.encode({"subjects": listed}))

    def _snapshot(self, upstream: Upstream, held: tuple[str, bytes, bytes]) -> None:
        made, bundle, fresh = held
        upstream.asked += 1
        if self.headers.get("If-None-Match") == f'"{made}"':
            return self._send(304, b"", fresh)
        return self._send(200, bundle, fresh)

    def _send(self, status: int, body: bytes, fresh: bytes = b"") -> None:
        self.send_response(status)
        if fresh:
            self.send_header("Holdfast-Freshness", base64.b64encode(fresh).decode())
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
        """Say nothing."""
