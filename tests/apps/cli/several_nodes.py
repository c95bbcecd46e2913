"""Nodes of one control plane, each on a socket of its own behind a line that tests make bad."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import msgspec
from tests.apps.control.lines import Line

from holdfast.adapters.signing import Keys
from holdfast.apps.address import Address
from holdfast.apps.control.app import create_app
from holdfast.apps.control.parts import Parts, memory_parts, open_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.listen import Listener
from holdfast.apps.observe import start_logs
from holdfast.apps.settings import ControlSettings
from holdfast.apps.store_urls import url_of
from holdfast.gameday.proxy import Fault, Proxy, Way

DEADLINE_S = 60.0
ANSWER_CUT = Fault(down=Way(reset_after=1))
"""The call arrives and is carried out; of its answer one byte comes."""


class Node:
    """`journal` is its line to the journal, `line` the one that callers have to it."""

    def __init__(self, parts: Parts, name: str) -> None:
        self.journal = Line(parts.journal)
        own = msgspec.structs.replace(parts, journal=self.journal, close=self.journal.close)
        settings = ControlSettings(node=name, requests_per_s_max=100_000)
        self.control = Control(settings, own, time.time)
        self.control.stalls._patience_s = DEADLINE_S
        address = Address("127.0.0.1", 0, shutdown_s=1)
        app = create_app(self.control)
        self.listener = Listener(app, address, self.control.drain, lifespan=True)
        self.line = Proxy(self.listener.port)

    @property
    def url(self) -> str:
        return self.line.url

    @property
    def revision(self) -> int:
        return self.control.state().head.revision


class Nodes(list[Node]):
    """In the order in which commands are told of them; `token` may do everything."""

    token = ""

    @property
    def server(self) -> str:
        return ",".join(node.url for node in self)


def on_one_store(directory: Path, count: int, engine: str) -> list[Parts]:
    """The parts of so many nodes that share a store."""
    if engine == "memory":
        return [memory_parts(Keys.init(directory, development=True))] * count
    store = url_of(directory / "store")
    return [open_parts(directory / "data", development=True, store=store) for _ in range(count)]


@contextlib.contextmanager
def running(directory: Path, count: int, engine: str = "memory") -> Iterator[Nodes]:
    """So many nodes on one store, in memory or in SQLite."""
    import_module("holdfast.apps.control.api")  # whole, before several threads import it at once
    start_logs("error", "control")
    with contextlib.ExitStack() as started:
        nodes = Nodes()
        for number, parts in enumerate(on_one_store(directory, count, engine)):
            started.callback(parts.close)
            node = Node(parts, f"node-{number}")
            nodes.append(node)
            started.enter_context(node.line)
            thread = threading.Thread(target=node.listener.run)
            thread.start()
            started.callback(thread.join, DEADLINE_S)
            started.callback(node.listener.stop)
            assert node.listener.listening.wait(DEADLINE_S)
        nodes.token = nodes[0].control.first_token("operator")
        yield nodes
