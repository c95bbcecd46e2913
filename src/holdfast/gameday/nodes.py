"""A fleet whose journal lies in a store beyond one machine, under several control-plane nodes.

with Nodes(day, {"node-a": etcd.url, "node-b": etcd.url}) as fleet:
    fleet.begin()                   # tokens, nodes, settings, an edge that follows all nodes
    fleet.stop("node-a")            # SIGSTOP
    fleet.through("node-b").commit(edits=[…])

The first node is the fleet's control plane; each reaches the store by a URL of its own, which may
lead through a fault proxy.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from holdfast.apps.provision import Kept, make_tokens
from holdfast.gameday.drill import Day
from holdfast.gameday.fleet import READY_S, Fleet
from holdfast.gameday.processes import Answered, Process, ask, free_ports, until


class Nodes(Fleet):
    """See the module. `stores`: node -> the store's URL as that node reaches it."""

    def __init__(self, day: Day, stores: Mapping[str, str]) -> None:
        super().__init__(day)
        ports = free_ports(len(stores))
        self._stores = stores
        self.node_urls = {
            name: f"http://127.0.0.1:{port}" for name, port in zip(stores, ports, strict=True)
        }
        self.nodes: dict[str, Process] = {
            name: self._node(name, url, port)
            for (name, url), port in zip(stores.items(), ports, strict=True)
        }
        first = next(iter(stores))
        self.control, self.control_url = self.nodes[first], self.node_urls[first]

    def _node(self, name: str, store: str, port: int) -> Process:
        data = self.data_dir.with_name(name)
        return self._server(
            name,
            *("control", "--data", str(data), "--store", store, "--port", str(port)),
            *("--node", name, "--advertise", f"http://127.0.0.1:{port}"),
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self.nodes.values():
            process.kill()
        super().__exit__(kind, error, trace)

    def _tokens(self) -> Kept:
        if self._kept is None:
            first = next(iter(self._stores.values()))
            self._kept = make_tokens(self.data_dir, first)
            for name in self.nodes:
                shutil.copytree(self.data_dir / "keys", self.data_dir.with_name(name) / "keys")
        return self._kept

    def begin(self, edges: Sequence[str] = ("edge-a",)) -> None:
        """Tokens, all nodes, the settings, and edges that follow every node."""
        self._tokens()
        for process in self.nodes.values():
            if not process.alive:
                process.start(self.good)
        for name in self.nodes:
            self.wait_node(name)
        self.settle()
        for name in edges:
            self.add_edge(name, tuple(self.node_urls.values()))
        for name in edges:
            self.wait_ready(name)
        many = "s" * (len(self.nodes) > 1)
        told = f"{len(self.nodes)} control-plane node{many} on one store, {len(edges)} edge"
        self.day.note("step", f"the fleet is up: {told}")

    def wait_node(self, name: str) -> None:
        """Until it is ready. Raises `Unavailable`."""
        until(lambda: ask("GET", f"{self.node_urls[name]}/readyz").status == 200, name, READY_S)

    def at(
        self, name: str, method: str, path: str, body: Any = None, timeout_s: float = 30.0
    ) -> Answered:
        """One request to one node, with the administrator's token."""
        return ask(method, self.node_urls[name] + path, body, self.token, timeout_s)

    def stop(self, name: str) -> None:
        """SIGSTOP: its connections stay open, and it answers nothing."""
        os.killpg(self.nodes[name].pid, signal.SIGSTOP)

    def cont(self, name: str) -> None:
        """SIGCONT."""
        os.killpg(self.nodes[name].pid, signal.SIGCONT)

    def head(self, name: str) -> tuple[int, str]:
        """Revision and hash of the head as a node has it; (0, "") while it does not answer."""
        found = self.at(name, "GET", "/v1/head", timeout_s=5.0)
        return (found.body["revision"], found.body["hash"]) if found.status == 200 else (0, "")
