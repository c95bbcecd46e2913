"""What operations cost on this machine: a control plane, an edge and clients, CPU time by process.

CPU time of a process does not tell of others that are busy beside it; of each operation as many are
made as it takes to see it. Clients are measured twice: the SDK, for what a client costs, and the
light clients of `gameday.swarm`, for the comparison with a real run of them.
"""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from holdfast.apps.streams import HEARTBEAT_S
from holdfast.core.errors import Unavailable
from holdfast.gameday.drill import Day
from holdfast.gameday.fleet import ENVIRONMENT, Fleet
from holdfast.gameday.simulation.costs import Costs
from holdfast.gameday.swarm import Swarm, Swarming

FEW, MANY = 20, 400
"""Light clients, to tell what a change costs by itself from what each client adds."""
CHANGES: Final = 6
REQUESTS: Final = 3_000
"""Of one kind, on one connection."""
STREAMS: Final = 800
BEATS_S: Final = 5.0
POLL_S: Final = 1.0
POLLING_S: Final = 6.0
SDK_POLL_S: Final = 0.05
SDK_S: Final = 4.0
SETTLE_S: Final = 1.0
_NS: Final = 1e-9


class Measured(msgspec.Struct, frozen=True):
    """Costs with the SDK as client, and with the swarm's light clients, which share one CPU."""

    costs: Costs
    light: Costs


def calibrate(tell: Callable[[str], object]) -> Costs:
    """Measure on a fleet of its own, some 40 s."""
    with tempfile.TemporaryDirectory(prefix="holdfast-calibrate-") as place:
        day = Day(Path(place), seed=1, protected=True)
        with Fleet(day) as fleet:
            begin(fleet)
            return measure(fleet, Path(place), tell).costs


def begin(fleet: Fleet, poll_interval_s: float = 10.0) -> None:
    """A control plane and `edge-a`, which polls as often as its clients do."""
    fleet.begin(edges=())
    fleet.add_edge("edge-a", (fleet.control_url,), None, "--poll-interval", f"{poll_interval_s:g}")
    fleet.wait_ready("edge-a")


def measure(fleet: Fleet, place: Path, tell: Callable[[str], object]) -> Measured:
    """All of it, on a fleet that has begun."""
    edge = fleet.edges["edge-a"].pid
    url = fleet.edge_urls["edge-a"]
    tell("answers of the edge")
    asked = _Asked(url)
    not_modified_s, snapshot_s, catalogue_s = (
        _each_s(edge, partial(asked.ask, kind), REQUESTS) for kind in ("have", "all", "catalogue")
    )
    tell(f"{STREAMS:,} streams of the edge")
    stream_s, heartbeat_s, hint_s = _streams(fleet, edge, url)
    tell("polls of light clients")
    poll_s = _light_poll_s(url, place)
    tell(f"changes, with {FEW} and with {MANY} light clients")
    few = _changes(fleet, place, FEW)
    many = _changes(fleet, place, MANY)
    each = [(one - other) / (MANY - FEW) for one, other in zip(many.cpu_s, few.cpu_s, strict=True)]
    # In a herd a poll costs less than one that comes alone.
    new_s = min(snapshot_s, each[0] - hint_s) if each[0] > hint_s else snapshot_s
    tell("an SDK")
    sdk_poll_s, sdk_change_s = _sdk(fleet, url, place)
    costs = Costs(
        not_modified_s=_micro(not_modified_s),
        snapshot_s=_micro(new_s),
        catalogue_s=_micro(catalogue_s),
        stream_s=_micro(stream_s),
        hint_s=_micro(hint_s),
        heartbeat_s=_micro(heartbeat_s),
        hand_on_s=round(max(0.0, few.median_s), 4),
        publish_s=0.0,
        client_poll_s=_micro(sdk_poll_s),
        client_activate_s=_micro(sdk_change_s),
        client_hint_s=0.0,
        request_bytes=asked.request_bytes,
        answer_bytes=asked.answer_bytes,
    )
    # Of a light client's change only the sum is seen: half is the hint's, half that of its poll.
    light = msgspec.structs.replace(
        costs,
        client_poll_s=_micro(poll_s),
        client_activate_s=_micro(each[1] / 2),
        client_hint_s=_micro(each[1] / 2),
    )
    return Measured(costs, light)


