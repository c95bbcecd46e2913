"""`store-stopped`: every process of the store is stopped; its connections stay, nothing answers."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from holdfast.gameday.drill import Chart, Day, Drill
from holdfast.gameday.etcd import EtcdCluster
from holdfast.gameday.holding import Held
from holdfast.gameday.nodes import Nodes
from holdfast.gameday.postgres import Postgres
from holdfast.gameday.processes import ask, until_or_not
from holdfast.gameday.promises.control_plane_dead import expect_what_stands

STOPPED_S: Final = 15.0
STOPPED_SHORT_S: Final = 3.0
REFUSED_S_MAX: Final = 1.0
BACK_S_MAX: Final = 10.0
ANSWER_S: Final = 30.0
WRITERS: Final = 3
"""Changes that come at once: they wait for one another, and for the store."""
PAUSE_S: Final = 0.1
READS: Final = ("/v1/head", "/v1/services/shop/settings/counter", "/production/shop/snapshot")


class Store(Protocol):
    """A real store that can be stopped: what `Postgres` is, and others are made to be."""

    @property
    def url(self) -> str: ...

    def stop(self) -> None: ...

    def cont(self) -> None: ...


class Members:
    """All members of an etcd cluster, as one."""

    def __init__(self, cluster: EtcdCluster) -> None:
        self._cluster = cluster
        self.url = cluster.url

    def stop(self) -> None:
        for member in self._cluster.members:
            member.stop()

    def cont(self) -> None:
        for member in self._cluster.members:
            member.cont()


@contextlib.contextmanager
def _etcd(directory: Path) -> Iterator[Members]:
    with EtcdCluster(directory, members=3) as cluster:
        yield Members(cluster)


ENGINES: Final[Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Store]]]] = {
    "etcd": _etcd,
    "postgresql": lambda _: Postgres(),
    "sqlite": Held,
}


class Write(msgspec.Struct, frozen=True):
    """One change while the store was stopped: when it came, its status, how long it waited."""

    at_s: float
    status: int
    took_s: float


def run(day: Day) -> None:
    """`sample`: with so many engines, in their order."""
    for engine in list(ENGINES)[: day.sample or None]:
        part = copy.copy(day)
        part.directory = day.directory / engine
        with ENGINES[engine](part.directory / "store") as store:
            _stopped(part, engine, store)
        day.ticks = [*day.ticks, *part.ticks]
    missed = [figure.name for figure in day.figures if not figure.holds]
    day.affected = "nobody but who wanted to write" if not missed else "; ".join(missed)
    day.root_cause = "a store that neither answers nor refuses"
    day.stopped_by = (
        "reads are answered from memory; calls to the store are counted from outside, and once one "
        "is late whoever wants to write is told so"
    )


def _stopped(day: Day, engine: str, store: Store) -> None:
    with Nodes(day, {"node-a": store.url}) as fleet:
        fleet.begin()
        expect_what_stands(fleet)
        fleet.watch("sdk", "sdk", [fleet.edge_urls["edge-a"]])
        fleet.watch("sdk-node", "sdk", [fleet.control_url])
        fleet.watch("ofrep", "ofrep", [fleet.edge_urls["edge-a"]], interval_s=0.5)
        for name in fleet.clients:
            fleet.wait_answering(name)
        before = fleet.totals()[0]
        store.stop()
        day.note("fault", f"{engine}: every process of the store is stopped")
        writes, reads = _meanwhile(day, fleet)
        _judge_writes(day, engine, writes)
        fine = reads.count(200)
        day.measure(
            f"{engine}: reads at the node", fine, f"all {len(reads)}", holds=fine == len(reads)
        )
        store.cont()
        _back(day, engine, fleet)
        answered, wrong, failed = fleet.totals()
        for example in fleet.examples()[:5]:
            day.note("damage", example)
        during = answered - before
        day.measure(
            f"{engine}: answers at clients that failed or were wrong", wrong + failed,
            f"0 of {during}", holds=not wrong + failed and during > 0,
        )  # fmt: skip


def _meanwhile(day: Day, fleet: Nodes) -> tuple[list[Write], list[int]]:
    """What became of changes and of reads while nothing answers."""
    end_s = time.monotonic() + (STOPPED_SHORT_S if day.sample else STOPPED_S)
    writes: list[Write] = []

    def write(number: int) -> None:
        while (began_s := time.monotonic()) < end_s:
            edit = fleet.counter_edit(-number)
            body = {"edits": [edit], "reason": "while it is stopped"}
            found = fleet.at("node-a", "POST", "/v1/commits", body, ANSWER_S)
            took_s = time.monotonic() - began_s
            writes.append(Write(day.since_s() - took_s, found.status, took_s))
            time.sleep(PAUSE_S)

    for number in range(1, WRITERS + 1):
        fleet.allow("shop", "counter", -number)  # it may be written all the same, later
    writers = [threading.Thread(target=write, args=(n + 1,)) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    reads = []
    while time.monotonic() < end_s:
        reads += [ask("GET", fleet.control_url + path, token=fleet.token).status for path in READS]
        time.sleep(PAUSE_S)
    for writer in writers:
        writer.join()
    return writes, reads


def _judge_writes(day: Day, engine: str, writes: list[Write]) -> None:
    statuses = sorted({write.status for write in writes})
    slowest_s = max(write.took_s for write in writes)
    refused = statuses == [503]
    told = f"{len(writes)} changes answered {statuses}, the slowest after {slowest_s:.2f} s"
    day.note("blocked" if refused and slowest_s <= REFUSED_S_MAX else "damage", told)
    day.measure(
        f"{engine}: answers to changes", ", ".join(map(str, statuses)), "503", holds=refused
    )
    day.measure(
        f"{engine}: the slowest answer to one of {len(writes)} changes, s",
        round(slowest_s, 2), f"at most {REFUSED_S_MAX:g}",
        holds=slowest_s <= REFUSED_S_MAX, timed=True,
    )  # fmt: skip
    points = tuple((write.at_s, write.took_s) for write in sorted(writes, key=lambda w: w.at_s))
    day.charts.append(
        Chart(
            name=f"store-stopped-{engine}",
            title=f"Changes while {engine} was stopped",
            x="seconds since the drill began",
            y="s to the answer",
            lines={"changes": points},
            bar=REFUSED_S_MAX,
        )
    )


def _back(day: Day, engine: str, fleet: Nodes) -> None:
    began_s = time.monotonic()
    edit = fleet.next_count()

    def written() -> bool:
        return fleet.try_commit(edits=[edit], reason="it goes on").status == 201

    back = until_or_not(written, 3 * BACK_S_MAX)
    took_s = round(time.monotonic() - began_s, 2)
    day.note("recovered" if back else "damage", f"{engine} goes on: a change after {took_s} s")
    day.measure(
        f"{engine}: a change goes through, s after the store goes on", took_s,
        f"at most {BACK_S_MAX:.0f}", holds=back and took_s <= BACK_S_MAX,
    )  # fmt: skip


DRILL = Drill(
    name="store-stopped",
    title="The store is stopped",
    promise="reads 100 %; writes get 503 in <= 1 s",
    rehearsal=(
        "SIGSTOP of all members of an etcd cluster, of all processes of PostgreSQL, and of a "
        "process in the middle of a write to a journal in SQLite; meanwhile changes come three at "
        "once, and clients ask a node, an edge, and by OFREP."
    ),
    run=run,
)
