"""Replacing 10,000 settings in a client: the longest stall of an evaluating thread. And the start
of a new process from the disk cache that it left, with nobody alive.

The bundles are made beforehand and handed out by a file server, whole (no deltas), each in a
process of its own, so that the client is alone in this one: a garbage collection goes through all
that there is.
"""

from __future__ import annotations

import http.server
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from host import rest, stolen_s
from pulse import Pulse
from workloads import CONTEXT, USER

from holdfast import Client

SETTINGS = 10_000
SERVICE = "shop"
RELOADS = 12
KEPT = 5
"""Those during which the host of the machine took least of its cores."""
STARTS = 9
PAUSE_S = 3.0
POLL_INTERVAL_S = 0.2


def serve(folder: Path) -> None:
    """Hand out the bundle whose number stands in the file `now`; prints the port."""

    class Files(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            number = (folder / "now").read_text()
            etag = (folder / f"{number}.etag").read_text()
            unchanged = self.headers.get("if-none-match") == etag
            body = b"" if unchanged else (folder / f"{number}.json").read_bytes()
            self.send_response(HTTPStatus.NOT_MODIFIED if unchanged else HTTPStatus.OK)
            self.send_header("etag", etag)
            self.send_header("content-type", "application/json")
            if not unchanged:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


def stalls_ms(client: Client, folder: Path) -> dict[str, float]:
    """The longest stall around each reload, and of as long without one (the machine's own).

    Of `RELOADS` the `KEPT` that the host disturbed least: what it takes is nobody's stall here.
    """
    follower = next(each for each in threading.enumerate() if each.name == "holdfast-follower")
    context = {"targetingKey": USER, **CONTEXT}
    evaluate = partial(client.get_bool, "setting-00001", False, context)
    changed = threading.Condition()

    def note(_keys: frozenset[str], _revision: int) -> None:
        with changed:
            changed.notify_all()

    client.on_change(note)
    cores = tuple(str(core) for core in os.sched_getaffinity(0))
    rounds: list[dict[str, float]] = []
    for number in range(1, RELOADS + 1):
        time.sleep(PAUSE_S)  # as `rest`, after seconds
        before_s = stolen_s(cores)
        pulse = Pulse(evaluate, follower)
        pulse.start()
        start_s = time.perf_counter()
        with changed:
            (folder / "now").write_text(str(number))
            if not changed.wait(60):
                raise SystemExit(f"no reload: {client.status()}")
        time.sleep(0.3)  # the tail: what was replaced is freed
        pulse.stop()
        alone = Pulse(evaluate, follower)
        alone.start()
        time.sleep(time.perf_counter() - start_s)
        alone.stop()
        rounds.append(
            {
                "stolen_ms": (stolen_s(cores) - before_s) * 1e3,
                "reload_ms": pulse.longest_s * 1e3,
                "kept_ms": pulse.kept_s * 1e3,
                "without_ms": alone.longest_s * 1e3,
            }
        )
    least = sorted(rounds, key=lambda each: each["stolen_ms"])[:KEPT]
    names = ("reload", "kept", "without")
    return {
        "reloads": len(rounds),
        "kept": len(least),
        "stolen_ms": least[-1]["stolen_ms"],
        **{f"{name}_ms": statistics.median(each[f"{name}_ms"] for each in least) for name in names},
        **{f"{name}_worst_ms": max(each[f"{name}_ms"] for each in least) for name in names},
    }


START = """
import time; start_s = time.perf_counter()
import sys
from holdfast import Client
imported_s = time.perf_counter()
client = Client(endpoints=["http://127.0.0.1:9"], service="shop", cache_dir=sys.argv[1])
value = client.get_bool("setting-00001", False, {"tenant": "tenant-007", "version": "1.7.2"})
done_s = time.perf_counter()
assert value is True
print((imported_s - start_s) * 1e3, (done_s - start_s) * 1e3, flush=True)
client.close()  # a process that just ends counts as one that died of these settings
"""


def starts_ms(cache: str) -> dict[str, float]:
    """From the first line of a new process to its first answer, from disk, nobody alive."""
    told = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", START, cache]
    rows = []
    for _ in range(1 + STARTS):
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=told)
        rows.append([float(word) for word in done.stdout.split()])
    del rows[0]  # it compiled what has no bytecode yet, which installed packages have
    return {
        "import_ms": statistics.median(row[0] for row in rows),
        "first_answer_ms": statistics.median(row[1] for row in rows),
    }


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        serve(Path(sys.argv[2]))
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as cache:
        folder = Path(name)
        make = [sys.executable, str(Path(__file__).with_name("bundles.py")), name]
        subprocess.run([*make, str(RELOADS + 1)], check=True)
        (folder / "now").write_text("0")
        command = [sys.executable, __file__, "serve", name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
            client = Client(
                [endpoint],
                service=SERVICE,
                cache_dir=cache,
                poll_interval_s=POLL_INTERVAL_S,
                streams=False,
            )
            with closing(client):
                if not client.wait_until_ready(60):
                    raise SystemExit(f"not ready: {client.status()}")
                rest()  # from making the bundles
                stalls = stalls_ms(client, folder)
            server.kill()
        print(json.dumps({"settings": SETTINGS, "stall": stalls, "start": starts_ms(cache)}))


if __name__ == "__main__":
    main()
