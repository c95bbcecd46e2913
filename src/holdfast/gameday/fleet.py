"""The fleet of a drill: one control plane, edges, clients, on what `corpus/` holds.

with Fleet(day) as fleet:
    fleet.begin()              # tokens, control plane, settings, edges
    fleet.watch("sdk-1", …)    # clients, each a process
    fleet.commit(…)            # through the write door
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import msgspec

from holdfast.adapters.sqlite_blobs import SqliteBlobs
from holdfast.apps.provision import Kept, make_tokens
from holdfast.core.errors import Unavailable
from holdfast.core.model import JSON
from holdfast.gameday.drill import Day
from holdfast.gameday.naive import Ask
from holdfast.gameday.patches import defects, own, patched_tree
from holdfast.gameday.processes import (
    UNPROTECTED,
    Answered,
    Build,
    Process,
    ask,
    free_ports,
    parent,
    until,
    until_or_not,
)
from holdfast.gameday.watching import Case, Line, Reader, Told, ticks

ENVIRONMENT: Final = "production"
SERVICES: Final = ("shop", "shared")
WATCHED: Final = frozenset(
    {"arms", "checkout", "halves", "theme", "whole-floats"}
    | {"banner", "between", "codec", "extremes", "lists", "max-tiles", "text"}
    | {"absent", "arithmetic", "loose", "merged", "regional"}
)
"""Keys on which the contracts count for everybody: shares, and rules with edges."""
READY_S: Final = 60.0
"""For any process on a slow, busy machine; a start takes about a second."""
AGAIN_S: Final = 0.2
EDGES_MAX: Final = 8
CLIENTS_MAX: Final = 32
MEMBERS: Final = 12_000
"""Of the one segment that travels as a table."""
UNCOUNTED: Final = frozenset({"counter", "member"})
"""No contract counts on their values: drills change one, a large segment decides the other."""


class Fleet:
    """See the module. Everything that was started is gone when the block is left."""

    def __init__(
        self, day: Day, corpus: Mapping[str, str] | None = None, *, open_reads: bool = True
    ) -> None:
        """`corpus`: documents by file name, instead of the package's own.

        Without `open_reads` nobody reads without a token; SDK clients have `client_token` then.
        """
        self.day = day
        self.directory = day.directory / "fleet"
        self.directory.mkdir(parents=True)
        self.data_dir = self.directory / "control"
        self._corpus = corpus
        self._open_reads = open_reads
        self.client_token = ""
        self.good = Build("the build under test")
        if not day.protected:
            tree = patched_tree(self.directory / "unprotected", *defects(own("unprotected")))
            self.good = Build("the build under test, unprotected", tree)
        self._ports = free_ports(1 + EDGES_MAX)
        self._guard = {} if day.protected else {UNPROTECTED: "1"}
        self.control_url = f"http://127.0.0.1:{self._ports[0]}"
        self.control = self._server(
            "control",
            *("control", "--development", "--data", str(self.data_dir)),
            *("--port", str(self._ports[0])),
        )
        self.edges: dict[str, Process] = {}
        self.edge_urls: dict[str, str] = {}
        self.clients: dict[str, Process] = {}
        self.readers: dict[str, Reader] = {}
        self._kept: Kept | None = None
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in (*self.clients.values(), *self.edges.values(), self.control):
            process.kill()
        if self.readers:
            self.day.ticks = list(ticks(list(self.readers.values()), self.day.began_s))

    @property
    def token(self) -> str:
        return self._tokens().admin

    def _tokens(self) -> Kept:
        if self._kept is None:
            self._kept = make_tokens(self.data_dir)
        return self._kept

    # -- servers

    def begin(self, edges: Sequence[str] = ("edge-a",)) -> None:
        """Tokens, a control plane with the settings, and edges that follow it."""
        self._tokens()
        self.start_control()
        self.settle()
        for name in edges:
            self.add_edge(name, (self.control_url,))
        for name in edges:
            self.wait_ready(name)
        self.day.note(
            "step", f"the fleet is up: a control plane, {len(edges)} edge{'s' * (len(edges) > 1)}"
        )

    def start_control(self, build: Build | None = None, *, wait: bool = True) -> None:
        self.control.start(build or self.good)
        if wait:
            until(lambda: self.control_ready().status == 200, "the control plane", READY_S)

    def control_ready(self) -> Answered:
        return ask("GET", f"{self.control_url}/readyz")

    def add_edge(
        self, name: str, upstreams: Sequence[str], build: Build | None = None, *more: str
    ) -> None:
        """A new edge with a cache and a port of its own, started; `more` are options of it."""
        port = self._ports[1 + len(self.edges)]
        cache = self.directory / name
        follow = [part for url in upstreams for part in ("--upstream", url)]
        self.edges[name] = self._server(
            name,
            *("edge", *follow, "--cache", str(cache), "--port", str(port)),
            *("--poll-interval", "0.2", *more),
            HOLDFAST_TOKEN=self._tokens().edge,
        )
        self.edge_urls[name] = f"http://127.0.0.1:{port}"
        self.edges[name].start(build or self.good)

    def edge_ready(self, name: str) -> Answered:
        return ask("GET", f"{self.edge_urls[name]}/readyz")

    def wait_ready(self, name: str) -> None:
        """Until the edge is ready and has a snapshot of each service."""
        until(
            lambda: self.edge_ready(name).status == 200 and set(SERVICES) <= self._served(name),
            name,
            READY_S,
        )

    def revision_at(self, name: str, service: str = "shop") -> int:
        """Of the snapshot that an edge hands on; 0 for none."""
        listed = ask("GET", f"{self.edge_urls[name]}/v1/catalogue", token=self.token).body or {}
        return max(
            (each["revision"] for each in listed.get("subjects", ()) if each["service"] == service),
            default=0,
        )

    def _served(self, name: str) -> set[str]:
        listed = ask("GET", f"{self.edge_urls[name]}/v1/catalogue", token=self.token).body or {}
        return {each["service"] for each in listed.get("subjects", ())}

    def _server(self, name: str, *arguments: str, **environment: str) -> Process:
        open_reads = ("--open",) if self._open_reads else ()
        options = (*open_reads, "--log-level", "warning", *parent())
        return Process(
            name,
            "holdfast.apps.cli",
            (*arguments, *options),
            self.directory / f"{name}.log",
            **environment,
            **self._guard,
        )

    # -- settings

    def settle(self) -> None:
        """Put the drill's settings into the journal, in a few entries.

        Asked again while nobody can write: a store that has just been started elects its leader.
        """
        for environment in (ENVIRONMENT, "staging"):
            path = f"/v1/environments/{environment}"
            found = _answered(partial(self.api, "PUT", path, {"reason": "game day"}))
            if found.status >= 300:
                raise Unavailable(f"no environment: {found}")
        documents = self.documents()
        first = {name: text.replace(", linus]", "]") for name, text in documents.items()}
        for each, reason in (
            (first, "the settings of the game day"),
            (documents, "one more tester"),
        ):
            _revision(_answered(partial(self.try_commit, each, reason)))
            edits = [self.next_count()]
            _revision(_answered(partial(self.try_commit, reason="count up", edits=edits)))

    def documents(self) -> dict[str, str]:
        """File name -> YAML, the long list uploaded."""
        if self._corpus is not None:
            return dict(self._corpus)
        members = "".join(f"member-{number}\n" for number in range(MEMBERS))
        blob = self.api("PUT", "/v1/blobs", members.encode())
        folder = files("holdfast.gameday") / "corpus"
        return {
            name: (folder / name).read_text("utf-8").replace("MEMBERS_DIGEST", blob.body["digest"])
            for name in ("shared.yaml", "shop.yaml")
        }

    def api(self, method: str, path: str, body: Any = None, token: str = "") -> Answered:
        """One request to the control plane, with the administrator's token or another one."""
        return ask(method, self.control_url + path, body, token or self.token, timeout_s=30.0)

    def commit(
        self,
        documents: Mapping[str, str] | None = None,
        reason: str = "",
        edits: Sequence[Any] = (),
    ) -> int:
        """Through the write door; the revision. Raises `Unavailable` with what it said."""
        return _revision(self.try_commit(documents, reason, edits))

    def try_commit(
        self,
        documents: Mapping[str, str] | None = None,
        reason: str = "",
        edits: Sequence[Any] = (),
    ) -> Answered:
        """Through the write door, whatever it says."""
        texts = [{"file": name, "text": text} for name, text in (documents or {}).items()]
        body: dict[str, Any] = {"reason": reason}
        body |= {"documents": texts} if texts else {}
        body |= {"edits": list(edits)} if edits else {}
        return self.api("POST", "/v1/commits", body)

    def counter_edit(self, value: int) -> dict[str, JSON]:
        """An edit that everybody may make: `shop`'s counter gets another value."""
        to = {
            "type": "integer",
            "variants": {"now": value},
            "environments": {ENVIRONMENT: {"default": "now"}},
        }
        return {"type": "put-setting", "service": "shop", "key": "counter", "to": to}

    def next_count(self) -> dict[str, JSON]:
        """The edit of a harmless change; from now on its value is right, as the one before is."""
        self._count += 1
        self.allow("shop", "counter", self._count)
        return self.counter_edit(self._count)

    def count_up(self) -> int:
        """Publish a harmless change; clients may see the old value or the new one."""
        return self.commit(edits=[self.next_count()], reason="count up")

    # -- clients

    @property
    def cases_file(self) -> Path:
        return self.directory / "cases.json"

    def cases(self) -> list[Case]:
        if not self.cases_file.exists():
            return []
        return msgspec.json.decode(self.cases_file.read_bytes(), type=list[Case])

    def expect(self, asks: Sequence[Ask], right: Sequence[JSON]) -> None:
        """From now on clients ask these questions, and these are the right values."""
        self._put_cases(
            [Case(a.service, a.key, a.context, (v,)) for a, v in zip(asks, right, strict=True)]
        )

    def allow(self, service: str, key: str, value: JSON) -> None:
        """A further right answer of one setting, as before a change of it: stale is not wrong."""
        if cases := self.cases():
            self._put_cases(
                [
                    Case(c.service, c.key, c.context, (*c.right, value))
                    if (c.service, c.key) == (service, key)
                    else c
                    for c in cases
                ]
            )

    def publish_contracts(self) -> None:
        """What the clients count on, as consumers publish it: shares, edges, what differs."""
        for service in SERVICES:
            cases = [c for c in self.cases() if c.service == service and c.key not in UNCOUNTED]
            nobody = {case.key: case.right[0] for case in cases if not case.context}
            contexts: dict[bytes, dict[str, JSON]] = {}
            for case in cases:
                special = case.key in WATCHED or case.right[0] != nobody[case.key]
                if special and case.right[0] is not None:
                    known = contexts.setdefault(msgspec.json.encode(case.context), {})
                    known[case.key] = case.right[0]
            examples = [
                {"context": msgspec.json.decode(context), "expected": expected}
                for context, expected in contexts.items()
            ]
            contract = {
                "needs": self._needs(service),
                "examples": examples,
                "environments": [ENVIRONMENT],
                "version": "1",
            }
            path = f"/v1/services/{service}/contracts/gameday-client"
            found = self.api("PUT", path, {"contract": contract})
            if found.status >= 300:
                raise Unavailable(f"no contract: {found.status} {found.body}")

    def _needs(self, service: str) -> dict[str, JSON]:
        listed = ask("GET", f"{self.edge_urls['edge-a']}/{ENVIRONMENT}/{service}/snapshot").body
        settings = listed["snapshot"]["holdfast"]["settings"]
        return {key: {"type": facts["type"]} for key, facts in settings.items()}

    def _put_cases(self, cases: Sequence[Case]) -> None:
        aside = self.cases_file.with_suffix(".new")
        aside.write_bytes(msgspec.json.encode(cases))
        aside.replace(self.cases_file)

    def watch(  # noqa: PLR0913, PLR0917  what a client is told
        self,
        name: str,
        mode: Literal["sdk", "ofrep"],
        endpoints: Sequence[str],
        build: Build | None = None,
        interval_s: float = 0.1,
        poll_interval_s: float = 0.2,
    ) -> Reader:
        """Start a client process; what it sees is read from what comes back."""
        if len(self.clients) >= CLIENTS_MAX:
            raise Unavailable(f"a drill has at most {CLIENTS_MAX} clients")
        out = self.directory / f"{name}.jsonl"
        told = Told(
            name=name,
            mode=mode,
            endpoints=tuple(endpoints),
            environment=ENVIRONMENT,
            services=SERVICES,
            cases=str(self.cases_file),
            out=str(out),
            parent=os.getpid(),
            cache_dir=str(self.directory / f"{name}-cache"),
            interval_s=interval_s,
            poll_interval_s=poll_interval_s,
        )
        path = self.directory / f"{name}.json"
        path.write_bytes(msgspec.json.encode(told))
        process = self.client_process(name, "holdfast.gameday.client", str(path))
        process.start(build or self.good)
        self.clients[name] = process
        self.readers[name] = Reader(out)
        return self.readers[name]

    def client_process(self, name: str, module: str, *arguments: str) -> Process:
        """A process of a client, not started yet."""
        told = {"HOLDFAST_TOKEN": self.client_token} if self.client_token else {}
        return Process(
            name, module, arguments, self.directory / f"{name}.log", **told, **self._guard
        )

    def policy(self, **fields: Any) -> None:
        """Set what the environment asks of changes. Raises `Unavailable`."""
        path = f"/v1/environments/{ENVIRONMENT}/policy"
        found = self.api("PUT", path, {"policy": fields, "reason": "game day"})
        if found.status >= 300:
            raise Unavailable(f"no policy: {found.status} {found.body}")

    def table(self, digest: str) -> bytes:
        """The table of a long segment, as the control plane keeps it."""
        blobs = SqliteBlobs(self.data_dir / "blobs.db")
        try:
            return blobs.get(digest) or b""
        finally:
            blobs.close()

    def setting(self, key: str, service: str = "shop") -> dict[str, JSON]:
        """A setting as it stands, to be edited."""
        found = self.api("GET", f"/v1/services/{service}/settings/{key}").body
        to: dict[str, JSON] = found["setting"]
        return to

    def put(self, key: str, to: JSON, service: str = "shop") -> dict[str, JSON]:
        """The edit that puts a setting."""
        return {"type": "put-setting", "service": service, "key": key, "to": to}

    def wait_answering(self, name: str) -> Line:
        """Until a client has answered all its questions once."""

        def answering() -> Line | None:
            line = self.readers[name].last
            return line if line and line.ready else None

        found: Line = until(answering, f"the first answers of {name}", READY_S)
        return found

    def dismiss(self, name: str) -> None:
        """End a client for good, what it wrote is not counted."""
        self.clients.pop(name).kill()
        self.readers.pop(name, None)

    def totals(self) -> tuple[int, int, int]:
        """Answered, wrong, failed: all clients, so far."""
        lines = [line for reader in self.readers.values() for line in reader.read()]
        return (
            sum(line.answered for line in lines),
            sum(line.wrong for line in lines),
            sum(line.failed for line in lines),
        )

    def examples(self) -> list[str]:
        """Wrong and failed answers in words, the first ones."""
        return [
            f"{name}: {example}"
            for name, reader in self.readers.items()
            for line in reader.read()
            for example in line.examples
        ][:20]

    def copy_data(self, to: Path) -> None:
        """The control plane's stores and keys, as they lie on disk while it is stopped."""
        shutil.copytree(self.data_dir, to)


def _answered(send: Callable[[], Answered]) -> Answered:
    """The answer, asked for again while a part of the system does not answer."""
    found = Answered(0)

    def came() -> bool:
        nonlocal found
        found = send()
        return found.status not in {0, 503}

    until_or_not(came, READY_S, every_s=AGAIN_S)
    return found


def _revision(found: Answered) -> int:
    """Of what was committed. Raises `Unavailable` with what the write door said."""
    if found.status >= 300 or not isinstance(found.body, dict):
        raise Unavailable(f"refused with {found.status}: {found.body}")
    return int(found.body["revision"])
