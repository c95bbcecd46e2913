"""A data directory as a control plane leaves it, and nodes of right and wrong builds on it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.adapters.signing import Keys
from holdfast.apps.control.parts import Parts, open_parts
from holdfast.core import lineage, replay
from holdfast.core.access import Grant
from holdfast.core.build import build
from holdfast.core.delta import make_delta
from holdfast.core.model import (
    Change,
    Edit,
    Environment,
    PutEnvironment,
    PutService,
    PutSetting,
    Rule,
    Scope,
    Service,
    Setting,
    Targeting,
)
from holdfast.core.snapshot import Snapshot
from holdfast.core.validate import validate
from holdfast.core.wire import canonical
from holdfast.engine.agreement import Agreement
from holdfast.engine.publish import Publisher
from holdfast.engine.shelf import Shelf
from holdfast.engine.views import View

ADMIN = Grant("root", "root", (Scope(("admin",)),))
KEYS = "keys"


class Opened:
    """A node on a data directory, without its HTTP face."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.view = View(parts.journal, time.time, agreement=Agreement(parts.digests, "right"))
        self.shelf = Shelf(self.view, parts.blobs, parts.keys.sign, make_delta)
        self._publisher = Publisher(
            view=self.view,
            journal=parts.journal,
            blobs=parts.blobs,
            clock=time.time,
            validate=partial(validate),
        )

    def commit(self, *edits: Edit) -> int:
        return self._publisher.commit(Change(edits, "a test"), "ann", ADMIN).revision


@contextlib.contextmanager
def opened(data_dir: Path) -> Iterator[Opened]:
    parts = open_parts(data_dir, development=True)
    try:
        yield Opened(parts)
    finally:
        parts.close()


def setting(few: int = 9) -> Setting:
    rule = Rule(
        when='tenant == "contoso"', logic={"==": [{"var": "tenant"}, "contoso"]}, serve="many"
    )
    return Setting(
        "integer", {"few": few, "many": 49}, {"production": Targeting("few", rules=(rule,))}
    )


def grown(data_dir: Path, values: int = 3) -> Path:
    """A directory with keys, and a journal of `values` + 1 entries."""
    Keys.init(data_dir / KEYS, development=True)
    with opened(data_dir) as node:
        for edit in node.parts.keys.missing_from(()):
            node.commit(edit)
        node.commit(
            PutEnvironment("production", Environment()),
            PutService("shop", Service(attributes={"tenant": "string"})),
            PutSetting("shop", "tiles", setting()),
            PutSetting("shop", "rows", setting(2)),
        )
        for value in range(values - 1):
            node.commit(PutSetting("shop", "tiles", setting(10 + value)))
    return data_dir


def plant_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on this process is of a build that gives `tiles` another default."""

    def built(*arguments: Any, **named: Any) -> Snapshot:
        snapshot = build(*arguments, **named)
        if "tiles" not in snapshot.flags:
            return snapshot
        flag = {**msgspec.json.decode(snapshot.flags["tiles"]), "defaultVariant": "many"}
        flags = {**snapshot.flags, "tiles": msgspec.Raw(canonical(flag))}
        return msgspec.structs.replace(snapshot, flags=flags)

    monkeypatch.setattr(lineage, "build", built)
    monkeypatch.setattr(replay, "build", built)
