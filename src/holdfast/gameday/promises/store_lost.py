"""`store-lost`: everything that a store held is gone; a backup of a while ago is there."""

from __future__ import annotations

import contextlib
import copy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from holdfast.apps.store_urls import url_of
from holdfast.apps.stores import open_stores
from holdfast.core.errors import HoldfastError
from holdfast.engine.backup import BackupContent
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.etcd import EtcdCluster
from holdfast.gameday.nodes import Nodes
from holdfast.gameday.postgres import Postgres
from holdfast.gameday.processes import ask, until, until_or_not
from holdfast.gameday.promises.control_plane_dead import expect_what_stands

BEFORE: Final = 3
"""Changes before the backup, beside those that make the fleet."""
AFTER: Final = 4
"""Changes after it: these are lost."""
COMMAND_S: Final = 120.0
BACK_S_MAX: Final = 30.0
BACK_UNPROTECTED_S: Final = 3.0
"""Consumers that refuse a number they know do so for ever."""


class Lost:
    """A store, and the way to lose all of it."""

    def __init__(self, url: str, lose: Callable[[], None]) -> None:
        self.url = url
        self.lose = lose


@contextlib.contextmanager
def _sqlite(directory: Path) -> Iterator[Lost]:
    yield Lost(url_of(directory), lambda: shutil.rmtree(directory))


@contextlib.contextmanager
def _etcd(directory: Path) -> Iterator[Lost]:
    with EtcdCluster(directory) as cluster:

        def lose() -> None:
            [member] = cluster.members
            member.kill()
            for path in directory.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
            member.start()
            cluster.wait_healthy()

        yield Lost(cluster.url, lose)


@contextlib.contextmanager
def _postgresql(_: Path) -> Iterator[Lost]:
    with Postgres() as server:
        yield Lost(server.url, lambda: _drop(server))


def _drop(server: Postgres) -> None:
    server.ask("DROP SCHEMA holdfast CASCADE")


ENGINES: Final[Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Lost]]]] = {
    "sqlite": _sqlite,
    "etcd": _etcd,
    "postgresql": _postgresql,
}


def run(day: Day) -> None:
    """`sample`: with so many engines, in their order."""
    for engine in list(ENGINES)[: day.sample or None]:
        part = copy.copy(day)
        part.directory = day.directory / engine
        part.directory.mkdir()
        with ENGINES[engine](part.directory / "store") as store:
            _lost(part, engine, store)
        day.ticks = [*day.ticks, *part.ticks]
    missed = [figure.name for figure in day.figures if not figure.holds]
    day.affected = "whose changes came after the backup" if not missed else "; ".join(missed)
    day.root_cause = "a store whose data is gone, on all of its members"
    day.stopped_by = (
        "a backup that is verified before, while and after it is restored; lost revisions that "
        "consumers saw are not given out again"
    )


def _lost(day: Day, engine: str, store: Lost) -> None:
    with Nodes(day, {"node-a": store.url}) as fleet:
        fleet.begin()
        expect_what_stands(fleet)
        fleet.watch("sdk", "sdk", [fleet.edge_urls["edge-a"]])
        fleet.watch("ofrep", "ofrep", [fleet.edge_urls["edge-a"]], interval_s=0.5)
        for name in fleet.clients:
            fleet.wait_answering(name)
        for _ in range(BEFORE):
            fleet.count_up()
        file = day.directory / "holdfast.backup"
        backed_up = _store("backup", str(file), "--store", store.url)
        digests = _digests(fleet)
        day.note("step", f"{engine}: a backup at revision {backed_up['revision']}")
        newest = max(fleet.count_up() for _ in range(AFTER))
        until(lambda: fleet.revision_at("edge-a") == newest, "the last change at the edge", 60.0)
        before = fleet.totals()[0]
        fleet.control.kill()
        store.lose()
        day.note("fault", f"{engine}: the store is gone, {AFTER} changes after the backup with it")
        told = _restored(day, engine, fleet, store, file)
        _judge_restored(day, engine, told, backed_up["revision"], newest)
        fleet.start_control()
        now = _digests(fleet)
        day.measure(
            f"{engine}: snapshots other than before the backup",
            sum(now.get(name) != digest for name, digest in digests.items()),
            f"0 of {len(digests)}",
            holds=now == digests,
        )
        _go_on(day, engine, fleet, newest)
        _judge_answers(day, engine, fleet, before)


