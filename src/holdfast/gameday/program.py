"""A program of a drill that lives by its settings: it serves users, reports, and can break.

    python -m holdfast.gameday.program PROGRAM.json

Some hundred users share one client, as in a server. A value that it can't live with makes requests
fail, or ends the process at once, as its file says. Whoever starts it may start it again.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from holdfast.apps.dev import end_with_parent
from holdfast.core.model import JSON, Contract
from holdfast.sdk.client import Client

CRASHED: Final = 70
"""The exit code of a program that could not go on."""


class Program(msgspec.Struct, frozen=True):
    """What a program is told.

    `users` are contexts; each asks for `keys` every `interval_s`. `breaks_on` maps a key to a value
    with which `error_share` of requests fail, `crashes_on` to a value that ends the process,
    `needs` to members that an object value must have, or the process ends.
    """

    name: str
    endpoints: tuple[str, ...]
    environment: str
    service: str
    keys: tuple[str, ...]
    users: tuple[dict[str, JSON], ...]
    out: str
    cache_dir: str
    parent: int
    ring: str = ""
    interval_s: float = 0.2
    poll_interval_s: float = 0.2
    breaks_on: dict[str, JSON] = {}
    error_share: float = 0.5
    crashes_on: dict[str, JSON] = {}
    needs: dict[str, tuple[str, ...]] = {}
    contract: Contract | None = None
    probation_s: float | None = None
    seed: int = 1


class Served(msgspec.Struct, frozen=True, omit_defaults=True):
    """One round of requests. `met` counts users by the broken value that they met for the first
    time, `off` answers without a value, `exceptions` reads that raised."""

    at_s: float
    answered: int = 0
    errors: int = 0
    failed: int = 0
    exceptions: int = 0
    meeting: int = 0
    met: int = 0
    off: int = 0
    revision: int = 0
    refused: dict[str, int] = {}
    last_error: str = ""


def main(program: Program) -> None:
    """Until somebody ends the process, or a value does."""
    end_with_parent(program.parent)
    chance = random.Random(program.seed)  # noqa: S311  a drill's chance
    client = Client(
        program.endpoints,
        program.environment,
        program.service,
        cache_dir=program.cache_dir,
        poll_interval_s=program.poll_interval_s,
        application=program.name,
        ring=program.ring or None,
        contract=program.contract,
        probation_s=program.probation_s,
    )
    client.wait_until_ready(30.0)
    met: set[int] = set()
    with Path(program.out).open("ab", buffering=0) as out:
        while True:
            began = time.monotonic()
            out.write(msgspec.json.encode(_round(program, client, chance, met)) + b"\n")
            time.sleep(max(0.01, program.interval_s - (time.monotonic() - began)))


def _round(program: Program, client: Client, chance: random.Random, met: set[int]) -> Served:
    answered = errors = failed = exceptions = meeting = off = 0
    before = len(met)
    for number, user in enumerate(program.users):
        ok = True
        for key in program.keys:
            answered += 1
            try:
                found = client.evaluate(key, user)
            except Exception:  # noqa: BLE001  this is what the drill looks for
                exceptions += 1
                continue
            failed += found.error_code is not None
            off += found.error_code is None and found.value is None
            if found.error_code is None:
                _live(program, key, found.value)
            if key in program.breaks_on and found.value == program.breaks_on[key]:
                meeting += 1
                met.add(number)
                ok = ok and chance.random() >= program.error_share
        errors += not ok
        client.report(user, ok=ok, latency_ms=5.0)
    status = client.status()
    return Served(
        at_s=time.time(),
        answered=answered,
        errors=errors,
        failed=failed,
        exceptions=exceptions,
        meeting=meeting,
        met=len(met) - before,
        off=off,
        revision=status.revision,
        refused={k: n for k, n in status.counts.items() if k.startswith("refused_")},
        last_error=status.last_error[:300],
    )


def _live(program: Program, key: str, value: Any) -> None:
    """End the process, as an access violation would, on a value that it can't read."""
    dies = key in program.crashes_on and value == program.crashes_on[key]
    missing = [
        name
        for name in program.needs.get(key, ())
        if not isinstance(value, dict) or name not in value
    ]
    if dies or missing:
        os._exit(CRASHED)


if __name__ == "__main__":
    main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Program))
