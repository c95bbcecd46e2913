"""docs/benchmarks.md and its plots, out of the figures of one run and nothing else."""

from __future__ import annotations

import importlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pages
from pages import DOCS, OTHER, number, save, table
from run import PEERS
from workloads import workloads

OURS = "holdfast_client"
COLOURS = {OURS: pages.OURS, "floor": pages.FLOOR}


def median(cycles: list[dict[str, float]], figure: str) -> float:
    return statistics.median(cycle[figure] for cycle in cycles)


def ratio(rounds: dict[str, list[dict[str, float]]], peer: str, figure: str) -> float:
    """peer / Holdfast, cycle by cycle, the median."""
    pairs = zip(rounds[peer], rounds[OURS], strict=True)
    return statistics.median(theirs[figure] / ours[figure] for theirs, ours in pairs)


def evaluate(rounds: dict[str, Any]) -> str:
    names = [workload.name for workload in workloads()]
    titles = [workload.title for workload in workloads()]
    rows = []
    for peer, title in PEERS.items():
        label = f"**{title}**" if peer == OURS else title
        rows.append([label, *(number(median(rounds[peer], name)) for name in names)])
    ratios = []
    for peer, title in PEERS.items():
        if peer != OURS:
            ratios.append([title, *(f"{ratio(rounds, peer, name):.3g}" for name in names)])
    figure, axis = plt.subplots(figsize=(9, 4.5))
    width = 0.8 / len(PEERS)
    for place, (peer, title) in enumerate(PEERS.items()):
        spots = [spot + place * width for spot in range(len(names))]
        heights = [median(rounds[peer], name) for name in names]
        shade = COLOURS.get(peer) or plt.get_cmap("autumn")(place / len(PEERS))
        axis.bar(spots, heights, width, label=title, color=shade)
    axis.set_yscale("log")
    axis.set_ylabel("ns for one pass (lower is better)")
    axis.set_xticks([spot + 0.4 for spot in range(len(names))], titles, fontsize=8)
    axis.legend(ncols=4, fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    save(figure, "evaluate")
    return f"""## In-process evaluation

ns for one pass over the workload, through each product's public client; Holdfast through
`Client.get_*` as shipped, counting on, garbage collection on. The floor is hand-written Python
that does the work and nothing else (`benchmarks/peers/floor.py`).

![evaluation](benchmarks/evaluate.png)

{table(["ns", *titles], rows)}

How many times Holdfast's time each one takes (median of the ratios within a cycle):

{table(["times Holdfast", *titles], ratios)}
"""


def load(rounds: dict[str, Any]) -> str:
    peers = [peer for peer in PEERS if peer in rounds]
    rows = [
        [
            f"**{PEERS[peer]}**" if peer == OURS else PEERS[peer],
            number(median(rounds[peer], "ms")),
            number(median(rounds[peer], "mb")),
        ]
        for peer in peers
    ]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3))
    for axis, name, unit in zip(axes, ("ms", "mb"), ("ms", "MB"), strict=True):
        heights = [median(rounds[peer], name) for peer in peers]
        axis.barh(
            [PEERS[peer] for peer in peers],
            heights,
            color=[COLOURS.get(peer, OTHER) for peer in peers],
        )
        axis.invert_yaxis()
        axis.set_xscale("log")
        axis.set_xlabel(f"{unit} (lower is better)")
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    save(figure, "load")
    return f"""## Loading 10,000 settings

From the product's own document in memory or on disk to the first answer; resident memory gained.

![load](benchmarks/load.png)

{table(["", "ms", "MB"], rows)}
"""


def segment(figures: dict[str, Any]) -> str:
    rows = [
        [
            title,
            number(figures[name]["load_ms"]),
            number(figures[name]["mb"]),
            number(figures[name]["hit_ns"]),
            number(figures[name]["miss_ns"]),
        ]
        for name, title in (("table", "**segment table**"), ("frozenset", "frozenset of strings"))
    ]
    return f"""## A segment of {figures["members"]:,} members

{figures["table"]["bytes_a_member"]:.3g} bytes a member; the server builds it in
{figures["build_s"]:.2g} s.

{table(["", "load, ms", "MB", "hit, ns", "miss, ns"], rows)}
"""


def client(figures: dict[str, Any]) -> str:
    threads, provider = figures["threads"], figures["openfeature"]
    rows = [
        *(
            [
                f"{title} a second, one thread, then eight",
                number(threads[name]["one_per_s"]),
                number(threads[name]["eight_per_s"]),
                f"{threads[name]['ratio']:.2f}",
            ]
            for name, title in (
                ("holdfast", "boolean reads"),
                ("bare", "calls that do nothing"),
                ("one_core", "boolean reads on one core"),
            )
        ),
        [
            "ns through OpenFeature's API, an empty provider, then ours",
            number(provider["empty_ns"]),
            number(provider["holdfast_ns"]),
            f"{provider['ratio']:.2f}",
        ],
    ]
    return f"""## Threads, and OpenFeature

Reads are counted over as much time for one thread as for eight, in turn.

{table(["", "first", "second", "ratio"], rows)}
"""


