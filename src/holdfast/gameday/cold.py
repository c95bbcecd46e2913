"""A client that starts with everything behind it dead: what it answers, and how soon.

    python -m holdfast.gameday.cold START.json

Prints one line of JSON, a `Started`. The time counts from before the SDK is imported.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from holdfast.gameday.watching import Case

NEVER_S: Final = 1e6
"""In the place of a time, where there was no answer."""


class Start(msgspec.Struct, frozen=True):
    """`cases`: a file of `Case`s, of which those of `service` are asked. Nobody listens at
    `endpoints`. `defaults` are bundled with the program."""

    endpoints: tuple[str, ...]
    environment: str
    service: str
    cases: str
    cache_dir: str = ""
    defaults: dict[str, int] = {}


class Started(msgspec.Struct, frozen=True):
    """`took_s` until the first answer that was no error, and `cpu_s` of this process until then:
    what it takes on a machine that has time. `warnings` were logged, `damaged` files found."""

    took_s: float
    cpu_s: float
    asked: int
    right: int
    failed: int
    wrong: int
    revision: int
    state: str
    origin: str
    damaged: int
    warnings: tuple[str, ...]


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def main(start: Start) -> Started:
    """Start, ask everything once, and tell."""
    heard = _Heard()
    logging.getLogger("holdfast").addHandler(heard)
    began, began_cpu = time.perf_counter(), time.process_time()
    from holdfast.sdk.client import Client  # its import is part of a start

    client = Client(
        start.endpoints,
        start.environment,
        start.service,
        cache_dir=start.cache_dir or None,
        defaults=start.defaults or None,
    )
    cases = msgspec.json.decode(Path(start.cases).read_bytes(), type=list[Case])
    mine = [case for case in cases if case.service == start.service]
    first = client.evaluate(mine[0].key, mine[0].context)
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    if first.error_code is not None:
        took_s = cpu_s = NEVER_S
    found = [(case, client.evaluate(case.key, case.context)) for case in mine]
    failed = sum(answer.error_code is not None for _, answer in found)
    right = sum(answer.error_code is None and answer.value in case.right for case, answer in found)
    status = client.status()
    client.close()
    return Started(
        took_s=took_s,
        cpu_s=cpu_s,
        asked=len(mine),
        right=right,
        failed=failed,
        wrong=len(mine) - right - failed,
        revision=status.revision,
        state=status.state,
        origin=status.origin,
        damaged=status.counts.get("cache_damaged", 0),
        warnings=tuple(heard.said[:20]),
    )


if __name__ == "__main__":
    told = main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Start))
    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
