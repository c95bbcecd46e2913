"""One node over the public in-memory twins: the whole write path with nothing faked but the key."""

from __future__ import annotations

import base64
import itertools
from typing import Any

from holdfast.adapters.memory import MemoryBlobs, MemoryJournal, MemoryProposals
from holdfast.core.access import Grant
from holdfast.core.delta import make_delta
from holdfast.core.model import Change, Edit, Environment, Scope, Setting, Targeting
from holdfast.core.policies import Policy
from holdfast.core.validate import validate
from holdfast.core.wire import canonical, digest
from holdfast.engine.publish import Committed, Publisher
from holdfast.engine.records import Records
from holdfast.engine.shelf import Shelf
from holdfast.engine.views import View
from holdfast.engine.waiting import Waiting
from holdfast.ports import Blobs, Journal, Proposals

FREE = Environment(policy=Policy(deletion_percent=100))
"""An environment in which one person may delete anything."""
ADMIN = Grant("root", "root", (Scope(("admin",)),))


def sign(payload_type: str, payload: bytes) -> bytes:
    """An envelope whose signature only says what it is of: signing has its own tests."""
    mark = digest(payload_type.encode() + payload)[:16]
    return canonical(
        {
            "payloadType": payload_type,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": "test", "sig": base64.b64encode(mark.encode()).decode()}],
        }
    )


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Node:
    """A control-plane node without its HTTP face."""

    def __init__(
        self,
        journal: Journal | None = None,
        *,
        blobs: Blobs | None = None,
        clock: Clock | None = None,
        **bounds: Any,
    ) -> None:
        ids = itertools.count(1)
        self.journal: Journal = journal or MemoryJournal()
        self.blobs = blobs or MemoryBlobs()
        self.proposals: Proposals = MemoryProposals()
        self.clock = clock or Clock()
        self.view = View(
            self.journal,
            self.clock,
            agreement=bounds.get("agreement"),
            checkpoint_entries=bounds.get("checkpoint_entries", 256),
        )
        self.records = Records(self.view, self.journal)
        shelf_bounds = {name: bounds[name] for name in ("bytes_max",) if name in bounds}
        self.shelf = Shelf(self.view, self.blobs, sign, make_delta, **shelf_bounds)
        self.publisher = Publisher(
            view=self.view,
            journal=self.journal,
            blobs=self.blobs,
            clock=self.clock,
            validate=validate,
            uptime=self.clock,
        )
        self.waiting = Waiting(
            publisher=self.publisher,
            view=self.view,
            journal=self.journal,
            proposals=self.proposals,
            clock=self.clock,
            new_id=lambda: f"proposal-{next(ids)}",
        )

    def commit(self, *edits: Edit, base: int | None = None, grant: Grant = ADMIN) -> Committed:
        return self.publisher.commit(Change(edits, "why", base), "ann", grant)


def setting(value: object = 9, *environments: str, **more: Any) -> Setting:
    where = {name: Targeting("few") for name in environments or ("production",)}
    return Setting("integer", {"few": value, "many": 49}, where, **more)
