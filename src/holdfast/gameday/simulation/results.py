"""What a run came to: one struct, the same for the table, for programs, for plots and reports.

Every time in it counts from the end of the settling; nothing in it tells of the machine that
simulated, so that the same parameters and seed give the same bytes.
"""

from __future__ import annotations

import msgspec


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """How one change reached a layer: seconds after its commit. Region "" is all of them."""

    commit: int
    at_s: float
    what: str
    layer: str
    region: str
    reached: int
    of: int
    p50_s: float
    p99_s: float
    last_s: float


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """What the servers of one layer in one region did; rates of all of them together.

    `busy` is the share of one CPU for each server; the peaks are of one slot. `ends` counts
    requests by how they ended, from the first one on, the settling counted in.
    """

    layer: str
    region: str
    servers: int
    requests_per_s: float
    requests_per_s_peak: float
    sent_bytes_per_s: float
    sent_bytes_per_s_peak: float
    busy: float
    busy_peak: float
    streams_peak: int
    refused: int
    asked: int
    open: int
    ends: dict[str, int]


class Herd(msgspec.Struct, frozen=True, kw_only=True):
    """An outage and the return: requests of the clients, in times of what they were before.

    `peak_times` is of one slot, `interval_times` of a poll interval, both from its begin until all
    were back. For the times see `happenings.Return`; none: not within the run.
    """

    what: str
    regions: tuple[str, ...]
    began_s: float
    healed_s: float
    steady_per_s: float
    peak_per_s: float
    peak_times: float
    interval_times: float
    unserved_most: int
    served_s: float | None
    back_s: float | None


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Of one client in an hour, by the measured costs of each operation."""

    requests_per_h: float
    received_bytes_per_h: float
    sent_bytes_per_h: float
    client_cpu_s_per_h: float
    server_cpu_s_per_h: float


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A move of a rollout, and when it had reached nearly all clients of the service."""

    at_s: float
    percent: float
    status: str
    why: str
    p99_s: float | None


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """A whole rollout, and what its clients' users met."""

    service: str
    stages: tuple[Stage, ...]
    exposed_requests: int
    exposed_errors: int


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of one region by slot."""

    layer: str
    region: str
    requests_per_s: tuple[float, ...]
    refused_per_s: tuple[float, ...]
    sent_bytes_per_s: tuple[float, ...]
    busy: tuple[float, ...]
    streams: tuple[int, ...]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One figure with each client standing for `weight` and for twice as many."""

    figure: str
    value: float
    coarser: float
    difference: float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `counted`: every request that was asked has one end, or is open."""

    name: str
    seed: int
    clients: int
    machines: int
    weight: int
    edges: int
    relays: int
    control_nodes: int
    events: int
    run_s: float
    settle_s: float
    slot_s: float
    counted: bool
    propagation: tuple[Reached, ...]
    layers: tuple[Layer, ...]
    herds: tuple[Herd, ...]
    cost: Cost
    cells: int
    cells_lost: int
    clients_in_lost_cells: int
    refusals: int
    admission_turns: dict[str, int]
    disbelieved: dict[str, int]
    went_back: int
    commits_refused: int
    rollouts: tuple[Course, ...]
    curves: tuple[Curve, ...]
    well: tuple[int, ...]
    listening: tuple[int, ...]
    cdfs: dict[str, tuple[tuple[float, float], ...]]
    weights: tuple[Difference, ...] = ()
