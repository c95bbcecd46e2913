"""A herd: many clients killed and started again at the same moment, and what their edge is asked.

What counts is each question to the edge, polls and openings of streams, as the edge counts its
answers; in the busiest stretch of one poll interval, against one interval of the time before.
What others ask meanwhile is measured before the herd comes, and left out.
"""

from __future__ import annotations

import os
import re
import threading
import time
import urllib.request
from pathlib import Path
from typing import Final

import msgspec

from holdfast.gameday.drill import Day
from holdfast.gameday.fleet import ENVIRONMENT, Fleet
from holdfast.gameday.herd_process import Seen, Told
from holdfast.gameday.processes import Process, until, until_or_not

CLIENTS: Final = 100
PER_PROCESS: Final = 10
INTERVAL_S: Final = 5.0
CLIENTS_SHORT: Final = 30
INTERVAL_SHORT_S: Final = 2.0
READY_S: Final = 60.0
TIMES_MAX: Final = 2.0
TIMES_SHORT_MAX: Final = 3.0
"""In the short form, among tests: who is held up for a second asks twice in the next one."""
_COUNTED: Final = re.compile(
    rb'^holdfast_answers_total\{status="(?:200|304|429|503)"\} ([0-9.e+]+)', re.MULTILINE
)


class Meter:
    """How many questions an edge has answered, looked at ten times a second; its own left out."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/metrics"
        self.marks: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def busiest(self, since_s: float, width_s: float) -> float:
        """Questions in the busiest stretch of that width from a time on."""
        marks = [mark for mark in self.marks if mark[0] >= since_s]
        most, first = 0.0, 0
        for at_s, count in marks:
            while marks[first][0] < at_s - width_s:
                first += 1
            most = max(most, count - marks[first][1])
        return most

    def between(self, since_s: float, until_s: float) -> float:
        """Questions in a stretch of time."""
        counts = [count for at_s, count in self.marks if since_s <= at_s <= until_s]
        return counts[-1] - counts[0] if counts else 0.0

    def _run(self) -> None:
        looks = 0
        while not self._stop.wait(0.1):
            try:
                with urllib.request.urlopen(self._url, timeout=5) as answer:  # noqa: S310  loopback
                    body = answer.read()
            except OSError:
                continue
            total = sum(float(number) for number in _COUNTED.findall(body))
            self.marks.append((time.time(), total - looks))
            looks += 1


class Herd:
    """The processes, and what they wrote."""

    def __init__(self, fleet: Fleet, clients: int, interval_s: float) -> None:
        self._fleet = fleet
        self._processes: list[tuple[Process, Path]] = []
        for number in range(clients // PER_PROCESS):
            name = f"herd-{number}"
            told = Told(
                clients=PER_PROCESS,
                endpoint=fleet.edge_urls["edge-a"],
                environment=ENVIRONMENT,
                service="shop",
                key="counter",
                poll_interval_s=interval_s,
                cache_dir=str(fleet.directory / name),
                out=str(fleet.directory / f"{name}.jsonl"),
                parent=os.getpid(),
            )
            path = fleet.directory / f"{name}.json"
            path.write_bytes(msgspec.json.encode(told))
            module = "holdfast.gameday.herd_process"
            process = fleet.client_process(name, module, str(path))
            self._processes.append((process, Path(told.out)))

    def start(self) -> None:
        """All at once."""
        for process, out in self._processes:
            out.unlink(missing_ok=True)
            process.start(self._fleet.good)

    def kill(self) -> None:
        for process, _ in self._processes:
            process.kill()

    def last(self) -> tuple[int, int]:
        """Clients that answer now, and those that hear a stream."""
        seen = [_last(out) for _, out in self._processes]
        return sum(one.answered for one in seen), sum(one.streaming for one in seen)


def measure(day: Day, fleet: Fleet) -> None:
    """Kill and start all again; the figures go to the day."""
    clients = CLIENTS_SHORT if day.sample else CLIENTS
    interval_s = INTERVAL_SHORT_S if day.sample else INTERVAL_S
    herd, meter = Herd(fleet, clients, interval_s), Meter(fleet.edge_urls["edge-a"])
    try:
        began_s = time.time()
        time.sleep(interval_s)
        others = meter.between(began_s, time.time())
        herd.start()
        until(lambda: herd.last() == (clients, clients), "the herd", READY_S)
        time.sleep(interval_s)
        steady_s = time.time()
        time.sleep(2 * interval_s)
        steady = meter.between(steady_s, time.time()) / 2 - others
        day.note("fault", f"{clients} clients are killed and started again at once")
        herd.kill()
        killed_s = time.time()
        herd.start()
        back = until_or_not(lambda: herd.last()[0] == clients, READY_S)
        took_s = time.time() - killed_s
        time.sleep(3 * interval_s)
        busiest = meter.busiest(killed_s, interval_s) - others
    finally:
        herd.kill()
        meter.close()
    day.measure("clients that answer again, from disk", herd.last()[0], f"{clients}", holds=back)
    judge(day, steady, busiest, f"in {interval_s:.0f} s; all answer {took_s:.1f} s after the kill")


def judge(day: Day, steady: float, busiest: float, told: str) -> None:
    """Questions of one interval before, and of the busiest one after: both have to be there."""
    times = busiest / max(1.0, steady)
    times_max = TIMES_SHORT_MAX if day.sample else TIMES_MAX
    seen = steady > 0 and busiest > 0
    holds = seen and times <= times_max
    day.note(
        "recovered" if holds else "damage",
        f"{steady:.0f} questions before, {busiest:.0f} at most after, {told}",
    )
    day.measure(
        "questions to the edge after the restart, against steady state",
        f"{times:.2f}x" if seen else "none were seen",
        f"<= {times_max:.0f}x",
        holds=holds,
    )


def _last(out: Path) -> Seen:
    try:
        lines = out.read_bytes().splitlines()
    except OSError:
        lines = []
    whole = [line for line in lines if line.endswith(b"}")]
    return msgspec.json.decode(whole[-1], type=Seen) if whole else Seen(0.0, 0, 0)
