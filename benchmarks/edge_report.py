"""What `edge.py` has measured, as a part of docs/benchmarks.md."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from edge_peers import STOLEN_MOST
from pages import FLOOR, OTHER, OURS, number, table

SERVERS = {
    "edge": "**Holdfast's edge**",
    "nginx": "nginx, static",
    "go": "Go, `net/http`",
    "bare_protocol": "bare protocol",
    "bare_uvicorn": "bare uvicorn",
    "unleash": "Unleash, npm",
}
TASKS = {
    "single": "one setting",
    "bulk-50": "50 settings",
    "bulk-136": "136 settings",
    "snapshot": "50 kB snapshot",
    "delta": "a delta of it",
    "unchanged": "304",
    "refused": "401, unknown token",
    "shed": "503, admission",
}
WANTED = (
    ("single: edge / go", 1.5),
    ("single: edge / nginx", 0.5),
    ("unchanged: edge / nginx", 0.85),
    ("snapshot: edge / nginx", 0.75),
    ("bulk-136: edge / go", 3.0),
    ("single: edge / unleash", 30.0),
    ("bulk-136: edge / unleash-136", 30.0),
    ("single: edge / bare_protocol", 0.75),
    ("snapshot: edge / bare_protocol", 0.75),
    ("unchanged: edge / bare_protocol", 0.75),
    ("shed / unchanged", 1.0),
)
COSTS = frozenset({"shed / unchanged"})
SHOWN = ("edge", "nginx", "go", "bare_protocol", "unleash")
COLOURS = (OURS, FLOOR, OTHER, "#74b816", "#7048e8")


def _base(server: str) -> str:
    return server.partition("-")[0]


def _rows(report: dict[str, Any], *, two: bool) -> list[list[str]]:
    rows = []
    for task, by_server in report["medians"].items():
        name, _, workers = task.partition(", ")
        for server, each in by_server.items() if bool(workers) == two else ():
            ratio = report["ratios"].get(f"{task}: edge / {server}")
            times = [f"{ratio[kind]:.2f}" for kind in ("requests", "cpu")] if ratio else ["", ""]
            figures = [number(each[key]) for key in ("requests_per_s", "p99_ms", "cpu_us")]
            rows.append([TASKS[name], SERVERS[_base(server)], *figures, *times])
    return rows


def _wanted(report: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, least in WANTED:
        ratio = report["ratios"].get(name)
        if ratio is not None:
            # What a refusal costs is CPU; how fast they come hangs on what `wrk` does with each.
            judged = ratio["cpu" if name in COSTS else "requests"]
            held = "yes" if judged >= least else "**no**"
            rows.append(
                [name, f"{ratio['requests']:.2f}", f"{ratio['cpu']:.2f}", f"{least:g}", held]
            )
    return rows


def _stolen(report: dict[str, Any]) -> str:
    """Of all measurements that were kept."""
    kept = [
        each["stolen_share"]
        for by_server in report["rounds"].values()
        for rounds in by_server.values()
        for each in rounds
    ]
    most = sum(each > STOLEN_MOST for each in kept)
    return f"{statistics.median(kept):.0%}, and more than that in {most} of {len(kept)}"


def section(report: dict[str, Any]) -> str:
    """Its part of docs/benchmarks.md, of what `edge.py` printed."""
    head = ["", "", "requests/s", "p99, ms", "us CPU", "edge / it", "by CPU"]
    missing = [f"Left out: {name}, for {why}." for name, why in report["missing"].items()]
    rounds = next(iter(next(iter(report["rounds"].values())).values()))
    return f"""## The edge

The server on one core, `wrk` with 64 connections that never rest on the other; medians of
{len(rounds)} rounds in which the servers take turns. The edge checks tokens and limits, admits,
counts, and follows an upstream meanwhile. nginx returns the same bytes from its configuration or
from a file. The Go program parses the same contexts, looks the token up, evaluates the same rules
in a loop and encodes the same answers, with its standard library and GOMAXPROCS=1; it gave the same
answers before it was timed. The bare protocol has no protection at all; bare uvicorn is the least
ASGI application that does the work. Unleash answers its frontend API (one flag, or 136) and its
client API (as many features), from PostgreSQL's data in its memory. What an edge refuses because it
is overloaded is not counted as an answer. A measurement during which the host of the machine took
more than 3 % of a core is repeated, three times at most; at the median it took {_stolen(report)}.

{table(head, _rows(report, two=False))}

{" ".join(missing)}

With two workers (processes; threads in Go) each server has both cores, and shares them with `wrk`:

{table(head, _rows(report, two=True))}

What was wanted, in requests answered; a CPU ratio is theirs to ours, and decides what a refusal
costs:

{table(["", "requests", "by CPU", "wanted", "held"], _wanted(report))}
"""


def plot(report: dict[str, Any], path: Path) -> None:
    """Requests a second by task, on one worker."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axis = figure.subplots()
    tasks = [task for task in TASKS if task in report["medians"] and task != "shed"]
    for place, (server, shade) in enumerate(zip(SHOWN, COLOURS, strict=True)):
        found = [
            (spot + place * 0.17, each["requests_per_s"])
            for spot, task in enumerate(tasks)
            for name, each in report["medians"][task].items()
            if _base(name) == server
        ]
        if found:
            spots, rates = zip(*found, strict=True)
            axis.bar(spots, rates, 0.15, label=SERVERS[server].strip("*"), color=shade)
    axis.set_yscale("log")
    axis.set_xticks(
        [spot + 0.34 for spot in range(len(tasks))], [TASKS[t] for t in tasks], fontsize=8
    )
    axis.set_ylabel("requests a second")
    axis.legend(frameon=False, fontsize=8, ncols=5)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
