"""A run in processes of its own: at one weight and, where clients are weighted, at twice that one.

Both begin at once, one for each of two cores; the second one costs half as much as the first.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final, TypeAlias

import msgspec

from holdfast.apps.dev import end_with_parent
from holdfast.core.errors import Unavailable
from holdfast.gameday.simulation.happenings import Happenings
from holdfast.gameday.simulation.measuring import measured
from holdfast.gameday.simulation.parameters import Parameters
from holdfast.gameday.simulation.results import Difference, Result
from holdfast.gameday.simulation.world import CLIENTS, EDGES, World

Tell: TypeAlias = Callable[[float, float], object]
"""Hears of progress: the share that is done, and the seconds that are left, by the pace so far."""
_Runs: TypeAlias = dict[Connection, tuple[int, SpawnProcess]]
TELL_S: Final = 0.5


def play(
    asked: Parameters, name: str, seed: int, weight: int, tell: Callable[[float], object]
) -> Result:
    """One run in this process; `tell` hears how far it is, from 0 to 1."""
    collects = gc.isenabled()
    gc.disable()  # there are no cycles to speak of, and looking for them takes half of the time
    try:
        world = World(asked, seed, weight)
        happenings = Happenings(world)
        world.run(lambda now_s: tell(now_s / world.end_s))
        return measured(name, seed, world, happenings)
    finally:
        if collects:
            gc.enable()


def simulate(asked: Parameters, name: str, seed: int, tell: Tell) -> Result:
    """The result, with the difference that the weight makes. Raises `Unavailable`."""
    weights = [asked.weight, 2 * asked.weight] if asked.weight > 1 else [1]
    results = _all(asked, name, seed, weights, tell)
    if len(results) == 1:
        return results[0]
    fine, coarse = results
    return msgspec.structs.replace(fine, weights=tuple(differences(fine, coarse)))


def differences(fine: Result, coarse: Result) -> Iterator[Difference]:
    """Of the figures that a run is read for."""
    for (figure, value), (_, other) in zip(_figures(fine), _figures(coarse), strict=False):
        share = abs(other - value) / value if value else abs(other - value)
        yield Difference(figure=figure, value=value, coarser=other, difference=round(share, 4))


def _figures(result: Result) -> Iterator[tuple[str, float]]:
    for each in result.propagation:
        if each.layer == CLIENTS and not each.region:
            yield f"change {each.commit}, p50, s", each.p50_s
            yield f"change {each.commit}, p99, s", each.p99_s
    for layer in result.layers:
        if layer.layer == EDGES:
            yield f"edges {layer.region}, requests/s", layer.requests_per_s
            yield f"edges {layer.region}, requests/s, peak", layer.requests_per_s_peak
    for herd in result.herds:
        yield f"{herd.what}, peak, times", herd.peak_times
        yield f"{herd.what}, all back, s", -1.0 if herd.back_s is None else herd.back_s


def _all(asked: Parameters, name: str, seed: int, weights: list[int], tell: Tell) -> list[Result]:
    context = multiprocessing.get_context("spawn")
    began_s = time.monotonic()
    runs: _Runs = {}
    done: dict[int, Result] = {}
    shares = dict.fromkeys(weights, 0.0)
    for weight in weights:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_run, args=(theirs, os.getpid(), asked, name, seed, weight)
        )
        process.daemon = True
        process.start()
        theirs.close()
        runs[ours] = (weight, process)
    try:
        while len(done) < len(weights):
            _hear(runs, shares, done)
            share = min(shares.values())
            if share:
                tell(share, (time.monotonic() - began_s) * (1 - share) / share)
    finally:
        for _, process in runs.values():
            process.kill()
            process.join()
    return [done[weight] for weight in weights]


def _hear(runs: _Runs, shares: dict[int, float], done: dict[int, Result]) -> None:
    """Take what the processes tell, for a while."""
    for each in wait(list(runs), timeout=TELL_S):
        assert isinstance(each, Connection)  # noqa: S101  nothing else is waited for
        weight, process = runs[each]
        try:
            told = each.recv()
        except EOFError:
            process.join()
            raise Unavailable(f"a simulation ended with {process.exitcode}") from None
        if isinstance(told, float):
            shares[weight] = told
        else:
            shares[weight] = 1.0
            done[weight] = msgspec.msgpack.decode(told, type=Result)
            del runs[each]


def _run(  # noqa: PLR0913, PLR0917  what a process is told
    told: Connection, parent: int, asked: Parameters, name: str, seed: int, weight: int
) -> None:
    """In the process of one run, which ends with its parent."""
    end_with_parent(parent)
    result = play(asked, name, seed, weight, told.send)
    told.send(msgspec.msgpack.encode(result))
