"""The edge against nginx, Go, bare protocols and Unleash: requests per second, p99, CPU.

    python benchmarks/edge.py [--rounds 3] [--seconds 1] [--only single,…] [--without unleash]

Each server runs on one core, `wrk` with 64 connections on the other; within a round the servers
take turns, ratios are taken within a round, and the medians of the rounds are told. With two
workers a server has both cores, and shares them with `wrk`.

Needs `wrk` and `nginx` (Debian's) and two cores. The last line of output is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from edge_peers import (
    FEATURES,
    FRONTEND_ASK,
    LOAD_CORE,
    POSTING,
    SERVER_CORE,
    SNAPSHOT,
    STOLEN_MOST,
    Ask,
    Fleet,
    Server,
    evaluate,
)
from edge_world import UNKNOWN, Source, upstream
from host import stolen_s

CONNECTIONS = 64
SETTLE_S = 2.5
"""Until what was asked for once is compiled."""
DELTA_S = 60
TWO = ", two workers"
"""Ends the names of tasks that are measured in one round less."""
SHED_MOST = 0.5

TRIES = 4
REST_S = 2.0
EDGES = frozenset({"edge", "edge-2"})
SINGLE, BULK, BULK_50 = evaluate("shop", "tiles-0"), evaluate("shop"), evaluate("kiosk")
REFUSED = msgspec.structs.replace(
    SINGLE, headers=POSTING | {"authorization": f"Bearer {UNKNOWN}"}, status=401
)
Figures = dict[str, dict[str, list[dict[str, float]]]]


class Work(msgspec.Struct, frozen=True):
    """One task of one server."""

    task: str
    server: str
    ask: Ask


def undisturbed(server: Server, script: Path, ask: Ask, seconds: float) -> dict[str, float]:
    """One round, measured again while the host takes more than a little of the cores; the one in
    which it took least."""
    tries: list[dict[str, float]] = []
    while len(tries) < TRIES and all(each["stolen_share"] > STOLEN_MOST for each in tries):
        if tries:
            time.sleep(REST_S)  # a host that lends its time takes some back after a full core
        tries.append(load(server, script, ask, seconds))
    return min(tries, key=lambda each: each["stolen_share"])


def load(server: Server, script: Path, ask: Ask, seconds: float) -> dict[str, float]:
    """One round of wrk: requests answered a second, p99 in milliseconds, CPU per request.

    64 connections that never rest are an overload to admission, when something else takes the
    server's time away: what it refuses then is told, and is no answer.
    """
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    url = f"http://127.0.0.1:{server.port}{ask.path}"
    before, taken_s = server.cpu_s(), stolen_s((SERVER_CORE, LOAD_CORE))
    done = subprocess.run(
        [*command, "--latency", "-s", str(script), url], capture_output=True, text=True, check=True
    )
    used_s = server.cpu_s() - before
    taken_s = stolen_s((SERVER_CORE, LOAD_CORE)) - taken_s
    told = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    count = int(re.search(r"(\d+) requests in", done.stdout)[1])  # type: ignore[index]
    refused = int(told[1]) if told else 0
    wrong = count - refused if ask.status >= 400 else refused
    most = count * SHED_MOST if server.name in EDGES else 0
    if wrong > most or "Socket errors" in done.stdout:
        raise SystemExit(f"{server.name}{ask.path}: wrong answers\n{done.stdout}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])  # type: ignore[index]
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout).groups()  # type: ignore[union-attr]
    right = count - wrong
    return {
        "requests_per_s": rate * right / count,
        "p99_ms": float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit],
        "cpu_us": used_s / right * 1e6,
        "refused_percent": 100 * wrong / count,
        "stolen_share": taken_s / seconds,
    }


def lua(folder: Path, name: str, ask: Ask) -> Path:
    lines = [f'wrk.method = "{ask.method}"']
    lines += [f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in ask.headers.items()]
    if ask.method == "POST":
        lines.append(f"wrk.body = {json.dumps(ask.body())}")
    path = folder / f"{name}.lua"
    path.write_text("\n".join(lines))
    return path


def start(fleet: Fleet, folder: Path, source: Source, without: list[str]) -> str:
    """All servers, each with right answers; the digest of the snapshot before the last."""
    edge = fleet.edge()
    older = digest_of(edge)
    source.settle()
    end = time.monotonic() + DELTA_S
    while digest_of(edge) == older:
        if time.monotonic() > end:
            raise SystemExit("the edge does not follow")
        time.sleep(0.1)
    answer, snapshot = edge.ask(SINGLE)[0], edge.ask(SNAPSHOT)[0]
    (folder / "snapshot").write_bytes(snapshot)
    delta = edge.ask(delta_from(older))[0]
    while len(delta) * 2 > len(snapshot) and time.monotonic() < end:
        delta = edge.ask(delta_from(older))[0]
    (folder / "delta").write_bytes(delta)
    refused = edge.ask(REFUSED)[0]
    fleet.nginx(answer, refused)
    fleet.bare()
    fleet.refusing()
    two = fleet.edge(workers=2)
    fleet.nginx(answer, refused, workers=2)
    for workers in (1, 2):
        go = fleet.go(workers)
        for ask in (SINGLE, BULK, BULK_50) if go else ():
            check_alike(ask, edge, go or edge, two)
    if "unleash" not in without:
        fleet.unleash()
    for server in fleet.running.values():
        if server.name.partition("-")[0] != "unleash" and server.name != "edge-refusing":
            server.ask(SINGLE)
    time.sleep(SETTLE_S)
    return older


def check_alike(ask: Ask, *servers: Server) -> None:
    """They answer the same, but for where changes are told."""
    told = [json.loads(server.ask(ask)[0]) for server in servers]
    for each in told:
        each.pop("eventStreams", None)
        each.pop("metadata", None) if "flags" in each else None
    for server, each in zip(servers, told, strict=True):
        if each != told[0]:
            raise SystemExit(f"{server.name} answers {ask.path} otherwise:\n{told[0]}\n{each}")


def digest_of(edge: Server) -> str:
    """The digest of the snapshot that it hands on."""
    tag = re.search("[0-9a-f]{64}", edge.ask(SNAPSHOT)[1])
    assert tag is not None
    return tag[0]


def delta_from(digest: str) -> Ask:
    return msgspec.structs.replace(SNAPSHOT, path=f"{SNAPSHOT.path}?have={digest}")


def works(running: dict[str, Server], older: str) -> Iterator[Work]:
    """What each server is asked for in each task; who isn't there is left out."""
    one = ("edge", "nginx", "go", "bare_protocol", "bare_uvicorn")
    asked: dict[str, dict[str, Ask]] = {
        "single": dict.fromkeys(one, SINGLE) | {"unleash": FRONTEND_ASK},
        "bulk-50": dict.fromkeys(("edge", "go"), BULK_50),
        "bulk-136": dict.fromkeys(("edge", "go"), BULK) | {"unleash-136": FRONTEND_ASK},
        "snapshot": dict.fromkeys(one[:4], SNAPSHOT) | {"unleash-136": FEATURES},
        "delta": {
            "edge": delta_from(older),
            "nginx": msgspec.structs.replace(SNAPSHOT, path="/delta"),
        },
        "refused": dict.fromkeys(("edge", "go"), REFUSED)
        | {"nginx": msgspec.structs.replace(REFUSED, path="/refused")},
    }
    asked["unchanged"] = {
        name: ask.having(running[name].ask(ask)[1])
        for name, ask in asked["snapshot"].items()
        if name in running
    }
    # Followers ask by the digest; the tag says how fresh the rest is, too, and changes with that.
    asked["unchanged"]["edge"] = SNAPSHOT.having(f'"{digest_of(running["edge"])}"')
    # The very request that is answered with 304, refused: what a line costs is in both.
    asked["shed"] = {
        "edge-refusing": msgspec.structs.replace(asked["unchanged"]["edge"], status=503)
    }
    two = ("edge-2", "nginx-2", "go-2")
    for task in ("single", "bulk-50", "bulk-136", "snapshot", "unchanged", "refused"):
        asked[f"{task}{TWO}"] = {
            f"{name}-2": ask for name, ask in asked[task].items() if f"{name}-2" in two
        }
    for task, by_server in asked.items():
        for name, ask in by_server.items():
            if name in running:
                yield Work(task, name, ask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--only", default="", help="tasks, comma separated; all if empty")
    parser.add_argument("--without", default="", help="servers, comma separated")
    arguments = parser.parse_args()
    only, without = (
        each.split(",") if each else [] for each in (arguments.only, arguments.without)
    )
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        source = stack.enter_context(upstream(folder / "keys"))
        fleet = Fleet(stack, folder, source)
        older = start(fleet, folder, source, without)
        for cycle in range(arguments.rounds):
            for work in works(fleet.running, older):
                if (only and work.task not in only) or work.server in without:
                    continue
                if TWO in work.task and 0 < cycle == arguments.rounds - 1:
                    continue
                print(
                    f"  {cycle + 1}/{arguments.rounds} {work.task} {work.server}", file=sys.stderr
                )
                script = lua(folder, f"{work.task}-{work.server}", work.ask)
                server = fleet.running[work.server]
                measured = undisturbed(server, script, work.ask, arguments.seconds)
                figures.setdefault(work.task, {}).setdefault(work.server, []).append(measured)
        report = {**summary(figures), "missing": fleet.missing}
    for task, each in report["medians"].items():
        for server, figure in each.items():
            rate, p99_ms, cpu_us = figure["requests_per_s"], figure["p99_ms"], figure["cpu_us"]
            shed = figure["refused_percent"]
            refused = f"  {shed:.1f} % refused" if shed else ""
            what = f"{rate:8.0f}/s p99 {p99_ms:6.2f} ms {cpu_us:6.1f} us CPU{refused}"
            print(f"{task:24} {server:13} {what}")
    for name_, ratio in report["ratios"].items():
        print(f"{name_:44} {ratio['requests']:6.2f}   by CPU time {ratio['cpu']:6.2f}")
    print(json.dumps(report))


def summary(figures: Figures) -> dict[str, Any]:
    """Medians of the rounds, and medians of the ratios within each round.

    A ratio of CPU time is theirs to ours, so that more is better there, too.
    """
    medians = {
        task: {
            server: {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
            for server, rounds in by_server.items()
        }
        for task, by_server in figures.items()
    }
    ratios = {
        f"{task}: edge / {other}": ratio(by_server[ours], rounds)
        for task, by_server in figures.items()
        for ours in EDGES & set(by_server)
        for other, rounds in by_server.items()
        if other != ours
    }
    unchanged = figures.get("unchanged", {}).get("edge")
    for task, server in (("refused", "edge"), ("shed", "edge-refusing")):
        if unchanged and server in figures.get(task, {}):
            ratios[f"{task} / unchanged"] = ratio(figures[task][server], unchanged)
    return {"medians": medians, "ratios": ratios, "rounds": figures}


def ratio(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> dict[str, float]:
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "requests": statistics.median(a["requests_per_s"] / b["requests_per_s"] for a, b in pairs),
        "cpu": statistics.median(b["cpu_us"] / a["cpu_us"] for a, b in pairs),
    }


if __name__ == "__main__":
    main()
