"""`make bench`: every measurement of one run, then docs/benchmarks.md with its plots.

Peers run as their registry ships them, in an environment of their own (.bench/peers), each in a
fresh process, the products in turn, three cycles; a figure is the median of its cycles. Their
ratios are taken within one cycle: the machine's speed drifts, the ratio hardly does. Sections have
a rest in between (`host`).

    python benchmarks/run.py [--only evaluate,load,…] [--cycles 3]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from host import rest

HERE = Path(__file__).parent
BENCH = HERE.parent / ".bench"
PEERS = {
    "holdfast_client": "Holdfast",
    "floor": "floor",
    "eppo": "Eppo (Rust)",
    "statsig": "Statsig core (Rust)",
    "growthbook_sdk": "GrowthBook",
    "flagd_core": "flagd core",
    "launchdarkly": "LaunchDarkly",
    "unleash": "Unleash (Rust core)",
}
OURS = ("holdfast_client", "floor")
SECTIONS = (
    "evaluate", "load", "segment", "client", "reload", "probes", "journal", "propagation", "edge",
    "overload", "fanout", "herd", "impact",
)  # fmt: skip


def peers_python() -> str:
    """The interpreter of the peers' environment, made when it is not there or out of date."""
    requirements = HERE / "peers" / "requirements.txt"
    stamp = BENCH / "peers" / "requirements.txt"
    python = BENCH / "peers" / "bin" / "python"
    if stamp.exists() and stamp.read_bytes() == requirements.read_bytes():
        return str(python)
    uv = shutil.which("uv", path=f"{HERE.parent}/.bootstrap/bin{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        raise SystemExit("no uv here: run `make setup` first")
    environment = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}
    subprocess.run(
        [uv, "venv", "-q", "--clear", "-p", sys.executable, str(BENCH / "peers")],
        check=True,
        env=environment,
    )
    subprocess.run(
        [uv, "pip", "install", "-q", "-p", str(python), "-r", str(requirements)],
        check=True,
        env=environment,
    )
    shutil.copy(requirements, stamp)
    return str(python)


def measure(command: list[str]) -> Any:
    """Run one measurement; its last line of output is its figures as JSON."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(task: str, cycles: int) -> dict[str, Any]:
    """Every product in turn, `cycles` times over; the cycles are kept apart for the ratios."""
    python = {name: sys.executable if name in OURS else peers_python() for name in PEERS}
    names = [name for name in PEERS if not (task == "load" and name == "floor")]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for cycle in range(cycles):
        for name in names:
            print(f"  {task} {cycle + 1}/{cycles} {PEERS[name]}", file=sys.stderr)
            rounds[name].append(measure([python[name], str(HERE / "worker.py"), task, name]))
    return rounds


def median(rounds: list[dict[str, float]], figure: str) -> float:
    return statistics.median(cycle[figure] for cycle in rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, comma separated")
    parser.add_argument("--cycles", type=int, default=3)
    arguments = parser.parse_args()
    results = BENCH / "results"
    results.mkdir(parents=True, exist_ok=True)
    for number, section in enumerate(arguments.only.split(",")):
        if section not in SECTIONS:
            raise SystemExit(f"no section {section!r}: there are {', '.join(SECTIONS)}")
        print(f"{section} …", file=sys.stderr)
        if number:
            rest()
        began_s = time.monotonic()
        if section in ("evaluate", "load"):
            figures = compare(section, arguments.cycles)
        else:
            figures = measure([sys.executable, str(HERE / f"{section}.py")])
        (results / f"{section}.json").write_text(json.dumps(figures, indent=1))
        print(f"{section}: {time.monotonic() - began_s:.0f} s", file=sys.stderr)
    subprocess.run([sys.executable, str(HERE / "report.py"), str(results)], check=True)


if __name__ == "__main__":
    main()
