"""What the client costs its host besides one evaluation: the throughput of eight threads against
one, and the OpenFeature provider against an empty one."""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
import timeit
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider import AbstractProvider, Metadata
from peers import holdfast_client
from workloads import CONTEXT, USER, mixed, static

from holdfast.openfeature import HoldfastProvider

THREADS = 8
SECONDS = 0.3
CYCLES = 30


class Bare:
    """A read that does nothing: what eight threads cost the interpreter itself."""

    def get_bool(self, key: str, default: bool, context: Any) -> bool:
        return default


def rate(get: Any, count: int) -> float:
    """Reads a second of `count` threads together."""
    stop, counts = threading.Event(), [0] * count
    context = {"targetingKey": USER, **CONTEXT}

    def work(place: int) -> None:
        done = 0
        while not stop.is_set():
            for _ in range(1_000):
                get("setting-00001", False, context)
            done += 1_000
        counts[place] = done

    workers = [threading.Thread(target=work, args=(place,)) for place in range(count)]
    start_s = time.perf_counter()
    for worker in workers:
        worker.start()
    time.sleep(SECONDS)
    stop.set()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - start_s)


def threads_throughput() -> dict[str, dict[str, float]]:
    """Reads a second of one thread and of eight, in as much time: ours and a bare call's.

    And ours on one core, where no thread has to be woken on another one.
    """
    cores = os.sched_getaffinity(0)
    client = holdfast_client.load(holdfast_client.document(mixed(200)))
    reads = {
        "holdfast": (client.get_bool, cores),
        "bare": (Bare().get_bool, cores),
        "one_core": (client.get_bool, {min(cores)}),
    }
    rates: dict[str, dict[int, list[float]]] = {name: {1: [], THREADS: []} for name in reads}
    for cycle in range(CYCLES):
        for name, (get, allowed) in reads.items():
            os.sched_setaffinity(0, allowed)
            for count in (1, THREADS) if cycle % 2 else (THREADS, 1):
                rates[name][count].append(rate(get, count))
    os.sched_setaffinity(0, cores)
    return {
        name: {
            "one_per_s": statistics.mean(found[1]),
            "eight_per_s": statistics.mean(found[THREADS]),
            "ratio": statistics.mean(found[THREADS]) / statistics.mean(found[1]),
        }
        for name, found in rates.items()
    }


class Empty(AbstractProvider):
    """The least that OpenFeature lets a provider be."""

    def get_metadata(self) -> Metadata:
        return Metadata(name="empty")

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: Any = None
    ) -> FlagResolutionDetails[bool]:
        return FlagResolutionDetails(value=default_value)

    resolve_string_details: Any = resolve_boolean_details
    resolve_integer_details: Any = resolve_boolean_details
    resolve_float_details: Any = resolve_boolean_details
    resolve_object_details: Any = resolve_boolean_details


def openfeature_cost() -> dict[str, float]:
    """ns for one boolean through OpenFeature's client, with an empty provider and with ours."""
    api.set_provider(Empty(), "empty")
    client = holdfast_client.load(holdfast_client.document([static()]))
    api.set_provider(HoldfastProvider(client), "holdfast")
    context = EvaluationContext(USER, dict(CONTEXT))
    timers = {
        name: timeit.Timer(
            "get('static', False, context)",
            globals={"get": api.get_client(name).get_boolean_value, "context": context},
        )
        for name in ("empty", "holdfast")
    }
    cycles = [
        {name: timer.timeit(5_000) / 5_000 * 1e9 for name, timer in timers.items()}
        for _ in range(9)
    ]
    return {
        "empty_ns": statistics.median(cycle["empty"] for cycle in cycles),
        "holdfast_ns": statistics.median(cycle["holdfast"] for cycle in cycles),
        "ratio": statistics.median(cycle["holdfast"] / cycle["empty"] for cycle in cycles),
    }


def main() -> None:
    print(json.dumps({"threads": threads_throughput(), "openfeature": openfeature_cost()}))


if __name__ == "__main__":
    main()
