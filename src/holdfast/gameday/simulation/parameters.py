"""What is simulated: the fleet, its regions, and what happens to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from holdfast.core.errors import Problem
from holdfast.core.limits import SERVICES_MAX
from holdfast.core.snapshot import Pacing
from holdfast.gameday.simulation.costs import Costs

CLIENTS_MAX: Final = 1_000_000
EDGES_MAX: Final = 1_000
RUN_MAX_S: Final = 86_400.0
SHARES_TOLERANCE: Final = 1e-6

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=10_000)]
At = Annotated[float, msgspec.Meta(ge=0, le=RUN_MAX_S)]
Lasting = Annotated[float, msgspec.Meta(gt=0, le=RUN_MAX_S)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Region(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Some clients, the edges that they ask, and the relays that those follow.

    `share` is of all clients. Without relays the edges follow the control plane. `per_service`: so
    many of the region's edges serve each service (`core.cells`); 0: all serve all. Latencies are
    one way: from a client to an edge, from an edge to a relay, and to the control plane.
    """

    name: Name
    share: Share
    edges: Annotated[int, msgspec.Meta(ge=1, le=EDGES_MAX)] = 4
    relays: Annotated[int, msgspec.Meta(ge=0, le=EDGES_MAX)] = 0
    per_service: Annotated[int, msgspec.Meta(ge=0, le=EDGES_MAX)] = 0
    client_ms: Milliseconds = 2.0
    relay_ms: Milliseconds = 1.0
    control_ms: Milliseconds = 20.0


class Change(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag="change",
    tag_field="kind",
):
    """A change is committed, of one service, by its number from 0, or of all."""

    at_s: At
    service: Annotated[int, msgspec.Meta(ge=0, lt=SERVICES_MAX)] | Literal["all"] = "all"


class Outage(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag="outage",
    tag_field="kind",
):
    """All edges and relays of a region, or without one the control plane, are away.

    `killed`: the processes are gone, and start again from their disks. `refusing`: the processes
    are gone, and a balancer says 503 to everybody. `unreachable`: nothing comes back from there.
    """

    at_s: At
    for_s: Lasting
    region: str = ""
    how: Literal["killed", "refusing", "unreachable"] = "killed"


class Poison(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag="poison",
    tag_field="kind",
):
    """What is asked about a service kills all edges that serve it, as long as it lasts."""

    at_s: At
    for_s: Lasting
    service: Annotated[int, msgspec.Meta(ge=0, lt=SERVICES_MAX)] = 0


