"""From a world that has run to its result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from holdfast.gameday.simulation.happenings import Happenings, Return
from holdfast.gameday.simulation.results import (
    Cost,
    Course,
    Curve,
    Herd,
    Layer,
    Reached,
    Result,
    Stage,
)
from holdfast.gameday.simulation.rollouts import Rolling
from holdfast.gameday.simulation.tallies import Load, quantile
from holdfast.gameday.simulation.world import CLIENTS, EDGES, RELAYS, Committed, World

CDF_POINTS: Final = 100
CDFS_MAX: Final = 12
LAYERS: Final = (RELAYS, EDGES, CLIENTS)
HOUR_S: Final = 3_600.0


def measured(name: str, seed: int, world: World, happenings: Happenings) -> Result:
    """The result of a run that is over."""
    asked, loads = world.asked, list(world.loads.values())
    return Result(
        name=name,
        seed=seed,
        clients=asked.clients,
        machines=world.machines,
        weight=world.weight,
        edges=sum(region.edges for region in asked.regions),
        relays=sum(region.relays for region in asked.regions),
        control_nodes=asked.control_nodes,
        events=world.clock.events,
        run_s=asked.run_s,
        settle_s=asked.settle_s,
        slot_s=round(world.slot_s, 3),
        counted=all(load.asked == sum(load.ends.values()) + load.open for load in loads),
        propagation=tuple(_propagation(world)),
        layers=tuple(_layer(world, load) for load in loads),
        herds=tuple(_herd(world, each) for each in happenings.returns),
        cost=_cost(world),
        cells=sum(len(place.cells) for place in world.places.values()),
        cells_lost=len(world.lost),
        clients_in_lost_cells=sum(world.lost.values()),
        refusals=sum(load.ends["refused"] for load in loads),
        admission_turns=dict(sorted(world.turns.items())),
        disbelieved=dict(sorted(world.disbelieved.items())),
        went_back=world.went_back,
        commits_refused=world.commits_refused,
        rollouts=tuple(_course(world, each) for each in happenings.rollouts),
        curves=tuple(_curve(world, load) for load in loads),
        well=tuple(each.well for each in world.seen[_first(world) :]),
        listening=tuple(each.listening for each in world.seen[_first(world) :]),
        cdfs=dict(_cdfs(world)),
    )


# -- propagation


def _merged(world: World, commit: int, layer: str, region: str) -> list[tuple[float, int]]:
    """Seconds and weights in order; of all regions where none is named."""
    spreads = [
        spread
        for (number, of, where), spread in world.spreads.items()
        if number == commit and of == layer and region in {"", where}
    ]
    return sorted(
        pair for spread in spreads for pair in zip(spread.seconds, spread.weights, strict=True)
    )


def _propagation(world: World) -> Iterator[Reached]:
    names = [region.name for region in world.asked.regions]
    for number, commit in enumerate(world.commits):
        for layer in LAYERS:
            for region in ["", *(names if len(names) > 1 else [])]:
                spread = _merged(world, number, layer, region)
                if not spread:
                    continue
                yield Reached(
                    commit=number,
                    at_s=_since(world, commit.at_s),
                    what=commit.what,
                    layer=layer,
                    region=region,
                    reached=sum(weight for _, weight in spread),
                    of=_all(world, commit, layer, region),
                    p50_s=round(quantile(spread, 0.5), 4),
                    p99_s=round(quantile(spread, 0.99), 4),
                    last_s=round(spread[-1][0], 4),
                )


def _all(world: World, commit: Committed, layer: str, region: str) -> int:
    """Consumers that the change is for; an edge counts for each subject that it serves."""
    places = [place for name, place in world.places.items() if region in {"", name}]
    of = commit.subjects
    if layer == CLIENTS:
        return sum(place.clients_of[subject] for place in places for subject in of)
    if layer == RELAYS:
        return sum(len(place.relays) * len(of) for place in places)
    return sum(len(place.cells[subject]) for place in places for subject in of)


def _cdfs(world: World) -> Iterator[tuple[str, tuple[tuple[float, float], ...]]]:
    """For each change, the share of clients that it had reached by then."""
    for number, commit in list(enumerate(world.commits))[:CDFS_MAX]:
        spread = _merged(world, number, CLIENTS, "")
        if not spread:
            continue
        shares = [(point + 1) / CDF_POINTS for point in range(CDF_POINTS)]
        points = tuple((round(quantile(spread, share), 4), share) for share in shares)
        yield f"{number}: {commit.what} at {_since(world, commit.at_s):g} s", points


# -- load


def _first(world: World) -> int:
    """The first slot that counts."""
    return round(world.asked.settle_s / world.slot_s)


def _slots(world: World, series: Sequence[float]) -> list[float]:
    """Per second, of the slots that count; the last one may not be whole."""
    return [
        value / world.slot_s for value in series[_first(world) : int(world.end_s / world.slot_s)]
    ]


def _layer(world: World, load: Load) -> Layer:
    offered, sent = _slots(world, load.offered), _slots(world, load.sent_bytes)
    busy = [share / load.servers for share in _slots(world, load.busy_s)]
    return Layer(
        layer=load.layer,
        region=load.region,
        servers=load.servers,
        requests_per_s=_mean(offered),
        requests_per_s_peak=round(max(offered, default=0), 3),
        sent_bytes_per_s=_mean(sent),
        sent_bytes_per_s_peak=round(max(sent, default=0), 1),
        busy=_mean(busy, 5),
        busy_peak=round(max(busy, default=0), 5),
        streams_peak=int(max(load.streams, default=0)),
        refused=load.ends["refused"],
        asked=load.asked,
        open=load.open,
        ends={how: load.ends[how] for how in sorted(load.ends)},
    )


def _curve(world: World, load: Load) -> Curve:
    return Curve(
        layer=load.layer,
        region=load.region,
        requests_per_s=tuple(round(one, 3) for one in _slots(world, load.offered)),
        refused_per_s=tuple(round(one, 3) for one in _slots(world, load.refused)),
        sent_bytes_per_s=tuple(round(one, 1) for one in _slots(world, load.sent_bytes)),
        busy=tuple(round(one / load.servers, 5) for one in _slots(world, load.busy_s)),
        streams=tuple(int(one * world.slot_s) for one in _slots(world, load.streams)),
    )


def _clients_offered(world: World) -> list[float]:
    """Requests per second of all clients, by slot from the beginning."""
    edges = [load for load in world.loads.values() if load.layer == EDGES]
    return [
        sum(slot) / world.slot_s for slot in zip(*(load.offered for load in edges), strict=True)
    ]


def _herd(world: World, back: Return) -> Herd:
    offered, slot_s = _clients_offered(world), world.slot_s
    began = int(back.began_s / slot_s)
    until_s = world.end_s if back.back_s is None else back.healed_s + back.back_s
    steady = offered[_first(world) : began] or offered[max(0, began - 1) : began]
    steady_per_s = sum(steady) / len(steady) if steady else 0.0
    width = max(1, round(world.pacing.poll_interval_s / slot_s))
    during = offered[began : int(until_s / slot_s) + 1 + width]
    sums = [sum(during[at : at + width]) / width for at in range(max(1, len(during) - width + 1))]
    peak = max(during, default=0.0)
    times = 1 / steady_per_s if steady_per_s else 0.0
    return Herd(
        what=back.what,
        regions=back.regions,
        began_s=_since(world, back.began_s),
        healed_s=_since(world, back.healed_s),
        steady_per_s=round(steady_per_s, 3),
        peak_per_s=round(peak, 3),
        peak_times=round(peak * times, 3),
        interval_times=round(max(sums) * times, 3),
        unserved_most=back.unserved_most,
        served_s=_rounded(back.served_s),
        back_s=_rounded(back.back_s),
    )


def _cost(world: World) -> Cost:
    """From the end of the settling on."""
    asked, costs = world.asked, world.costs
    per_h = HOUR_S / (asked.run_s * asked.clients)
    edges = [load for load in world.loads.values() if load.layer == EDGES]
    requests = sum(sum(_slots(world, load.offered)) for load in edges) * world.slot_s
    received = sum(sum(_slots(world, load.sent_bytes)) for load in edges) * world.slot_s
    busy_s = sum(sum(_slots(world, load.busy_s)) for load in world.loads.values()) * world.slot_s
    brought, hints = world.counted_activations, world.counted_hints
    client_s = (
        (requests - brought) * costs.client_poll_s
        + brought * costs.client_activate_s
        + hints * costs.client_hint_s
    )
    return Cost(
        requests_per_h=round(requests * per_h, 3),
        received_bytes_per_h=round(received * per_h, 1),
        sent_bytes_per_h=round(requests * costs.request_bytes * per_h, 1),
        client_cpu_s_per_h=round(client_s * per_h, 6),
        server_cpu_s_per_h=round(busy_s * per_h, 6),
    )


# -- rollouts


def _course(world: World, rolling: Rolling) -> Course:
    stages = []
    for moved in rolling.moves:
        spread = _merged(world, moved.commit, CLIENTS, "") if moved.commit is not None else []
        stages.append(
            Stage(
                at_s=_since(world, moved.at_s),
                percent=moved.percent,
                status=moved.status,
                why=moved.why,
                p99_s=round(quantile(spread, 0.99), 4) if spread else None,
            )
        )
    return Course(
        service=rolling.service,
        stages=tuple(stages),
        exposed_requests=rolling.exposed_requests,
        exposed_errors=rolling.exposed_errors,
    )


def _since(world: World, at_s: float) -> float:
    return round(at_s - world.asked.settle_s, 3)


def _mean(values: Sequence[float], digits: int = 3) -> float:
    return round(sum(values) / len(values), digits) if values else 0.0


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
