"""One event to 1,000, 5,000 and 10,000 streams of one edge process, publish to last client.

    python benchmarks/fanout.py [--events 20]

The server is an edge's own (`apps.serve`, the data plane's routes, tokens checked) on one core; the
readers are plain sockets under one epoll on the other, so that their own time is in the figures.
An event is published from another thread, as an edge does it, and both sides read the same
monotonic clock. Memory is the growth of the server's resident set, connections included. At last
one reader in a hundred stops reading, and big events come until all of those are cut: the p99 of
the others is told again.

Needs two cores and 10,000 open files on either side. The last line of output is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

SIZES = (1_000, 5_000, 10_000)
SERVER_CORE, LOAD_CORE = 0, 1
EVENT_S = 10.0
"""The most that one event may take to its last client."""
P99_MS_MAX, STREAM_KB_MAX = 150.0, 5.0
IDLE_S = 3.0
"""With nothing but heartbeats."""
SLOW_SHARE = 100
"""One reader in so many stops reading."""
BIG_EVENTS = 12
"""At once, of 2 kB: less than a kernel keeps for a reader who reads between them."""
FLOODS_MAX = 40
READ_BYTES = 65_536


def allow_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def serve() -> None:
    """Listen, tell the port, then take commands: `event N` and `state`."""
    from holdfast.apps.address import Address
    from holdfast.apps.asgi import Face
    from holdfast.apps.distribute import Distribution, Listed, Watchers
    from holdfast.apps.edge.door import EdgeDoor
    from holdfast.apps.serve import Server
    from holdfast.apps.streams import Fanout, Room
    from holdfast.core.access import issue
    from holdfast.core.model import Scope

    class Shelf(Watchers):
        """Nothing lies here; it only says that something changed."""

        subscribe = Watchers.add

    text, token = issue("read", b"r" * 32, "reader", (Scope(verbs=("read",)),))
    door = EdgeDoor(time.time)
    door.learn("production", {"read": token})
    shelf, fanout = Shelf(), Fanout(Room(12_000))
    face = Face(Distribution(shelf, door, fanout).handle, 0)  # type: ignore[arg-type]  # no reads
    server = Server(face, Address("127.0.0.1", 0, 20_000, shutdown_s=2), on_stop=fanout.close)
    threading.Thread(target=server.run, daemon=True).start()
    server.listening.wait()
    tell(port=server.port, token=text)
    for number, line in enumerate(sys.stdin):
        command, _, size = line.strip().partition(" ")
        if command == "state":
            tally = fanout.tally
            tell(cpu_s=time.process_time(), rss_kb=rss_kb(), open=len(fanout), cut=tally.cut)
            continue
        for extra in range(int(size) or 1):
            service = f"shop-{extra}" if int(size) else "shop"
            digest = f"{number:064x}" if not int(size) else "x" * 2_000
            began_ns = time.monotonic_ns()
            shelf.tell(Listed("production", service, number, digest))
        tell(began_ns=began_ns, number=number)
    server.stop()


def tell(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def rss_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


class Served:
    """The server's process, as its parent sees it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            (sys.executable, __file__, "--serve"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        os.sched_setaffinity(self._process.pid, {SERVER_CORE})
        told = self._told()
        self.port, self.token = int(told["port"]), str(told["token"])

    def ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._told()

    def _told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