def reload(figures: dict[str, Any]) -> str:
    stall, start = figures["stall"], figures["start"]
    rows = [
        ["during a reload", number(stall["reload_ms"]), number(stall["reload_worst_ms"])],
        ["CPU time of it", number(stall["kept_ms"]), number(stall["kept_worst_ms"])],
        ["as long without one", number(stall["without_ms"]), number(stall["without_worst_ms"])],
    ]
    return f"""## Replacing {figures["settings"]:,} settings, and starting from disk

The longest time between two answers of a thread that evaluates without a pause, while all settings
are replaced by a whole, signed bundle: fetched, verified, activated, written to disk.

{table(["longest stall, ms", "median", "worst"], rows)}

Of {stall["reloads"]} reloads those {stall["kept"]} during which the host of the machine took least
of its cores: {number(stall["stolen_ms"])} ms at most. The second row is what the client's own
follower took in one wait, whatever else the machine did.

A new process with nobody alive, from its first line to its first answer out of the disk cache with
that many settings: {number(start["first_answer_ms"])} ms, of which
{number(start["import_ms"])} ms are the import.
"""


def probes(figures: dict[str, Any]) -> str:
    rows = [
        ["during an activation", number(figures["stall_ms"]), number(figures["stall_worst_ms"])],
        ["CPU time of it", number(figures["kept_ms"]), number(figures["kept_worst_ms"])],
        ["as long without one", number(figures["without_ms"]), number(figures["without_worst_ms"])],
    ]
    return f"""## Activating {figures["settings"]:,} settings with {figures["probes"]} probes

Every setting is another one than before. Believing, equipping, compiling what was in use and all
checks but those of probes take {number(figures["load_ms"])} ms of CPU time; with
{figures["probes"]} probes of each generation replayed, {number(figures["probed_ms"])} ms:
**{figures["ratio"]:.2f} times** as much, the median of the ratios of both in turn.

{table(["longest stall of an evaluating thread, ms", "median", "worst"], rows)}

The second row is what the activation itself took in one wait, whatever else the machine did. The
interpreter lets a thread that computes have 5 ms at a time; a full garbage collection, which may
fall into either, goes through all objects of the process at once.
"""


def propagation(figures: dict[str, Any]) -> str:
    rows = [
        [title, *(number(figures[name][figure]) for figure in ("p50_ms", "p99_ms", "max_ms"))]
        for name, title in (
            ("stream", "with the stream"),
            ("poll", f"polling every {figures['poll_interval_s']:g} s"),
        )
    ]
    return f"""## From the commit to the client

From the acknowledgement of a commit until a client of an edge answers with it; control plane, edge
and client are processes of their own; {figures["commits"]} commits.

{table(["ms", "p50", "p99", "max"], rows)}
"""


def journal(figures: dict[str, Any]) -> str:
    rows = [
        [
            step,
            f"{each['wall_s']:.2f}",
            f"{each['cpu_s']:.2f}",
            number(each["per_s"]) if each["per_s"] else "",
        ]
        for step, each in figures["steps"].items()
    ]
    commit = figures["commit"]
    return f"""## The journal

SQLite, WAL, `synchronous=FULL`; a change through the whole write door takes
{number(commit["p50_ms"])} ms (p50), {number(commit["p99_ms"])} ms (p99).

{table(["", "s", "CPU s", "per second"], rows)}
"""


def impact(figures: dict[str, Any]) -> str:
    return f"""## Impact of a change

Who a change moves, over contexts really seen: {figures["contexts"]:,} distinct contexts, a change
of {figures["settings"]} settings in a service of {figures["of_settings"]:,}; lists, versions,
segments, and splits by an attribute and by the targetingKey. It is one thread; median of
{len(figures["rounds"])} rounds: **{figures["cpu_s"]:.1f} s** of its time
({figures["moved_percent"]:.1f} % of the requests move).

To offer a request's context to the sampler costs {number(figures["offer_ns"])} ns; the fast path of
a client's reads has none of it.
"""


def told_by(module: str, name: str) -> Callable[[Any], str]:
    """The part of a module that writes its own: `section(figures)`, and `plot(figures, path)`."""

    def write(figures: Any) -> str:
        one = importlib.import_module(module)
        folder = DOCS / "benchmarks"
        folder.mkdir(parents=True, exist_ok=True)
        one.plot(figures, folder / f"{name}.png")
        text, picture = one.section(figures).rstrip(), f"(benchmarks/{name}.png)"
        return f"{text}\n" if picture in text else f"{text}\n\n![{name}]{picture}\n"

    return write


SECTIONS: dict[str, Callable[[Any], str]] = {
    "evaluate": evaluate,
    "load": load,
    "segment": segment,
    "client": client,
    "reload": reload,
    "probes": probes,
    "propagation": propagation,
    "edge": told_by("edge_report", "edge"),
    "overload": told_by("overload", "overload"),
    "fanout": told_by("fanout", "fanout"),
    "herd": told_by("herd", "herd"),
    "journal": journal,
    "impact": impact,
}


def main() -> None:
    results = Path(sys.argv[1])
    parts = []
    for section, write in SECTIONS.items():
        path = results / f"{section}.json"
        if path.exists():
            parts.append(write(json.loads(path.read_text())))
    head = f"""# Benchmarks

Written by `make bench`, each section in one run, all on one machine: {os.cpu_count()} cores,
{platform.system()} {platform.machine()}, Python {platform.python_version()}. Medians of cycles in
which the products take turns. Absolute figures are this machine's; read the ratios.
"""
    (DOCS / "benchmarks.md").write_text("\n".join([head, *parts]))
    print(f"wrote {DOCS / 'benchmarks.md'}", file=sys.stderr)


if __name__ == "__main__":
    main()
