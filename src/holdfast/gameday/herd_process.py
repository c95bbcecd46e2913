"""Clients of a herd, several to a process: each with a cache of its own, none with anything to do.

python -m holdfast.gameday.herd_process TOLD.json
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec

from holdfast.apps.dev import end_with_parent
from holdfast.sdk.client import Client


class Told(msgspec.Struct, frozen=True):
    """`key` of `service` is read once a moment; how many answered goes to `out`, a line each."""

    clients: int
    endpoint: str
    environment: str
    service: str
    key: str
    poll_interval_s: float
    cache_dir: str
    out: str
    parent: int


class Seen(msgspec.Struct, frozen=True):
    """At `at_s`, unix time: clients that answered from a snapshot, and those that hear a stream."""

    at_s: float
    answered: int
    streaming: int


def main(told: Told) -> None:
    """Until somebody ends the process."""
    end_with_parent(told.parent)
    clients = [
        Client(
            [told.endpoint],
            told.environment,
            told.service,
            cache_dir=Path(told.cache_dir) / str(number),
            poll_interval_s=told.poll_interval_s,
            reports=False,
        )
        for number in range(told.clients)
    ]
    with Path(told.out).open("ab", buffering=0) as out:
        while True:
            states = [client.status() for client in clients]
            answered = sum(
                client.evaluate(told.key, {}).error_code is None
                for client, state in zip(clients, states, strict=True)
                if state.state != "starting"
            )
            streaming = sum(state.streaming for state in states)
            seen = Seen(time.time(), answered, streaming)
            out.write(msgspec.json.encode(seen) + b"\n")
            time.sleep(0.2)


if __name__ == "__main__":
    main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Told))
