"""The journal's figures: appends, cold starts with and without a checkpoint, commits.

    python benchmarks/journal.py [--entries 100000] [--settings 3000]

Entries are single edits of settings of about 700 bytes, spread over six services; the SQLite file
is on the disk of the temporary directory, with a real fsync for every append.
"""

from __future__ import annotations

import argparse
import base64
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from holdfast.adapters.memory import MemoryBlobs
from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.core.access import Grant
from holdfast.core.build import build
from holdfast.core.delta import make_delta
from holdfast.core.history import EMPTY, State, fold_all, seal
from holdfast.core.lineage import Lineage, Standing, encode_standing
from holdfast.core.model import (
    GENESIS,
    Change,
    Entry,
    Environment,
    Head,
    PutEnvironment,
    PutService,
    PutSetting,
    Rule,
    Scope,
    Service,
    Setting,
    Targeting,
)
from holdfast.core.snapshot import Previous, encode
from holdfast.core.subjects import revisions
from holdfast.core.validate import validate
from holdfast.core.wire import canonical, digest
from holdfast.engine.publish import Publisher
from holdfast.engine.shelf import Shelf
from holdfast.engine.views import View
from holdfast.ports import Checkpoint

T = TypeVar("T")
SERVICES = 6
ADMIN = Grant("root", "root", (Scope(("admin",)),))


def setting(value: int) -> Setting:
    rule = Rule(
        name="pilot tenants on a build that can",
        when='tenant in ["contoso", "fabrikam"] && ring != "general"',
        logic={
            "and": [
                {"in": [{"var": "tenant"}, ["contoso", "fabrikam"]]},
                {"!=": [{"var": "ring"}, "general"]},
            ]
        },
        serve="many",
    )
    targeting = Targeting("few", rules=(rule,))
    return Setting(
        "integer",
        {"few": value, "many": 49},
        {"production": targeting, "staging": targeting},
        "How many tiles a meeting shows at most",
        {"minimum": 0},
    )


def edit(number: int, settings: int) -> PutSetting:
    key = number % settings
    return PutSetting(f"service-{key % SERVICES}", f"setting-{key}", setting(number))


def history(entries: int, settings: int) -> Iterator[Entry]:
    first = (
        PutEnvironment("production", Environment()),
        PutEnvironment("staging", Environment()),
        *(PutService(f"service-{number}", Service()) for number in range(SERVICES)),
    )
    entry = seal(GENESIS, 1, "bench", "", first)
    yield entry
    for number in range(entries - 1):
        head = Head(entry.revision, entry.hash)
        entry = seal(head, number, "bench", "a reason", (edit(number, settings),))
        yield entry


FIGURES: dict[str, dict[str, float]] = {}


def timed(what: str, work: Callable[[], T], per: int = 0, unit: str = "") -> T:
    started, started_cpu = time.perf_counter(), time.process_time()
    result = work()
    took_s, cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
    rate = f"{per / took_s:12,.0f} {unit}/s" if per else ""
    print(f"{what:58s}{took_s:9.3f} s {cpu_s:8.3f} cpu{rate}", flush=True)
    FIGURES[what] = {"wall_s": took_s, "cpu_s": cpu_s, "per_s": per / took_s}
    return result


def sign(payload_type: str, payload: bytes) -> bytes:
    body = base64.b64encode(payload).decode()
    return canonical({"payload": body, "payloadType": payload_type, "signatures": []})


def commit_times(path: Path, settings: int, commits: int) -> list[float]:
    journal = SqliteJournal(path)
    view = View(journal, time.time)
    Shelf(view, MemoryBlobs(), sign, make_delta)
    publisher = Publisher(
        view=view,
        journal=journal,
        blobs=MemoryBlobs(),
        clock=time.time,
        validate=validate,
    )
    took = []
    for number in range(commits):
        change = Change((edit(10**6 + number, settings),))
        started = time.perf_counter()
        publisher.commit(change, "bench", ADMIN)
        took.append(time.perf_counter() - started)
    view.close()
    journal.close()
    return sorted(took)


def fill(journal: SqliteJournal, entries: Iterable[Entry], *, told: bool = True) -> None:
    """Append them one by one; what is told is the time in `append` alone."""
    took_s, count = 0.0, 0
    for entry in entries:
        started = time.perf_counter()
        journal.append(entry)
        took_s += time.perf_counter() - started
        count += 1
    if told:
        what = "append, SQLite, synchronous=FULL, one by one"
        print(f"{what:58s}{took_s:9.3f} s{'':13s}{count / took_s:12,.0f} appends/s", flush=True)


def drain(journal: SqliteJournal) -> int:
    return sum(1 for _ in journal.read())


def standing_of(state: State) -> Standing:
    """What stands, with made-up predecessors: to know the real ones takes the whole replay."""
    lineages = {}
    for subject, revision in revisions(state).items():
        at = Head(revision, "0" * 64)
        previous = Previous(revision - 1, "0" * 64) if revision > 1 else None
        body = encode(build(state, subject, previous, head=at))
        lineages[subject] = Lineage(revision, at.hash, digest(body), previous)
    return Standing(state, lineages, frozenset(lineages), 1)


def start(path: Path) -> View:
    journal = SqliteJournal(path)
    try:
        return View(journal, time.time)
    finally:
        journal.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--settings", type=int, default=3_000)
    parser.add_argument("--without-checkpoint-max", type=int, default=1_000)
    parser.add_argument("--commits", type=int, default=200)
    given = parser.parse_args()
    count, settings = given.entries, given.settings
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal.db"
        few = min(count, given.without_checkpoint_max)
        timed("seal", lambda: sum(1 for _ in history(few, settings)), few, "entries")
        journal = SqliteJournal(path)
        fill(journal, history(count, settings))
        timed("read, every hash and link checked", lambda: drain(journal), count, "entries")
        state = timed("read and fold", lambda: fold_all(EMPTY, journal.read()), count, "entries")
        journal.close()
        journal = timed("open: pages, hashes and links checked", lambda: SqliteJournal(path))
        print(f"{'file':58s}{path.stat().st_size / 1e6:9.1f} MB")
        short = Path(directory) / "short.db"
        part = SqliteJournal(short)
        fill(part, history(few, settings), told=False)
        part.close()
        timed(f"cold start, no checkpoint, {few:,} entries", lambda: start(short), few, "entries")
        standing = standing_of(state)
        body = timed("encode a checkpoint", lambda: encode_standing(standing))
        timed("save it", lambda: journal.save_checkpoint(Checkpoint(count, body)))
        journal.close()
        view = timed(f"cold start from a checkpoint, {count:,} entries", lambda: start(path))
        print(f"{'entries taken after the checkpoint':58s}{view.replayed:9d}")
        took = commit_times(path, settings, given.commits)
        p50, p99 = took[len(took) // 2] * 1000, took[int(len(took) * 0.99)] * 1000
        print(f"{'commit through the door':58s}p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    print(json.dumps({"steps": FIGURES, "commit": {"p50_ms": p50, "p99_ms": p99}}))


if __name__ == "__main__":
    main()
