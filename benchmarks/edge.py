"""The edge against a bare uvicorn application and nginx: requests per second, p99, CPU.

    python benchmarks/edge.py [--rounds 5] [--seconds 2]

Each server runs on one core, `wrk` with 64 connections on the other; within a round the servers
take turns, ratios are taken within a round, and the medians of the rounds are told. The edge is the
whole thing: tokens checked, limits on, counting on, following an upstream. The bare application
parses the same body with msgspec and encodes the same answer, on uvicorn with the same options.
nginx returns the same bytes from its configuration, and the same snapshot from a file.

Needs `wrk` and `nginx` (Debian's) and two cores. The last line of output is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from holdfast.adapters.memory import MemoryBlobs, MemoryJournal
from holdfast.adapters.signing import Keys
from holdfast.apps.address import Address
from holdfast.apps.asgi import Face
from holdfast.apps.control.upstream import Upstream
from holdfast.apps.distribute import Distribution
from holdfast.apps.edge import serve
from holdfast.apps.edge.door import EdgeDoor
from holdfast.apps.listen import Listener
from holdfast.apps.settings import EdgeSettings
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
    Targeting,
)
from holdfast.core.validate import validate
from holdfast.engine.publish import Publisher
from holdfast.engine.shelf import Shelf
from holdfast.engine.views import View

SERVER_CORE, LOAD_CORE = "0", "1"
CONNECTIONS = 64
FOLLOW, FOLLOW_TOKEN = issue("follow", b"f" * 32, "edge", (Scope(verbs=("follow",)),))
READ, READ_TOKEN = issue("read", b"r" * 32, "reader", (Scope(verbs=("read",)),))
EVALUATE = "/production/shop/ofrep/v1/evaluate/flags/tiles"
BULK = "/production/shop/ofrep/v1/evaluate/flags"
SNAPSHOT = "/production/shop/snapshot"
CONTEXT = {"targetingKey": "user-1234", "tenant": "contoso", "ring": "general", "region": "eu"}
BODY = json.dumps({"context": CONTEXT})
SETTINGS = 136
"""As many as make a snapshot of some 50 kB."""


def settings() -> dict[str, Setting]:
    """A targeted setting to evaluate, among others to make a snapshot of usual size."""
    rule = Rule(logic={"in": [{"var": "tenant"}, ["contoso", "fabrikam"]]}, serve="many")
    targeted = {"production": Targeting(default="few", rules=(rule,))}
    several = Setting("integer", {"few": 9, "many": 49}, targeted)
    return {"tiles": several} | {f"tiles-{number}": several for number in range(SETTINGS - 1)}


@contextlib.contextmanager
def upstream(folder: Path) -> Iterator[int]:
    """A control plane's data plane in a thread of this process; its port."""
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
    edits = [
        *keys.missing_from(()),
        PutEnvironment("production", Environment()),
        *(PutToken(name, token) for name, token in tokens.items()),
        PutService("shop", Service()),
        *(PutSetting("shop", key, setting) for key, setting in settings().items()),
    ]
    system = Grant("bench", "bench", (Scope(verbs=("admin",)),))
    publisher.commit(Change(tuple(edits), reason="bench"), "bench", system)
    door = EdgeDoor(time.time)
    door.learn("production", tokens)
    fanout = Fanout()
    shelf = Upstream(Shelf(view, blobs, keys.sign, make_delta))
    face = Face(Distribution(shelf, door, fanout).handle, 0)
    listener = Listener(face, Address("127.0.0.1", 0, shutdown_s=1), fanout.close)
    thread = threading.Thread(target=listener.run)
    thread.start()
    try:
        yield listener.port
    finally:
        listener.stop()
        thread.join()