def _restored(day: Day, engine: str, fleet: Nodes, store: Lost, file: Path) -> dict[str, Any]:
    """Restore a copy of the backup that was damaged, which must fail, then the sound one."""
    damaged = file.with_name("damaged.backup")
    damaged.write_bytes(file.read_bytes()[: file.stat().st_size * 3 // 4])
    if not day.protected:
        _without_verification(damaged, store.url)
        day.note("step", f"{engine}: restored without verification, what could be read")
        return {}
    try:
        _store("restore", str(damaged), store.url)
    except RuntimeError as refused:
        day.note("blocked", f"{engine}: a backup that was cut off: {refused}")
    cache = fleet.directory / "edge-a"
    return _store("restore", str(file), store.url, "--cache", str(cache))


def _without_verification(file: Path, url: str) -> None:
    stores = open_stores(url)
    try:
        with file.open("rb") as body, contextlib.suppress(HoldfastError):
            for entry in BackupContent(body, "half").entries(0, 1 << 31):
                stores.journal.append_all([entry])
    finally:
        stores.close()


def _judge_restored(
    day: Day, engine: str, told: Mapping[str, Any], backed_up: int, newest: int
) -> None:
    blocked = any(n.kind == "blocked" and n.text.startswith(f"{engine}:") for n in day.notes)
    day.measure(f"{engine}: damaged backups restored", int(not blocked), "0", holds=blocked)
    said = (told.get("backup_revision"), told.get("revision"))
    day.measure(
        f"{engine}: what was lost, as told",
        f"revisions {backed_up + 1} to {newest}" if said == (backed_up, newest) else f"{said}",
        f"revisions {backed_up + 1} to {newest}",
        holds=said == (backed_up, newest),
    )


def _go_on(day: Day, engine: str, fleet: Nodes, newest: int) -> None:
    """The lost changes are committed again: consumers take what comes, and go back nowhere."""
    began_s = time.monotonic()
    revision = fleet.count_up()

    def arrived() -> bool:
        line = fleet.readers["sdk"].last
        seen = line.revisions.get("shop", 0) if line else 0
        return fleet.revision_at("edge-a") == revision and seen == revision

    came = until_or_not(arrived, BACK_S_MAX if day.protected else BACK_UNPROTECTED_S)
    took_s = round(time.monotonic() - began_s, 1)
    day.note("recovered" if came else "damage", f"{engine}: the next change came to all: {came}")
    day.measure(
        f"{engine}: revisions given out a second time",
        max(0, newest + 1 - revision), "0", holds=revision > newest,
    )  # fmt: skip
    day.measure(
        f"{engine}: the next change is at edge and client, s", took_s,
        f"at most {BACK_S_MAX:.0f}", holds=came,
    )  # fmt: skip


def _judge_answers(day: Day, engine: str, fleet: Nodes, before: int) -> None:
    answered, wrong, failed = fleet.totals()
    for example in fleet.examples()[:5]:
        day.note("damage", example)
    day.measure(
        f"{engine}: answers that failed or were wrong", wrong + failed,
        f"0 of {answered - before} since the loss",
        holds=not wrong + failed and answered > before,
    )  # fmt: skip


def _digests(fleet: Nodes) -> dict[str, str]:
    """`environment/service` -> the digest of the newest snapshot that is served."""
    listed = ask("GET", f"{fleet.control_url}/v1/catalogue", token=fleet.token).body["subjects"]
    return {f"{each['environment']}/{each['service']}": each["digest"] for each in listed}


def _store(command: str, *arguments: str) -> dict[str, Any]:
    """What `holdfast store …` says. Raises `RuntimeError` with its complaint."""
    line = (sys.executable, "-m", "holdfast.apps.cli", "store", command, *arguments)
    done = subprocess.run(  # noqa: S603  our own command
        (*line, "--output", "json"), capture_output=True, text=True, check=False, timeout=COMMAND_S
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[0] if done.stderr else "no reason")
    found: dict[str, Any] = msgspec.json.decode(done.stdout)
    return found


DRILL = Drill(
    name="store-lost",
    title="The store is lost whole",
    promise=(
        "all up to the backup is served again with the same digests; 0 failed or wrong answers "
        "meanwhile; what came after the backup is told"
    ),
    rehearsal=(
        "changes, a backup, more changes; then the files of SQLite, the data of etcd, the tables "
        "in PostgreSQL are deleted. A backup that was cut off is restored, then the sound one; "
        "clients ask an edge all the while; then changes go on."
    ),
    run=run,
)
