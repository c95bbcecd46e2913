"""What the servers are measured with: two services, who may read them, and where they come from."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from holdfast.adapters.memory import MemoryBlobs, MemoryJournal
from holdfast.adapters.signing import Keys
from holdfast.apps.address import Address
from holdfast.apps.asgi import Face
from holdfast.apps.control.upstream import Upstream
from holdfast.apps.distribute import Distribution
from holdfast.apps.edge.door import EdgeDoor
from holdfast.apps.listen import Listener
from holdfast.apps.streams import Fanout
from holdfast.core.access import Grant, issue
from holdfast.core.delta import make_delta
from holdfast.core.model import (
    Change,
    Environment,
    PutEnvironment,
    PutService,
    PutSetting,
    PutToken,
    Rule,
    Scope,
    Service,
    Setting,
    Split,
    Targeting,
)
from holdfast.core.validate import validate
from holdfast.engine.publish import Publisher
from holdfast.engine.shelf import Shelf
from holdfast.engine.views import View

FOLLOW, FOLLOW_TOKEN = issue("follow", b"f" * 32, "edge", (Scope(verbs=("follow",)),))
READ, READ_TOKEN = issue("read", b"r" * 32, "reader", (Scope(verbs=("read",)),))
UNKNOWN, _ = issue("nobody", b"n" * 32, "nobody", (Scope(verbs=("read",)),))
CONTEXT = {"targetingKey": "user-1234", "tenant": "contoso", "ring": "general", "region": "eu"}
BODY = json.dumps({"context": CONTEXT})
SERVICES = {"shop": 136, "kiosk": 50}
"""Settings of each service; 136 make a snapshot of some 50 kB."""


def settings(count: int) -> dict[str, Setting]:
    """Four everyday kinds in turn: one of a list, two attributes, a split, the same for all."""
    rules = (
        (Rule(logic=_one_of("tenant", "contoso", "fabrikam"), serve="many"),),
        (
            Rule(logic={"and": [_one_of("ring", "ring0"), _one_of("region", "us")]}, serve="few"),
            Rule(
                logic={"and": [_one_of("ring", "general", "ring2"), _one_of("region", "eu")]},
                serve="many",
            ),
        ),
        (Rule(split=Split({"many": 10, "few": 90})),),
        (),
    )
    kinds = [
        Setting("integer", {"few": 9, "many": 49}, {"production": Targeting("few", rules=each)})
        for each in rules
    ]
    return {f"tiles-{number}": kinds[number % 4] for number in range(count)}


def _one_of(attribute: str, *values: str) -> Any:
    return {"in": [{"var": attribute}, list(values)]}


def for_go(bulk: Callable[[str], bytes]) -> bytes:
    """The same settings as the Go program reads them; `bulk` gives the edge's answer of a service.

    Order and metadata are taken from there: all else is in the settings.
    """
    services = {}
    for service, count in SERVICES.items():
        written = settings(count)
        services[service] = [
            {
                "Key": told["key"],
                "Variants": written[told["key"]].variants,
                "Default": "few",
                "Rules": [
                    _go_rule(each) for each in written[told["key"]].environments["production"].rules
                ],
                "Metadata": told["metadata"],
            }
            for told in json.loads(bulk(service))["flags"]
        ]
    return json.dumps({"Token": READ, "Services": services}).encode()


def _go_rule(rule: Rule) -> dict[str, Any]:
    if rule.split is not None:
        ends, end = [], 0
        for variant, weight in sorted(rule.split.weights.items()):
            end += weight
            ends.append({"Variant": variant, "End": end})
        return {"Split": ends}
    logic: Any = rule.logic
    conditions = [
        {"Attribute": each["in"][0]["var"], "Values": dict.fromkeys(each["in"][1], True)}
        for each in logic.get("and", [logic])
    ]
    return {"Conditions": conditions, "Serve": rule.serve}


class Source:
    """A control plane's data plane in a thread of this process."""

    def __init__(self, port: int, publisher: Publisher, view: View) -> None:
        self.port = port
        self._publisher = publisher
        self._view = view

    def settle(self) -> None:
        """Give the last setting its meaning; until then it had another one, so there is a delta."""
        key, setting = list(settings(SERVICES["shop"]).items())[-1]
        self.commit(PutSetting("shop", key, setting))

    def commit(self, *edits: Any) -> None:
        system = Grant("bench", "bench", (Scope(verbs=("admin",)),))
        self._publisher.commit(Change(edits, reason="bench"), "bench", system)


@contextlib.contextmanager
def upstream(folder: Path) -> Iterator[Source]:
    """Holds both services."""
    view, blobs = View(MemoryJournal(), time.time), MemoryBlobs()
    publisher = Publisher(
        view=view,
        journal=view._journal,  # noqa: SLF001 -- made on the line above
        blobs=blobs,
        clock=time.time,
        validate=validate,
    )
    keys = Keys.init(folder, development=True)
    tokens = {"follow": FOLLOW_TOKEN, "read": READ_TOKEN}
    door = EdgeDoor(time.time)
    door.learn("production", tokens)
    fanout = Fanout()
    shelf = Upstream(Shelf(view, blobs, keys.sign, make_delta))
    face = Face(Distribution(shelf, door, fanout).handle, 0)
    listener = Listener(face, Address("127.0.0.1", 0, shutdown_s=1), fanout.close)
    source = Source(listener.port, publisher, view)
    source.commit(
        *keys.missing_from(()),
        PutEnvironment("production", Environment()),
        *(PutToken(name, token) for name, token in tokens.items()),
        *(PutService(service, Service()) for service in SERVICES),
        *(
            PutSetting(service, key, setting)
            for service, count in SERVICES.items()
            for key, setting in settings(count).items()
        ),
        PutSetting("shop", f"tiles-{SERVICES['shop'] - 1}", Setting("integer", {"one": 1})),
    )
    ended = threading.Event()
    threads = [
        threading.Thread(target=listener.run),
        threading.Thread(target=_stay_fresh, args=(view, ended)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield source
    finally:
        ended.set()
        listener.stop()
        for thread in threads:
            thread.join()


def _stay_fresh(view: View, ended: threading.Event) -> None:
    """Look at the journal once a second, as a control plane does: so it can say what is newest."""
    while not ended.wait(1.0):
        view.catch_up()
