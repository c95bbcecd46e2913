"""The programs of a drill: started, watched, started again when they die."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from holdfast.gameday.drill import Tick
from holdfast.gameday.fleet import ENVIRONMENT, Fleet
from holdfast.gameday.processes import Process, until
from holdfast.gameday.program import CRASHED, Program, Served

RESTART_S: Final = 0.2
"""Between a death and the next start."""
RESTARTS_MAX: Final = 20
"""Of one program; a crash loop is seen long before."""


class Member:
    """One program and what it wrote. `deaths` counts its crashes."""

    def __init__(self, process: Process, out: Path, ring: str) -> None:
        self.process = process
        self.ring = ring
        self.deaths = 0
        self.died_s = 0.0
        self._out = out
        self._offset = 0
        self._rounds: list[Served] = []

    def rounds(self) -> list[Served]:
        """All that it wrote so far."""
        try:
            with self._out.open("rb") as file:
                file.seek(self._offset)
                body = file.read()
        except OSError:
            return self._rounds
        whole = body[: body.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._rounds += [msgspec.json.decode(line, type=Served) for line in whole.splitlines()]
        return self._rounds

    @property
    def last(self) -> Served | None:
        rounds = self.rounds()
        return rounds[-1] if rounds else None


class Crew:
    """Programs on a fleet, each kept running by a thread: `with Crew(fleet) as crew`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.members: dict[str, Member] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="crew", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for member in self.members.values():
            member.process.kill()
        self._fleet.day.ticks = self.ticks()

    def hire(
        self,
        name: str,
        keys: Sequence[str],
        users: Sequence[dict[str, Any]],
        endpoints: Sequence[str],
        **more: Any,
    ) -> Member:
        """Start a program; `more` are fields of `Program`."""
        directory = self._fleet.directory
        program = Program(
            name=name,
            endpoints=tuple(endpoints),
            environment=ENVIRONMENT,
            service="shop",
            keys=tuple(keys),
            users=tuple(users),
            out=str(directory / f"{name}.jsonl"),
            cache_dir=str(directory / f"{name}-cache"),
            parent=os.getpid(),
            seed=self._fleet.day.seed,
            **more,
        )
        path = directory / f"{name}.json"
        path.write_bytes(msgspec.json.encode(program))
        process = self._fleet.client_process(name, "holdfast.gameday.program", str(path))
        process.start(self._fleet.good)
        member = Member(process, Path(program.out), program.ring)
        self.members[name] = member
        return member

    def wait_serving(self) -> None:
        """Until every program has served a round without a failure."""
        for name, member in self.members.items():
            until(
                lambda m=member: (last := m.last) is not None and not last.failed,  # type: ignore[misc]
                f"the first answers of {name}",
                60.0,
            )

    def _watch(self) -> None:
        while not self._stop.wait(RESTART_S):
            for member in list(self.members.values()):
                process = member.process
                if process.code == CRASHED and member.deaths < RESTARTS_MAX:
                    member.deaths += 1
                    member.died_s = time.time()
                    process.start(process.build)

    def deaths(self) -> int:
        return sum(member.deaths for member in self.members.values())

    def total(self, name: str) -> int:
        """A counter of `Served`, summed over all programs."""
        members = self.members.values()
        return sum(getattr(served, name) for member in members for served in member.rounds())

    def ticks(self) -> list[Tick]:
        sums: dict[int, list[int]] = {}
        began_s = self._fleet.day.began_s
        for member in self.members.values():
            for served in member.rounds():
                place = sums.setdefault(int((served.at_s - began_s) / 0.5), [0, 0, 0])
                place[0] += served.answered
                place[1] += served.meeting
                place[2] += served.failed
        return [Tick(number * 0.5, *counts) for number, counts in sorted(sums.items())]
