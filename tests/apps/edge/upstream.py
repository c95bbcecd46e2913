"""A real upstream without the control plane's API: engine, keys and the data plane's routes."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving import running

from holdfast.adapters.memory import MemoryBlobs, MemoryJournal
from holdfast.adapters.signing import Keys
from holdfast.apps.address import Address
from holdfast.apps.asgi import Face
from holdfast.apps.control.upstream import Upstream
from holdfast.apps.distribute import Answer, Distribution
from holdfast.apps.edge.door import EdgeDoor
from holdfast.apps.http import Request, Response
from holdfast.apps.listen import Listener
from holdfast.apps.streams import Fanout
from holdfast.core.access import Grant, issue
from holdfast.core.delta import make_delta
from holdfast.core.model import (
    Change,
    Edit,
    Environment,
    PutEnvironment,
    PutService,
    PutSetting,
    PutToken,
    Rule,
    Scope,
    Service,
    Setting,
    Subject,
    Targeting,
)
from holdfast.core.validate import validate
from holdfast.engine.publish import Publisher
from holdfast.engine.shelf import Shelf
from holdfast.engine.views import View

SHOP_SUBJECT = Subject("production", "shop")
SYSTEM = Grant("test", "test", (Scope(verbs=("admin",)),))
FOLLOWER = ("follower", b"f" * 32, Scope(verbs=("follow",)))
READER = ("reader", b"r" * 32, Scope(verbs=("read",), environment="production", service="shop"))


def token(name: str, secret: bytes, *scopes: Scope, expires_s: int = 0) -> tuple[str, PutToken]:
    text, kept = issue(name, secret, name, scopes, expires_s)
    return text, PutToken(name, kept)


FOLLOW_TEXT, _FOLLOW = token(*FOLLOWER)
READ_TEXT, _READ = token(*READER)
READ = {"authorization": f"Bearer {READ_TEXT}"}


def setting(kind: str, variants: dict[str, Any], default: str | None, *rules: Rule) -> Setting:
    return Setting(kind, variants, {"production": Targeting(default=default, rules=rules)})


def is_(attribute: str, value: Any, serve: str) -> Rule:
    return Rule(logic={"==": [{"var": attribute}, value]}, serve=serve)


SHOP: dict[str, Setting] = {
    "banner": setting("boolean", {"on": True, "off": False}, "off", is_("tenant", "contoso", "on")),
    "title": setting("string", {"old": "Shop", "new": "Laden"}, "old"),
    "tiles": setting("integer", {"few": 9, "many": 49}, "few", is_("targetingKey", "u1", "many")),
    "rate": setting("number", {"whole": 1, "half": 0.5}, "whole", is_("tenant", "x", "half")),
    "theme": setting("object", {"dark": {"bg": "#000", "list": [1, 2]}}, "dark"),
    "unset": setting("string", {"a": "A"}, None),
    "gone": Setting(
        "boolean", {"on": True}, {"production": Targeting(default="on", enabled=False)}
    ),
}


class World:
    """A journal with a shop in it, and what a control plane makes of it."""

    def __init__(self, folder: Path) -> None:
        self._changes = itertools.count()
        self.blobs = MemoryBlobs()
        self.reports: list[bytes] = []
        journal = MemoryJournal()
        keys = Keys.init(folder / "keys", development=True)
        self.view = View(journal, time.time)
        self.publisher = Publisher(
            view=self.view,
            journal=journal,
            blobs=self.blobs,
            clock=time.time,
            validate=validate,
        )
        self.shelf = Shelf(self.view, self.blobs, keys.sign, make_delta)
        self.commit(*keys.missing_from(()), PutEnvironment("production", Environment()))
        self.commit(_FOLLOW, _READ)
        self.commit(PutService("shop", Service()), *self.settings("shop", SHOP))

    def commit(self, *edits: Edit) -> None:
        self.publisher.commit(Change(tuple(edits), reason="a test"), "test", SYSTEM)
        self.view.catch_up()

    @staticmethod
    def settings(service: str, settings: dict[str, Setting]) -> list[Edit]:
        return [PutSetting(service, key, each) for key, each in settings.items()]

    def put(self, service: str, **settings: Setting) -> None:
        self.commit(*self.settings(service, settings))

    def change(self) -> str:
        """Change something of the shop; the digest of the snapshot that comes of it."""
        number = next(self._changes)
        self.put("shop", season=setting("string", {"name": f"season {number}"}, "name"))
        newest = self.shelf.newest(SHOP_SUBJECT)
        assert newest is not None
        return newest.digest

    @contextlib.contextmanager
    def serving(self, port: int = 0, *, open_reads: bool = False) -> Iterator[Listener]:
        """The data plane's routes of this world on a real socket."""
        fanout = Fanout()
        door = EdgeDoor(time.time, open_reads=open_reads)
        door.learn("production", {k: each.token for k, each in self.view.state.tokens.items()})
        distribution = Distribution(Upstream(self.shelf), door, fanout)

        def handle(request: Request) -> Answer | None:
            if request.path != "/v1/reports":
                return distribution.handle(request)
            self.reports.append(request.body)
            return Response(202, [])

        face = Face(handle, 64 * 1024)
        listener = Listener(face, Address("127.0.0.1", port, shutdown_s=1), fanout.close)
        with running(listener):
            yield listener
