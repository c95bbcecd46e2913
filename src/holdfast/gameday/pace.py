"""How long single evaluations take in a client, round after round.

    python -m holdfast.gameday.pace PACE.json

Prints one line of JSON: the 99th percentile of each round, in nanoseconds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec

from holdfast.core.model import JSON
from holdfast.sdk.client import Client


class Pace(msgspec.Struct, frozen=True):
    """What is asked, `calls` times a round; whom the client follows meanwhile, if anybody lives."""

    endpoints: tuple[str, ...]
    environment: str
    service: str
    key: str
    context: dict[str, JSON]
    cache_dir: str
    rounds: int
    calls: int = 5_000


def main(pace: Pace) -> list[int]:
    """Start from the cache, and measure."""
    client = Client(pace.endpoints, pace.environment, pace.service, cache_dir=pace.cache_dir)
    found = [_round(client, pace) for _ in range(pace.rounds)]
    client.close()
    return found


def _round(client: Client, pace: Pace) -> int:
    read, clock, key, context = client.get_int, time.perf_counter_ns, pace.key, pace.context
    took = []
    for _ in range(pace.calls):
        began = clock()
        read(key, 0, context)
        took.append(clock() - began)
    time.sleep(0.05)  # its follower's turn
    return sorted(took)[pace.calls * 99 // 100]


if __name__ == "__main__":
    told = main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Pace))
    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