def cpu_s(process: int) -> float:
    """CPU time of all threads of a process so far."""
    return ran_and_waited_s(process)[0]


def ran_and_waited_s(process: int) -> tuple[float, float]:
    """CPU time of all threads of a process so far, and how long they waited for a CPU."""
    ran = waited = 0
    for path in Path(f"/proc/{process}/task").glob("*/schedstat"):
        try:
            told = path.read_text("ascii").split()
        except OSError:
            continue  # a thread that ended meanwhile
        ran += int(told[0])
        waited += int(told[1])
    return ran * _NS, waited * _NS


def _micro(seconds: float) -> float:
    return round(max(0.0, seconds), 7)


def _each_s(process: int, act: Callable[[], object], times: int) -> float:
    """CPU seconds of a process for one of so many."""
    act()
    before_s = cpu_s(process)
    for _ in range(times):
        act()
    return (cpu_s(process) - before_s) / times


class _Asked:
    """One connection to an edge that asks the same again and again."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname or "", place.port or 80))
        self._host = place.netloc
        self._digest = ""
        self.request_bytes = self.answer_bytes = 0
        self.ask("all")
        self.ask("have")

    def ask(self, kind: str) -> None:
        have = f"?have={self._digest}" if kind == "have" else ""
        path = "/v1/catalogue" if kind == "catalogue" else f"/{ENVIRONMENT}/shop/snapshot{have}"
        condition = f'if-none-match: "{self._digest}"\r\n' if kind == "have" else ""
        request = f"GET {path} HTTP/1.1\r\nhost: {self._host}\r\n{condition}\r\n".encode()
        self._socket.sendall(request)
        head, body = self._read()
        if kind == "all":
            for line in head.decode("latin-1").split("\r\n"):
                name, _, value = line.partition(":")
                if name.lower() == "etag":
                    self._digest = value.strip().removeprefix("W/").strip('"').split(".")[0]
        elif kind == "have" and not body:
            self.request_bytes, self.answer_bytes = len(request), len(head) + 4

    def _read(self) -> tuple[bytes, bytes]:
        data = b""
        while (cut := data.find(b"\r\n\r\n")) < 0:
            data += self._socket.recv(1 << 20)
        head, body = data[:cut], data[cut + 4 :]
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        while len(body) < length:
            body += self._socket.recv(1 << 20)
        return head, body


def _streams(fleet: Fleet, edge: int, url: str) -> tuple[float, float, float]:
    """CPU of the edge for opening a stream, for a heartbeat, and for an event, on each one."""
    place = urlsplit(url)
    idle_s, alone_s = _while_s(edge, BEATS_S), _change_s(fleet, edge)
    request = f"GET /v1/stream HTTP/1.1\r\nhost: {place.netloc}\r\n\r\n".encode()
    before_s, opened = cpu_s(edge), []
    for _ in range(STREAMS):
        made = socket.create_connection((place.hostname or "", place.port or 80))
        made.sendall(request)
        made.recv(4_096)
        opened.append(made)
    open_s = (cpu_s(edge) - before_s) / STREAMS
    beating_s, telling_s = _while_s(edge, BEATS_S), _change_s(fleet, edge)
    for made in opened:
        made.close()
    heartbeat_s = max(0.0, beating_s - idle_s) / (STREAMS * BEATS_S / HEARTBEAT_S)
    # Heartbeats go on while an event is told.
    beats_s = (beating_s - idle_s) * SETTLE_S / BEATS_S
    return open_s, heartbeat_s, max(0.0, telling_s - alone_s - beats_s) / STREAMS


def _change_s(fleet: Fleet, edge: int) -> float:
    """CPU of the edge for one change, whoever follows it: the median of some."""
    found = []
    for _ in range(CHANGES):
        before_s = cpu_s(edge)
        fleet.count_up()
        time.sleep(SETTLE_S)
        found.append(cpu_s(edge) - before_s)
    return statistics.median(found)


def _while_s(process: int, seconds: float) -> float:
    before_s = cpu_s(process)
    time.sleep(seconds)
    return cpu_s(process) - before_s


def _light_poll_s(url: str, place: Path) -> float:
    """CPU of the swarm for one poll that brings nothing."""
    told = Swarming(
        endpoints=(url,),
        clients=MANY,
        poll_interval_s=POLL_S,
        start_within_s=POLL_S,
        streams=False,
    )
    with Swarm(place, told, "swarm-polls") as swarm:
        swarm.wait_all()
        time.sleep(SETTLE_S)
        began_s, before_s = time.time(), cpu_s(swarm.process.pid)
        time.sleep(POLLING_S)
        used_s, ended_s = cpu_s(swarm.process.pid) - before_s, time.time()
        time.sleep(SETTLE_S)
        return used_s / (swarm.offered(began_s, ended_s) * (ended_s - began_s))


class _Changed(msgspec.Struct, frozen=True):
    """CPU of the edge and of the swarm for one change, and the median of its propagation."""

    cpu_s: tuple[float, float]
    median_s: float


def _changes(fleet: Fleet, place: Path, clients: int) -> _Changed:
    """Changes that come by streams alone: nobody polls meanwhile."""
    told = Swarming(
        endpoints=(fleet.edge_urls["edge-a"],),
        clients=clients,
        poll_interval_s=600.0,
        start_within_s=1.0,
        timed=True,
    )
    edge = fleet.edges["edge-a"].pid
    with Swarm(place, told, f"swarm-{clients}") as swarm:
        swarm.wait_all()
        time.sleep(2 * SETTLE_S)  # the polls after the streams were opened
        found, medians = [], []
        for _ in range(CHANGES):
            before_s = cpu_s(edge), cpu_s(swarm.process.pid)
            median_s = statistics.median(reached_s(fleet, swarm))
            time.sleep(SETTLE_S)
            after_s = cpu_s(edge), cpu_s(swarm.process.pid)
            found.append([after - before for after, before in zip(after_s, before_s, strict=True)])
            medians.append(median_s)
    edge_s, swarm_s = (statistics.median(column) for column in zip(*found, strict=True))
    return _Changed((edge_s, swarm_s), statistics.median(medians))


def reached_s(fleet: Fleet, swarm: Swarm, within_s: float = 60.0) -> list[float]:
    """Commit a change; for each client the seconds since it was acknowledged, in order."""
    revision = fleet.count_up()
    committed_s = time.time()
    swarm.wait(lambda now: now.at_least(revision) >= swarm.told.clients, "the change", within_s)
    return sorted(
        at_s - committed_s
        for each in swarm.slices()
        for held, at_s in each.activations
        if held == revision
    )


def _sdk(fleet: Fleet, url: str, place: Path) -> tuple[float, float]:
    """CPU of this process for a poll of an SDK, and for a generation that it activates."""
    from holdfast.sdk.client import Client

    client = Client([url], ENVIRONMENT, "shop", cache_dir=place / "sdk", poll_interval_s=SDK_POLL_S)
    try:
        if not client.wait_until_ready(SDK_S):
            raise Unavailable("the SDK got no settings")
        time.sleep(SETTLE_S)
        polling_s = _while_s(os.getpid(), SDK_S)
        before_s, began_s = cpu_s(os.getpid()), time.monotonic()
        for _ in range(CHANGES):
            fleet.count_up()
            time.sleep(SETTLE_S / 2)
        changed_s, took_s = cpu_s(os.getpid()) - before_s, time.monotonic() - began_s
    finally:
        client.close()
    poll_s = polling_s / (SDK_S / SDK_POLL_S)
    return poll_s, max(poll_s, (changed_s - polling_s * took_s / SDK_S) / CHANGES)
