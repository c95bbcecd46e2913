"""Activation with probes against the load without them, in one run: 10,000 settings, 500 probes.

Both ways are timed in turn, in CPU time of the thread. Either believes and equips the next
generation, in which every setting is another one, compiles what a host had in use and makes all
checks; `probed` replays the probes of both generations too. `bare_ms` is the load without any
check of what it answers. Beside it: how long an evaluating thread was kept waiting meanwhile, and
how long it is beside a thread that only counts: that is the machine's own share. `kept_ms` is the
CPU time that the activation used in one wait.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from bundles import SUBJECT, make_bundles
from pulse import Pulse

from holdfast.adapters.ed25519 import verify
from holdfast.core import trust
from holdfast.core.bundle import decode_bundle
from holdfast.core.probes import count, read, write
from holdfast.core.proof import Demands, prove
from holdfast.core.snapshot import decode
from holdfast.core.trust import Checks, Generation
from holdfast.sdk.intake import pause

PROBES = 500
ROUNDS = 9


def trimmed(generation: Generation, most: int) -> Generation:
    """With at most so many probes."""
    facts = generation.snapshot.holdfast
    left, probes = most, {}
    for key, raw in facts.probes.items():
        kept = read(key, raw)[: max(0, left)]
        left -= len(kept)
        if kept:
            probes[key] = write(kept)
    facts.probes.clear()
    facts.probes.update(probes)
    return generation


def load(bundle: bytes, active: Generation) -> Generation:
    """What is done without probes: believe, equip, compile what is in use."""
    admitted = trust.admit(bundle, SUBJECT, active.admitted, active.admitted.roots, verify)
    generation = trust.equip(admitted, {}, time.time)
    for key in list(active.evaluator.table):
        generation.evaluator.function(key)
    return generation


UNPROBED = Demands(checks=Checks(probes=False, unexplained=False), pause=pause)
PROBED = Demands(pause=pause)


def timed_ms(bundle: bytes, active: Generation, demands: Demands) -> float:
    start_s = time.thread_time()
    generation = load(bundle, active)
    loaded_s = time.thread_time()
    trimmed(generation, PROBES)  # not part of an activation
    proving_s = time.thread_time()
    prove(generation, active, demands)
    return (loaded_s - start_s + time.thread_time() - proving_s) * 1e3


def activate(bundle: bytes, active: Generation) -> None:
    prove(trimmed(load(bundle, active), PROBES), active, PROBED)


def beside(active: Generation, work: Callable[[], None]) -> tuple[Pulse, float]:
    """An evaluating thread beside `work`, when both are over, and how long that took, in s."""
    context = {"targetingKey": "user-1", "tenant": "tenant-007", "version": "1.7.2"}
    evaluate = partial(active.evaluator.function("setting-00001"), context)
    pulse = Pulse(evaluate, threading.current_thread())
    pulse.start()
    start_s = time.perf_counter()
    work()
    took_s = time.perf_counter() - start_s
    pulse.stop()
    return pulse, took_s


def count_for(duration_s: float) -> None:
    until_s, counted = time.perf_counter() + duration_s, 0
    while time.perf_counter() < until_s:
        counted += 1


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_bundles(folder, 2)
        bundles = [(folder / f"{number}.json").read_bytes() for number in (0, 1)]
    gc.collect()  # what it took to make them is no consumer's to carry
    first = trust.admit(bundles[0], SUBJECT, None, None, verify)
    active = trimmed(trust.equip(first, {}, time.time), PROBES)
    for key in list(active.evaluator.keys())[:PROBES]:
        active.evaluator.function(key)
    prove(active, None, PROBED)  # as it was when it was activated
    start_s = time.perf_counter()
    load(bundles[1], active)
    bare_ms = (time.perf_counter() - start_s) * 1e3
    carried = count(decode(decode_bundle(bundles[1]).snapshot).holdfast.probes)
    plain, probed, stalls, without, kept = [], [], [], [], []
    for _ in range(ROUNDS):
        plain.append(timed_ms(bundles[1], active, UNPROBED))
        probed.append(timed_ms(bundles[1], active, PROBED))
        pulse, took_s = beside(active, partial(activate, bundles[1], active))
        stalls.append(pulse.longest_s * 1e3)
        kept.append(pulse.kept_s * 1e3)
        without.append(beside(active, partial(count_for, took_s))[0].longest_s * 1e3)
    ratios = [after / before for before, after in zip(plain, probed, strict=True)]
    print(
        json.dumps(
            {
                "settings": len(active.evaluator),
                "probes": PROBES,
                "carried": carried,
                "bare_ms": bare_ms,
                "load_ms": statistics.median(plain),
                "probed_ms": statistics.median(probed),
                "ratio": statistics.median(ratios),
                "stall_ms": statistics.median(stalls),
                "stall_worst_ms": max(stalls),
                "kept_ms": statistics.median(kept),
                "kept_worst_ms": max(kept),
                "without_ms": statistics.median(without),
                "without_worst_ms": max(without),
            }
        )
    )


if __name__ == "__main__":
    main()
