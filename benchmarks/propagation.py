"""From the acknowledged commit to the value in a client of an edge: real processes on loopback,
once with the stream, once with the stream off (then within one poll interval)."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from holdfast import Client
from holdfast.core.model import Environment as EnvironmentNoun
from holdfast.core.model import PutEnvironment, PutService, PutSetting, Service, Setting, Targeting

COMMITS = 200
COMMITS_POLLING = 20
POLL_INTERVAL_S = 1.0
PAUSE_S = 0.1
"""Between two commits: hints of one subject are bounded to one poll in 50 ms."""
SERVICE = "propagation"


@contextmanager
def dev() -> Iterator[dict[str, Any]]:
    """Control plane and edge as `holdfast dev` starts them, on free ports."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "holdfast.apps.cli", "dev", "--open", "--data", folder]
        process = subprocess.Popen(
            [*command, "--control-port", "0", "--edge-port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("Ctrl-C"):
                break
        else:
            raise SystemExit("holdfast dev did not start:\n" + "".join(said))
        try:
            yield json.loads((Path(folder) / "dev.json").read_text())
        finally:
            process.terminate()
            process.wait(30)


def put(value: int) -> PutSetting:
    """A setting whose only variant says which commit it is of."""
    targeting = {"production": Targeting(default="now")}
    setting = Setting(type="integer", variants={"now": value}, environments=targeting)
    return PutSetting(SERVICE, "count", setting)


class Commits:
    """The control plane's write door over one kept connection."""

    def __init__(self, where: dict[str, Any]) -> None:
        headers = {"authorization": f"Bearer {where['token']}"}
        self._http = httpx2.Client(base_url=where["server"], headers=headers, timeout=10)

    def __call__(self, *edits: Any) -> float:
        """Commit; the moment of the acknowledgement."""
        body = {"edits": msgspec.to_builtins(edits), "reason": "benchmark"}
        answer = self._http.post("/v1/commits", json=body)
        done_s = time.perf_counter()
        if answer.status_code not in (200, 201):
            raise SystemExit(f"commit refused: {answer.status_code} {answer.text[:500]}")
        return done_s


def delays_ms(commit: Commits, client: Client, count: int) -> list[float]:
    """For each commit, from its acknowledgement until the client answers with it."""
    changed = threading.Condition()
    seen: dict[int, float] = {}

    def note(*_changed: Any) -> None:
        with changed:
            seen.setdefault(client.get_int("count", -1), time.perf_counter())
            changed.notify_all()

    client.on_change(note)
    first = client.get_int("count", -1) + 1
    delays = []
    for value in range(first, first + count):
        done_s = commit(put(value))
        with changed:
            if not changed.wait_for(lambda value=value: value in seen, 30):
                raise SystemExit(f"commit {value} never arrived: {client.status()}")
        delays.append(max(0.0, (seen[value] - done_s) * 1e3))
        time.sleep(PAUSE_S)
    return sorted(delays)


def summary(delays: list[float]) -> dict[str, float]:
    p99 = delays[min(len(delays) - 1, int(len(delays) * 0.99))]
    return {"p50_ms": delays[len(delays) // 2], "p99_ms": p99, "max_ms": delays[-1]}


def main() -> None:
    with dev() as where:
        commit = Commits(where)
        targeted = put(0)
        commit(PutEnvironment("production", EnvironmentNoun()), PutService(SERVICE, Service()))
        commit(targeted)
        figures: dict[str, Any] = {"commits": COMMITS, "poll_interval_s": POLL_INTERVAL_S}
        for name, count, streams in (
            ("stream", COMMITS, True),
            ("poll", COMMITS_POLLING, False),
        ):
            with (
                tempfile.TemporaryDirectory() as cache,
                Client(
                    endpoints=[where["edge"]],
                    environment="production",
                    service=SERVICE,
                    cache_dir=cache,
                    streams=streams,
                    poll_interval_s=POLL_INTERVAL_S,
                ) as client,
            ):
                if not client.wait_until_ready(20):
                    raise SystemExit(f"the client did not become ready: {client.status()}")
                figures[name] = summary(delays_ms(commit, client, count))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
