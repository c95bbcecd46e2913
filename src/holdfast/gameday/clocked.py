"""Any module of ours on a clock that a drill sets while it runs.

    python -m holdfast.gameday.clocked CLOCK.json MODULE ARGUMENT…

`CLOCK.json` holds a `Setting`. The time of day (`time.time`, `time.time_ns`) is shifted by it. Time
can also be made to run faster, the count since boot (`time.clock_gettime`) as well;
`time.monotonic`, by which sockets and threads wait, is left alone.
"""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

LOOK_S: Final = 0.05
"""Between two looks at the file, by the real clock."""


class Setting(msgspec.Struct, frozen=True):
    """`ahead_s` is added to the time of day. `speed` is that of time itself, both clocks, since
    `since_s` in real unix seconds. The count since boot never jumps, as no kernel lets it."""

    ahead_s: float = 0.0
    speed: float = 1.0
    since_s: float = 0.0


def put(path: Path, setting: Setting) -> None:
    """Set the clock of those who read `path`."""
    aside = path.with_suffix(".new")
    aside.write_bytes(msgspec.json.encode(setting))
    aside.replace(path)


class Clock:
    """Reads the setting now and then, and shifts what it is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._time, self._count = time.time, time.monotonic
        self._setting = Setting()
        self._looked_s = float("-inf")

    def _shift_s(self) -> float:
        """By how much time that runs faster has got ahead."""
        setting = self._look()
        return (self._time() - setting.since_s) * (setting.speed - 1.0) if setting.since_s else 0.0

    def _look(self) -> Setting:
        now_s = self._count()
        if now_s - self._looked_s > LOOK_S:
            self._looked_s = now_s
            self._setting = msgspec.json.decode(self._path.read_bytes(), type=Setting)
        return self._setting

    def time(self) -> float:
        return self._time() + self._look().ahead_s + self._shift_s()

    def boot(self, real: Callable[[int], float]) -> Callable[[int], float]:
        """In the place of `time.clock_gettime`."""
        return lambda clock: real(clock) + self._shift_s()


def inject(path: Path) -> None:
    """From here on this process lives by the clock of that file."""
    clock = Clock(path)
    real = time.clock_gettime
    time.time = clock.time
    time.time_ns = lambda: int(clock.time() * 1e9)
    time.clock_gettime = clock.boot(real)


if __name__ == "__main__":
    inject(Path(sys.argv[1]))
    module, sys.argv = sys.argv[2], sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