class Forgery(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag="forgery",
    tag_field="kind",
):
    """A share of a region's edges sends snapshots that the publisher never signed."""

    at_s: At
    for_s: Lasting
    region: str
    share: Share = 0.5


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A stage of a rollout: so many percent are exposed, for so long at least."""

    percent: Annotated[float, msgspec.Meta(gt=0, le=100)]
    bake_s: Annotated[float, msgspec.Meta(ge=0, le=RUN_MAX_S)]


class Rollout(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag="rollout",
    tag_field="kind",
):
    """A change of a service goes out in stages, decided by what the exposed clients' requests tell.

    Each client makes `requests_per_s` of its own; of those that are not exposed `error_rate` fail,
    of exposed ones `ratio` times as many.
    """

    at_s: At
    stages: Annotated[tuple[Step, ...], msgspec.Meta(min_length=1, max_length=20)]
    service: Annotated[int, msgspec.Meta(ge=0, lt=SERVICES_MAX)] = 0
    requests_per_s: Annotated[float, msgspec.Meta(gt=0, le=1_000)] = 0.1
    error_rate: Share = 0.01
    ratio: Annotated[float, msgspec.Meta(ge=0, le=100)] = 1.0
    alpha: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.0005


Happening: TypeAlias = Change | Outage | Poison | Forgery | Rollout
KINDS: Final = {
    "change": Change,
    "outage": Outage,
    "poison": Poison,
    "forgery": Forgery,
    "rollout": Rollout,
}


class Pace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The pacing contract that is signed with every snapshot, in seconds."""

    poll_interval_s: Annotated[int, msgspec.Meta(ge=1, le=3_600)] = 30
    poll_interval_max_s: Annotated[int, msgspec.Meta(ge=1, le=3_600)] = 300
    retry_after_max_s: Annotated[int, msgspec.Meta(ge=1, le=3_600)] = 300
    streams: bool = True

    def signed(self) -> Pacing:
        return Pacing(
            poll_interval_s=self.poll_interval_s,
            poll_interval_max_s=self.poll_interval_max_s,
            retry_after_max_s=self.retry_after_max_s,
            stale_after_s=3 * self.poll_interval_s,
            streams=self.streams,
        )


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fleet and what happens to it; every time counts from the end of the settling.

    `settle_s`: the fleet starts, its clients one after another within `start_within_s`, and nothing
    is counted yet. `settings`: of each service, each some 100 bytes. `upstreams`: edges of its own
    region that a client knows; with `elsewhere` one of the next region, too, as its last resort.
    `streams_max`: streams that an edge holds open. `wait_budget_ms`: of admission, 0 for none.
    `protected` off: clients that know no jitter, no budget and no throttle. `clients_per_host`:
    clients that share one CPU, 0 for none. `jitter`: by so large a share a way may take longer.
    `machines_max`: so many clients are simulated at most, each for several that are alike.
    """

    clients: Annotated[int, msgspec.Meta(ge=1, le=CLIENTS_MAX)]
    regions: Annotated[tuple[Region, ...], msgspec.Meta(min_length=1, max_length=50)]
    happenings: Annotated[tuple[Happening, ...], msgspec.Meta(max_length=1_000)] = ()
    run_s: Annotated[float, msgspec.Meta(gt=0, le=RUN_MAX_S)] = 120.0
    settle_s: Annotated[float, msgspec.Meta(ge=0, le=RUN_MAX_S)] = 60.0
    start_within_s: Annotated[float, msgspec.Meta(ge=0, le=RUN_MAX_S)] = 30.0
    control_nodes: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1
    services: Annotated[int, msgspec.Meta(ge=1, le=200)] = 1
    settings: Annotated[int, msgspec.Meta(ge=0, le=2_000)] = 40
    pace: Pace = Pace()
    upstreams: Annotated[int, msgspec.Meta(ge=1, le=8)] = 2
    elsewhere: bool = True
    protected: bool = True
    streams_max: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 10_000
    wait_budget_ms: Annotated[float, msgspec.Meta(ge=0, le=1_000)] = 5.0
    clients_per_host: Annotated[int, msgspec.Meta(ge=0, le=CLIENTS_MAX)] = 0
    jitter: Share = 0.1
    machines_max: Annotated[int, msgspec.Meta(ge=10, le=CLIENTS_MAX)] = 20_000
    costs: Costs = Costs()

    @property
    def weight(self) -> int:
        """Clients that one simulated client stands for."""
        return -(-self.clients // self.machines_max)


def problems_of(asked: Parameters) -> Iterator[Problem]:
    """What can't be meant, though every part of it is right by itself; all of it."""
    names = [region.name for region in asked.regions]
    for number, name in enumerate(names):
        if name in names[:number]:
            yield _problem(
                f"/regions/{number}/name", f"there is a region {name} already", "give each a name"
            )
    shares = sum(region.share for region in asked.regions)
    if abs(shares - 1) > SHARES_TOLERANCE:
        yield _problem("/regions", f"the shares add up to {shares:g}", "let them add up to 1")
    edges = sum(region.edges + region.relays for region in asked.regions)
    if edges > EDGES_MAX:
        yield _problem(
            "/regions", f"{edges} edges and relays", f"have {EDGES_MAX} at most, of all regions"
        )
    for number, region in enumerate(asked.regions):
        if region.per_service > region.edges:
            yield _problem(
                f"/regions/{number}/per_service",
                f"{region.per_service} of {region.edges} edges can't serve each service",
                "name fewer, or 0 for all of them",
            )
    if asked.pace.poll_interval_max_s < asked.pace.poll_interval_s:
        yield _problem(
            "/pace/poll_interval_max_s",
            "it is below poll_interval_s",
            "let an edge slow polls down, not speed them up",
        )
    if asked.start_within_s > asked.settle_s:
        yield _problem(
            "/settle_s",
            f"clients start within {asked.start_within_s:g} s, and settling ends before",
            "let settle_s be start_within_s at least, better twice as much",
        )
    for number, happening in enumerate(asked.happenings):
        yield from _of_happening(asked, names, f"/happenings/{number}", happening)


def _of_happening(
    asked: Parameters, names: list[str], path: str, happening: Happening
) -> Iterator[Problem]:
    if happening.at_s >= asked.run_s:
        yield _problem(
            f"{path}/at_s", f"the run ends at {asked.run_s:g} s", "begin earlier, or run longer"
        )
    region = getattr(happening, "region", "")
    if region and region not in names:
        yield _problem(f"{path}/region", f"there is no region {region}", f"one of {names}")
    service = getattr(happening, "service", 0)
    if isinstance(service, int) and service >= asked.services:
        yield _problem(
            f"{path}/service",
            f"there are {asked.services} services, the first one is 0",
            "name one of them",
        )


def _problem(path: str, message: str, hint: str) -> Problem:
    return Problem(code="simulation", message=message, path=path, hint=hint)