def serve_bare(port: int) -> None:
    """Parse the context, answer the same JSON, and nothing else."""
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
    answer = {
        "key": "tiles",
        "reason": "TARGETING_MATCH",
        "variant": "many",
        "value": 49,
        "metadata": {"flagSetId": "shop", "version": "1"},
    }

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        context = decode(body)["context"]
        out = encode(answer) if "tenant" in context else b"{}"
        length = str(len(out)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": out})

    uvicorn.run(
        app,
        port=port,
        http="httptools",
        loop="uvloop",
        lifespan="off",
        ws="none",
        access_log=False,
        log_level="error",
        server_header=False,
        proxy_headers=False,
    )


NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location {snapshot} {{ alias {folder}/snapshot; default_type application/json; }}
    location / {{ default_type application/json; return 200 '{answer}'; }}
  }}
}}
"""


class Server:
    """One process on the servers' core."""

    def __init__(self, name: str, command: list[str], port: int) -> None:
        self.name, self.port = name, port
        self.process = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, *command], stderr=subprocess.DEVNULL
        )

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def answers(self, path: str, method: str, headers: dict[str, str]) -> tuple[bytes, str]:
        """Its answer, once it has a right one, and the ETag of it."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            with contextlib.suppress(OSError), contextlib.closing(connection):
                connection.request(method, path, BODY if method == "POST" else None, headers)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == 200:
                    return body, answer.headers.get("etag", "")
            time.sleep(0.05)
        raise SystemExit(f"{self.name} gives no right answer")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


def load(server: Server, script: Path, path: str, seconds: int) -> dict[str, float]:
    """One round of wrk: requests per second, p99 in milliseconds, CPU per request."""
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    url = f"http://127.0.0.1:{server.port}{path}"
    before = server.cpu_s()
    done = subprocess.run(
        [*command, "--latency", "-s", str(script), url], capture_output=True, text=True, check=True
    )
    used_s = server.cpu_s() - before
    if "Non-2xx" in done.stdout:
        raise SystemExit(f"{server.name}{path}: wrong answers\n{done.stdout}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])  # type: ignore[index]
    count = int(re.search(r"(\d+) requests in", done.stdout)[1])  # type: ignore[index]
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout).groups()  # type: ignore[union-attr]
    p99_ms = float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
    return {"requests_per_s": rate, "p99_ms": p99_ms, "cpu_us": used_s / count * 1e6}


def lua(folder: Path, name: str, method: str, headers: dict[str, str]) -> Path:
    lines = [f'wrk.method = "{method}"']
    lines += [f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in headers.items()]
    if method == "POST":
        lines.append(f"wrk.body = {json.dumps(BODY)}")
    path = folder / f"{name}.lua"
    path.write_text("\n".join(lines))
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[dict[str, Server]]:
    """The edge, the bare application and nginx, all of them answering."""
    running: dict[str, Server] = {}
    auth = {"authorization": f"Bearer {READ}"}
    here = [sys.executable, __file__]
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(upstream(folder / "keys"))
        ports = [free_port() for _ in range(3)]
        edge = [*here, "--serve-edge", str(ports[0]), str(source), str(folder / "cache")]
        running["edge"] = Server("edge", edge, ports[0])
        stack.callback(running["edge"].stop)
        running["bare"] = Server("bare", [*here, "--serve-bare", str(ports[1])], ports[1])
        stack.callback(running["bare"].stop)
        answer, _ = running["edge"].answers(EVALUATE, "POST", auth)
        snapshot, _ = running["edge"].answers(SNAPSHOT, "GET", auth)
        (folder / "snapshot").write_bytes(snapshot)
        configuration = folder / "nginx.conf"
        configuration.write_text(
            NGINX.format(folder=folder, port=ports[2], snapshot=SNAPSHOT, answer=answer.decode())
        )
        folder.chmod(0o755)
        command = ["nginx", "-c", str(configuration), "-e", "stderr"]
        running["nginx"] = Server("nginx", command, ports[2])
        stack.callback(running["nginx"].stop)
        for name in ("bare", "nginx"):
            running[name].answers(EVALUATE, "POST", auth)
        yield running


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    arguments = parser.parse_args()
    auth = {"authorization": f"Bearer {READ}"}
    posting = auth | {"content-type": "application/json"}
    figures: dict[str, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as name, servers(Path(name)) as running:
        folder = Path(name)
        etags = {n: running[n].answers(SNAPSHOT, "GET", auth)[1] for n in ("edge", "nginx")}
        work = [
            (task, server, lua(folder, f"{task}-{server}", method, headers), path)
            for task, path, method, each, among in (
                ("evaluate", EVALUATE, "POST", posting, ("edge", "bare", "nginx")),
                ("snapshot", SNAPSHOT, "GET", auth, ("edge", "nginx")),
                ("unchanged", SNAPSHOT, "GET", auth, ("edge", "nginx")),
                ("bulk", BULK, "POST", posting, ("edge",)),
            )
            for server in among
            for headers in [
                each | ({"if-none-match": etags[server]} if task == "unchanged" else {})
            ]
        ]
        for cycle in range(arguments.rounds):
            for task, server, script, path in work:
                print(f"  {cycle + 1}/{arguments.rounds} {task} {server}", file=sys.stderr)
                measured = load(running[server], script, path, arguments.seconds)
                figures.setdefault(task, {}).setdefault(server, []).append(measured)
    report = summary(figures)
    for task, each in report["medians"].items():
        for server, figure in each.items():
            rate, p99_ms, cpu_us = figure["requests_per_s"], figure["p99_ms"], figure["cpu_us"]
            print(f"{task:10} {server:6} {rate:9.0f}/s  p99 {p99_ms:6.2f} ms  {cpu_us:5.1f} us CPU")
    for name_, value in report["ratios"].items():
        print(f"{name_:28} {value:.2f}")
    print(json.dumps(report))


def summary(figures: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, Any]:
    """Medians of the rounds, and medians of the ratios within each round."""
    medians = {
        task: {
            server: {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
            for server, rounds in by_server.items()
        }
        for task, by_server in figures.items()
    }
    ratios = {
        f"{task}: edge / {other}": statistics.median(
            ours["requests_per_s"] / theirs["requests_per_s"]
            for ours, theirs in zip(by_server["edge"], rounds, strict=True)
        )
        for task, by_server in figures.items()
        for other, rounds in by_server.items()
        if other != "edge"
    }
    return {"medians": medians, "ratios": ratios, "rounds": figures}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--serve-bare", port]:
            serve_bare(int(port))
        case ["--serve-edge", port, source, cache]:
            serve(
                EdgeSettings(
                    upstreams=(f"http://127.0.0.1:{source}",),
                    token=FOLLOW,
                    cache_dir=Path(cache),
                    port=int(port),
                    log_level="error",
                )
            )
        case _:
            main()
