"""Times one product in its own process and environment; prints one JSON line.

python worker.py evaluate PEER     ns per evaluation for each workload
python worker.py load PEER         ms and MB for 10,000 settings
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
import timeit
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from workloads import CONTEXT, Workload, mixed, workloads

SECONDS_A_ROUND = 0.06
ROUNDS = 10


def calibrated(statement: str, names: dict[str, Any]) -> tuple[timeit.Timer, int]:
    """A timer of `statement`, garbage collection on, and how often it fits into one round.

    It counts the calling thread's CPU time.
    """
    setup = "import gc; gc.enable()"
    timer = timeit.Timer(statement, setup, timer=time.thread_time, globals=names)
    number = 1
    while (seconds := timer.timeit(number)) < SECONDS_A_ROUND / 10:
        number *= 4
    return timer, max(1, int(number * SECONDS_A_ROUND / seconds))


def check(peer: Any, product: Any, workload: Workload) -> None:
    for setting, expected in zip(workload.settings, workload.expected, strict=True):
        statement, names = peer.statement(product, setting, workload.context)
        got = eval(statement, names)  # noqa: S307 — the peers' own statements, from this folder
        if expected is not None and got != expected:
            raise SystemExit(f"{peer.__name__} {setting.key}: {got!r}, expected {expected!r}")


def merge(peer: Any, product: Any, workload: Workload) -> tuple[str, dict[str, Any]]:
    """One statement that evaluates every setting of the workload once."""
    names: dict[str, Any] = {}
    lines: list[str] = []
    for setting in workload.settings:
        statement, given = peer.statement(product, setting, workload.context)
        suffix = "_" + setting.type
        for name, value in given.items():
            statement = statement.replace(f"{name}(", f"{name}{suffix}(")
            for before in ("(", " "):
                for after in (")", ","):
                    statement = statement.replace(
                        f"{before}{name}{after}", f"{before}{name}{suffix}{after}"
                    )
            names[name + suffix] = value
        lines.append(statement)
    return "\n".join(lines), names


def evaluate(peer: Any) -> dict[str, float]:
    """ns for one pass over each workload: the fastest of its rounds; the rest is the machine's.

    The workloads take turns, so that a slow moment of the machine spoils a round of each and not
    all rounds of one.
    """
    timers = {}
    for workload in workloads():
        product = peer.load(peer.document(workload.settings))
        check(peer, product, workload)
        timers[workload.name] = calibrated(*merge(peer, product, workload))
    figures = dict.fromkeys(timers, float("inf"))
    for _ in range(ROUNDS):
        for name, (timer, number) in timers.items():
            figures[name] = min(figures[name], timer.timeit(number) / number * 1e9)
    return figures


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("no VmRSS in /proc/self/status")


def load(peer: Any) -> dict[str, float]:
    """Time and resident memory from the document to the first answer.

    The document is there as text before, the way it arrives; only the load is timed.
    ."""
    document = peer.document(mixed(10_000))
    gc.collect()
    before_mb = resident_mb()
    start_s = time.perf_counter()
    product = peer.load(document)
    load_s = time.perf_counter() - start_s
    gc.collect()
    after_mb = resident_mb()
    statement, names = peer.statement(product, mixed(2)[1], CONTEXT)
    if eval(statement, names) is not True:  # noqa: S307 — as above
        raise SystemExit(f"{peer.__name__}: wrong answer after the load")
    return {"ms": load_s * 1e3, "mb": after_mb - before_mb}


if __name__ == "__main__":
    task, name = sys.argv[1:]
    figures = {"evaluate": evaluate, "load": load}[task](importlib.import_module(f"peers.{name}"))
    print(json.dumps(figures), flush=True)
    import os

    os._exit(0)  # some peers leave threads behind that never end
