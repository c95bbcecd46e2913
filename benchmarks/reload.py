"""Replacing 10,000 settings in a client: the longest stall of an evaluating thread. And the start
of a new process from the disk cache that it left, with nobody alive.

The bundles are made beforehand and handed out by a file server of a process of its own, whole
(no deltas), so that only the client works while it is measured.
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

from peers.flagd_format import flag_set
from pulse import Pulse
from workloads import CONTEXT, USER, mixed

from holdfast import Client
from holdfast.adapters.memory import MemoryBlobs, MemoryJournal
from holdfast.adapters.signing import Keys
from holdfast.core.access import Grant
from holdfast.core.delta import make_delta
from holdfast.core.model import (
    Change,
    Environment,
    PutEnvironment,
    PutService,
    PutSetting,
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

SETTINGS = 10_000
RELOADS = 5
STARTS = 9
POLL_INTERVAL_S = 0.2
SUBJECT = Subject("production", "shop")
SYSTEM = Grant("bench", "bench", (Scope(verbs=("admin",)),))


def put(key: str, flag: dict[str, Any], revision: int) -> PutSetting:
    """The setting as its flag definition has it; `revision` makes another one of it."""
    target = Targeting(default="default", logic=flag.get("targeting"))
    kind = "boolean" if isinstance(flag["variants"]["default"], bool) else "object"
    setting = Setting(kind, flag["variants"], {"production": target}, metadata={"n": revision})
    return PutSetting(SUBJECT.service, key, setting)


def make_bundles(folder: Path) -> None:
    """One bundle for each reload, in each of which every setting is another one."""
    view, blobs = View(MemoryJournal(), time.time), MemoryBlobs()
    publisher = Publisher(
        view=view,
        journal=view._journal,  # noqa: SLF001 -- made on the line above
        blobs=blobs,
        clock=time.time,
        validate=validate,
    )
    keys = Keys.init(folder / "keys", development=True)
    first = [*keys.missing_from(()), PutEnvironment("production", Environment())]
    first.append(PutService(SUBJECT.service, Service()))
    publisher.commit(Change(tuple(first)), "bench", SYSTEM)
    shelf = Shelf(view, blobs, keys.sign, make_delta)
    flags = flag_set(mixed(SETTINGS))["flags"]
    for number in range(RELOADS + 1):
        edits = tuple(put(key, flag, number) for key, flag in flags.items())
        publisher.commit(Change(edits), "bench", SYSTEM)
        published = shelf.newest(SUBJECT)
        assert published is not None
        (folder / f"{number}.json").write_bytes(published.bundle)
        (folder / f"{number}.etag").write_text(f'"{published.digest}"')


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
    """The longest stall around each reload, and of as long without one (the machine's own)."""
    follower = next(each for each in threading.enumerate() if each.name == "holdfast-follower")
    context = {"targetingKey": USER, **CONTEXT}
    evaluate = partial(client.get_bool, "setting-00001", False, context)
    changed = threading.Condition()

    def note(_keys: frozenset[str], _revision: int) -> None:
        with changed:
            changed.notify_all()

    client.on_change(note)
    reloads, kept, without = [], [], []
    for number in range(1, RELOADS + 1):
        pulse = Pulse(evaluate, follower)
        pulse.start()
        start_s = time.perf_counter()
        with changed:
            (folder / "now").write_text(str(number))
            if not changed.wait(60):
                raise SystemExit(f"no reload: {client.status()}")
        time.sleep(0.3)  # the tail: what was replaced is freed
        pulse.stop()
        reloads.append(pulse.longest_s * 1e3)
        kept.append(pulse.kept_s * 1e3)
        pulse = Pulse(evaluate, follower)
        pulse.start()
        time.sleep(time.perf_counter() - start_s)
        pulse.stop()
        without.append(pulse.longest_s * 1e3)
    return {
        "reload_ms": statistics.median(reloads),
        "reload_worst_ms": max(reloads),
        "kept_ms": statistics.median(kept),
        "kept_worst_ms": max(kept),
        "without_ms": statistics.median(without),
        "without_worst_ms": max(without),
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
import os; os._exit(0)
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
        make_bundles(folder)
        (folder / "now").write_text("0")
        command = [sys.executable, __file__, "serve", name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
            client = Client(
                [endpoint],
                service=SUBJECT.service,
                cache_dir=cache,
                poll_interval_s=POLL_INTERVAL_S,
                streams=False,
            )
            with closing(client):
                if not client.wait_until_ready(60):
                    raise SystemExit(f"not ready: {client.status()}")
                time.sleep(1)
                stalls = stalls_ms(client, folder)
            server.kill()
        print(json.dumps({"settings": SETTINGS, "stall": stalls, "start": starts_ms(cache)}))


if __name__ == "__main__":
    main()