class Readers:
    """Streams on plain sockets, all read under one epoll."""

    def __init__(self, served: Served, count: int) -> None:
        self._epoll = selectors.EpollSelector()
        self.sockets: list[socket.socket] = []
        head = (
            f"GET /v1/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {served.token}\r\n\r\n"
        ).encode()
        for _ in range(count):
            made = socket.create_connection(("127.0.0.1", served.port))
            made.sendall(head)
            made.setblocking(False)
            self._epoll.register(made, selectors.EVENT_READ)
            self.sockets.append(made)
        self.hear(b"HTTP/1.1 200", count)

    def hear(self, mark: bytes, count: int) -> list[int]:
        """The moments (monotonic ns) at which so many readers got the mark, in order."""
        heard: list[int] = []
        tails: dict[int, bytes] = {}
        done: set[int] = set()
        end_s = time.monotonic() + EVENT_S
        while len(heard) < count:
            if time.monotonic() > end_s:
                raise SystemExit(f"{len(heard)} of {count} readers heard {mark!r}")
            for key, _ in self._epoll.select(0.5):
                data = key.fileobj.recv(READ_BYTES)  # type: ignore[union-attr]
                if not data:
                    raise SystemExit("a reader was cut that did read")
                if mark in tails.get(key.fd, b"") + data and key.fd not in done:
                    heard.append(time.monotonic_ns())
                    done.add(key.fd)
                tails[key.fd] = data[-len(mark) :]
        return heard

    def stop_reading(self, count: int) -> None:
        for each in self.sockets[:count]:
            self._epoll.unregister(each)

    def listen(self, seconds: float) -> None:
        """Read whatever comes for so long."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            for key, _ in self._epoll.select(0.1):
                key.fileobj.recv(READ_BYTES)  # type: ignore[union-attr]

    def close(self) -> None:
        for each in self.sockets:
            each.close()
        self._epoll.close()


def one_event(served: Served, readers: Readers, count: int) -> dict[str, float]:
    """ms from publishing to the first reader, the median, the 99th in a hundred, and the last."""
    began_ns = served.ask("event 0")["began_ns"]
    heard = [(at_ns - began_ns) / 1e6 for at_ns in readers.hear(b"event: change", count)]
    return {
        "first_ms": heard[0],
        "median_ms": statistics.median(heard),
        "p99_ms": heard[int(len(heard) * 0.99)],
        "last_ms": heard[-1],
    }


def medians(found: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(one[name] for one in found), 2) for name in found[0]}


def measure(streams: int, events: int) -> dict[str, float]:
    served = Served()
    before = served.ask("state")
    readers = Readers(served, streams)
    opened = served.ask("state")
    found = medians([one_event(served, readers, streams) for _ in range(events)])
    done = served.ask("state")
    found["kb_per_stream"] = round((done["rss_kb"] - before["rss_kb"]) / streams, 2)
    cpu_s = done["cpu_s"] - opened["cpu_s"]
    found["cpu_us_per_delivery"] = round(cpu_s / (streams * events) * 1e6, 2)
    readers.listen(IDLE_S)
    idle_s = served.ask("state")["cpu_s"] - done["cpu_s"]
    found["idle_cpu_share"] = round(idle_s / IDLE_S, 4)
    slow = streams // SLOW_SHARE
    readers.stop_reading(slow)
    for _ in range(FLOODS_MAX):
        told = served.ask(f"event {BIG_EVENTS}")
        readers.hear(
            f'"shop-{BIG_EVENTS - 1}","revision":{told["number"]},'.encode(), streams - slow
        )
        if served.ask("state")["cut"] == slow:
            break
    else:
        raise SystemExit(f"{served.ask('state')['cut']} of {slow} slow readers were cut")
    again = medians([one_event(served, readers, streams - slow) for _ in range(events)])
    found["p99_after_slow_ms"] = again["p99_ms"]
    found["cut"] = slow
    readers.close()
    served.close()
    return found


def section(report: dict[str, Any]) -> str:
    """Its part of docs/benchmarks.md, of what this module printed."""
    rows = [
        f"| {int(size):,} | {one['first_ms']:.1f} | {one['median_ms']:.0f} | {one['p99_ms']:.0f} "
        f"| {one['last_ms']:.0f} | {one['p99_after_slow_ms']:.0f} | {one['kb_per_stream']:.1f} "
        f"| {one['cpu_us_per_delivery']:.1f} | {one['idle_cpu_share']:.1%} |"
        for size, one in report["streams"].items()
    ]
    text = (
        "One event of an edge process to all its streams: ms from publishing to the first client, "
        "the median, the 99th in a hundred and the last; that p99 again after one reader in a "
        "hundred stopped reading and was cut; memory of the server per stream, its connection "
        "counted in; CPU time of the server per delivery, and its share of a core with nothing but "
        "heartbeats to send. Medians of "
        f"{report['events']} events, the server on one core, all readers on the other. "
        f"Wanted at 10,000: p99 <= {P99_MS_MAX:.0f} ms, <= {STREAM_KB_MAX:.0f} kB a stream."
    )
    head = "| streams | first | median | p99 | last | p99, slow ones cut | kB | us | idle |"
    return "\n".join(["## Fan-out", "", text, "", head, "|---:" * 9 + "|", *rows])


def plot(report: dict[str, Any], path: Path) -> None:
    """ms by number of streams, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axis = figure.subplots()
    sizes = [int(size) for size in report["streams"]]
    for name, label in (("median_ms", "median"), ("p99_ms", "p99"), ("last_ms", "last")):
        heights = [one[name] for one in report["streams"].values()]
        axis.plot(sizes, heights, marker="o", label=label)
    axis.axhline(P99_MS_MAX, color="#adb5bd", linestyle="--", label="bound of the p99")
    axis.set(xlabel="streams on one process", ylabel="ms from publishing", ylim=(0, None))
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--sizes", default=",".join(str(size) for size in SIZES))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    allow_files()
    if options.serve:
        serve()
        return
    os.sched_setaffinity(0, {LOAD_CORE})
    found = {size: measure(int(size), options.events) for size in options.sizes.split(",")}
    sys.stdout.write(json.dumps({"events": options.events, "streams": found}) + "\n")


if __name__ == "__main__":
    main()
