"""What the workers of one edge tell each other: how each is, and what it counted.

Each writes a file about itself every second or so; whichever is asked for `/readyz` or `/metrics`
answers for all, from these files. So one scrape sees the whole edge, and a health check does not
depend on which worker it met. Metrics carry the label `worker`, and may be some seconds old.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

TELL_S: Final = 1.0
SHARE_MAX: Final = 0.02
"""Of one core, for telling: with thousands of subjects the metrics take long to write."""
SILENT_S: Final = 15.0
"""Who told nothing for so long is left out."""
LOOK_S: Final = 0.25
"""What was read is good for this long."""

Ready: TypeAlias = Callable[[], tuple[bool, Mapping[str, Any]]]
Metrics: TypeAlias = Callable[[], tuple[bytes, str]]


class Told(msgspec.Struct, frozen=True):
    """One worker's word. `at_s` is unix time, `next_s` when it tells again at the latest."""

    worker: int
    pid: int
    at_s: float
    next_s: float
    ready: bool
    fault: str
    metrics: str


_decode = msgspec.json.Decoder(Told).decode


class Siblings:
    """One worker among others; `folder` is theirs in common."""

    def __init__(self, folder: Path, worker: int) -> None:
        self._folder = folder
        self._worker = worker
        self._path = folder / f"{worker}-{os.getpid()}"
        self._stop = threading.Event()
        self._read_s = float("-inf")
        self._read: tuple[Told, ...] = ()
        self._telling = threading.Lock()
        self._tells = False

    def start(self, ready: Ready, metrics: Metrics) -> None:
        """Tell from now on, in a thread."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        thread = threading.Thread(
            target=self._run, args=(ready, metrics), name="holdfast-tell", daemon=True
        )
        thread.start()

    def tell(self, *, on: bool) -> None:
        """Whether this worker is one of those that serve; who leaves is heard of no more."""
        with self._telling:
            self._tells = on
            if not on:
                self._path.unlink(missing_ok=True)

    def close(self) -> None:
        self._stop.set()
        self.tell(on=False)

    def others(self) -> tuple[Told, ...]:
        """The newest word of each of the others that serve, in order."""
        now_s = time.monotonic()
        if now_s - self._read_s > LOOK_S:
            self._read_s, self._read = now_s, tuple(self._look())
        return self._read

    def ready(self, ready: bool, facts: Mapping[str, Any]) -> tuple[bool, Mapping[str, Any]]:
        """Of all together: one that answers wrongly is of the same build as the others."""
        others = self.others()
        faults = [f"worker {each.worker}: {each.fault}" for each in others if each.fault]
        told = {
            "worker": self._worker,
            "workers": {str(each.worker): each.ready for each in others}
            | {str(self._worker): ready},
        }
        if faults and "fault" not in facts:
            return False, {**facts, **told, "ready": False, "fault": faults[0]}
        return ready, {**facts, **told}

    def metrics(self, mine: str) -> str:
        """Of all together, each sample with its worker."""
        return merged([(self._worker, mine), *((e.worker, e.metrics) for e in self.others())])

    def _run(self, ready: Ready, metrics: Metrics) -> None:
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            began_s = time.thread_time()
            is_ready, facts = ready()
            text = metrics()[0].decode()
            wait_s = max(TELL_S, (time.thread_time() - began_s) / SHARE_MAX)
            told = Told(
                worker=self._worker,
                pid=os.getpid(),
                at_s=time.time(),
                next_s=time.time() + wait_s,
                ready=is_ready,
                fault=str(facts.get("fault", "")),
                metrics=text,
            )
            with suppress(OSError), self._telling:
                if self._tells:
                    aside = self._path.with_suffix(".new")
                    aside.write_bytes(msgspec.json.encode(told))
                    aside.replace(self._path)

    def _look(self) -> Iterator[Told]:
        newest: dict[int, Told] = {}
        with suppress(OSError):
            for path in sorted(self._folder.iterdir()):
                if path == self._path or path.suffix:
                    continue
                with suppress(OSError, msgspec.MsgspecError):
                    told = _decode(path.read_bytes())
                    if told.next_s + SILENT_S < time.time():
                        path.unlink(missing_ok=True)
                    elif told.worker != self._worker:
                        known = newest.get(told.worker)
                        if known is None or known.at_s < told.at_s:
                            newest[told.worker] = told
        yield from (newest[number] for number in sorted(newest))


def merged(expositions: list[tuple[int, str]]) -> str:
    """Several workers' metrics as one exposition, family by family, with a label `worker`."""
    families: dict[str, list[str]] = {}
    for worker, text in expositions:
        lines: list[str] = []
        for line in text.splitlines():
            if line.startswith("# HELP "):
                lines = families.setdefault(line, [])
            elif line.startswith("#"):
                if not lines:
                    lines.append(line)
            elif line:
                lines.append(_labelled(line, worker))
    return "".join(
        f"{head}\n" + "".join(f"{each}\n" for each in families[head]) for head in families
    )


def _labelled(line: str, worker: int) -> str:
    name, brace, rest = line.partition("{")
    if brace and " " not in name:
        return f'{name}{{worker="{worker}",{rest}'
    name, _, value = line.partition(" ")
    return f'{name}{{worker="{worker}"}} {value}'
