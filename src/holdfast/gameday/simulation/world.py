"""The simulated fleet: control plane, relays, edges and clients, and the lines between them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from holdfast.apps.streams import HEARTBEAT_S
from holdfast.core import cells
from holdfast.core.conversation import Standing
from holdfast.core.model import Subject
from holdfast.gameday.simulation.clock import Clock
from holdfast.gameday.simulation.consumers import Consumer, Host
from holdfast.gameday.simulation.parameters import Parameters, Region
from holdfast.gameday.simulation.publication import Issue, Publication
from holdfast.gameday.simulation.servers import UNREACHABLE, UP, Server
from holdfast.gameday.simulation.tallies import SLOTS_MAX, Load, Spread

CONTROL, RELAYS, EDGES, CLIENTS = "control", "relays", "edges", "clients"
KNOWN: Final = 2
"""Relays, or nodes of the control plane, that an edge knows."""
LISTED_BYTES: Final = 130
"""Of a catalogue, for each subject."""
OVERTIME_SLOTS: Final = 2


class Edge:
    """An edge or a relay: it follows, and hands on what it activated."""

    def __init__(self, world: World, server: Server, layer: str) -> None:
        self.server = server
        self.layer = layer
        self._world = world
        self.consumer: Consumer | None = None

    def follow(self, routes: tuple[tuple[Server, float], ...], serves: frozenset[Subject]) -> None:
        consumer = Consumer(self._world, routes, None, self.server.region, 1, self._activated)
        consumer.serves = serves
        self.consumer = consumer
        self._world.clock.after(0.0, consumer.start)

    def _activated(self, _consumer: Consumer, subject: Subject, standing: Standing) -> None:
        world, server = self._world, self.server
        issue = world.publication.by_digest[standing.digest]
        known = server.shelf.get(subject)
        if known is None:
            server.put(issue)
            return
        world.reached(self.layer, server.region, subject, known.standing, standing, 1)
        world.clock.after(world.costs.hand_on_s, server.put, issue)

    def fall(self, how: str) -> None:
        if self.server.state != UP or self.consumer is None:
            return
        self.server.fall(how)
        if how == UNREACHABLE:
            self.consumer.cut_off()
        else:
            self.consumer.stop()

    def rise(self) -> None:
        """From its disk, after the time that a process takes to start."""
        if self.server.state == UNREACHABLE:
            self._back()
        elif self.server.state != UP:
            self._world.clock.after(self._world.costs.start_s, self._back)

    def _back(self) -> None:
        consumer = self.consumer
        if consumer is None or self.server.state == UP:
            return
        unreachable = self.server.state == UNREACHABLE
        self.server.rise()
        if unreachable:
            consumer.mend()
        else:
            consumer.start({s: issue.standing for s, issue in self.server.shelf.items()})


class Place:
    """One region: its edges and relays, and its clients that are well, and that listen.

    `cells` are the edges that serve a subject.
    """

    def __init__(self, region: Region) -> None:
        self.region = region
        self.edges: list[Edge] = []
        self.relays: list[Edge] = []
        self.cells: dict[Subject, list[Edge]] = {}
        self.clients = self.well = self.listening = 0
        self.clients_of: Counter[Subject] = Counter()

    @property
    def serving(self) -> list[Edge]:
        """All that answer in this region."""
        return [*self.relays, *self.edges]

    def is_back(self, *, listening: bool) -> bool:
        """Whether all clients were answered, and listen if they want to."""
        return self.well == self.clients and (not listening or self.listening == self.clients)


class Committed(msgspec.Struct, frozen=True):
    """A change that went out: when, what it was, and of which subjects."""

    at_s: float
    what: str
    subjects: tuple[Subject, ...]


class Seen(msgspec.Struct, frozen=True):
    """Clients that were answered when they last asked, and that listen, at the end of a slot."""

    well: int
    listening: int


class World:
    """See the module. `draw` is all chance that there is. `weight`: clients that one stands for."""

    def __init__(self, asked: Parameters, seed: int, weight: int) -> None:
        self.asked = asked
        self.costs = asked.costs
        self.pacing = asked.pace.signed()
        self.weight = weight
        self.clock = Clock()
        self.end_s = asked.settle_s + asked.run_s
        self.slot_s = max(1.0, self.end_s / SLOTS_MAX)
        self.chance = random.Random(seed)  # noqa: S311  chance of a simulation
        self.draw = self.chance.random
        self.publication = Publication(asked.services, asked.settings, self.pacing)
        self.listed_bytes = LISTED_BYTES
        self.loads: dict[tuple[str, str], Load] = {}
        self.spreads: dict[tuple[int, str, str], Spread] = {}
        self.commits: list[Committed] = []
        self.commits_refused = 0
        self.held: dict[Subject, Counter[int]] = {s: Counter() for s in self.publication.subjects}
        self.disbelieved: Counter[str] = Counter()
        self.turns: Counter[str] = Counter()
        self.lost: dict[tuple[str, Subject], int] = {}
        """Cells of which every edge was away at one time, with their clients."""
        self.went_back = 0
        self.machines = 0
        self.counted_activations = self.counted_hints = 0
        """Of clients, from the end of the settling on."""
        self.seen: list[Seen] = []
        self._commit_of: dict[str, int] = {}
        self._watchers: list[Callable[[], bool]] = []
        self.control = [
            self._server(CONTROL, "", f"control-{number}") for number in range(asked.control_nodes)
        ]
        self.places = {region.name: Place(region) for region in asked.regions}
        for node in self.control:
            for subject in self.publication.subjects:
                node.put(self.publication.newest(subject))
        for place in self.places.values():
            self._build(place)
        self._populate()
        self.clock.at(self.slot_s, self._sample)

    # -- chance

    def lot(self, weight: int) -> int:
        """Which one of those that one stands for."""
        return int(weight * self.draw()) if weight > 1 else 0

    def way(self, way_s: float) -> float:
        """Seconds on the way, this time."""
        return way_s * (1 + self.asked.jitter * self.draw())

    # -- the fleet

    def _server(self, layer: str, region: str, name: str) -> Server:
        load = self.loads.get((layer, region))
        if load is None:
            slots = int(self.end_s / self.slot_s) + OVERTIME_SLOTS
            load = self.loads[layer, region] = Load(layer, region, slots, self.slot_s)
        return Server(self, load, name, region)

    def _edge(self, layer: str, region: str, number: int) -> Edge:
        return Edge(self, self._server(layer, region, f"{region}-{layer}-{number}"), layer)

    def _build(self, place: Place) -> None:
        """The edges and relays of a region, which of them serve what, and whom they follow."""
        region, every = place.region, self.publication.subjects
        place.relays = [self._edge(RELAYS, region.name, n) for n in range(region.relays)]
        place.edges = [self._edge(EDGES, region.name, n) for n in range(region.edges)]
        by_name = {edge.server.name: edge for edge in place.edges}
        per_service = region.per_service or region.edges
        plan = cells.Plan(edges=tuple(by_name), per_service=per_service)
        for subject in every:
            names = cells.assigned(plan, subject) if region.per_service else by_name
            place.cells[subject] = [by_name[name] for name in names]
        above = [(node, region.control_ms / 1000) for node in self.control]
        for number, relay in enumerate(place.relays):
            relay.follow(_turned(above, number), frozenset(every))
        over = [(relay.server, region.relay_ms / 1000) for relay in place.relays] or above
        serves: dict[str, set[Subject]] = {name: set() for name in by_name}
        for subject, edges in place.cells.items():
            for edge in edges:
                serves[edge.server.name].add(subject)
        for number, edge in enumerate(place.edges):
            edge.follow(_turned(over, number)[:KNOWN], frozenset(serves[edge.server.name]))

    def _populate(self) -> None:
        """All clients, each with the edges that it knows."""
        asked, hosts = self.asked, _Hosts(self.asked.clients_per_host)
        for number, count in enumerate(_shared(asked.clients, [r.share for r in asked.regions])):
            place = self.places[asked.regions[number].name]
            beside = self.places[asked.regions[(number + 1) % len(asked.regions)].name]
            machines = -(-count // self.weight)
            self.machines += machines
            for machine in range(machines):
                weight = (machine + 1) * count // machines - machine * count // machines
                subject = self.publication.subjects[machine % asked.services]
                routes = self._routes(place, beside, subject)
                consumer = Consumer(
                    self,
                    routes,
                    subject,
                    place.region.name,
                    weight,
                    self._activated,
                    hosts.host(weight),
                )
                first_s = self.costs.start_s + asked.start_within_s * self.draw()
                self.clock.at(first_s, consumer.start)
                place.clients += weight
                place.clients_of[subject] += weight

    def _routes(
        self, place: Place, beside: Place, subject: Subject
    ) -> tuple[tuple[Server, float], ...]:
        """Some edges of the region that serve the subject, and one of the region beside it."""
        there = place.cells[subject]
        chosen = self.chance.sample(there, min(self.asked.upstreams, len(there)))
        near_s = place.region.client_ms / 1000
        routes = [(edge.server, near_s) for edge in chosen]
        if self.asked.elsewhere and beside is not place:
            far_s = near_s + max(place.region.control_ms, beside.region.control_ms) / 1000
            routes.append((self.chance.choice(beside.cells[subject]).server, far_s))
        return tuple(routes)

    # -- what consumers tell

    def _activated(self, consumer: Consumer, subject: Subject, standing: Standing) -> None:
        old, consumer.held = consumer.held, standing
        held = self.held[subject]
        if old is not None:
            held[old.revision] -= consumer.weight
            self.went_back += consumer.weight * (standing.revision < old.revision)
        held[standing.revision] += consumer.weight
        if self.clock.now_s >= self.asked.settle_s:
            self.counted_activations += consumer.weight
        self.reached(CLIENTS, consumer.region, subject, old, standing, consumer.weight)

    def reached(  # noqa: PLR0913, PLR0917  who has what instead of what
        self,
        layer: str,
        region: str,
        subject: Subject,
        old: Standing | None,
        new: Standing,
        weight: int,
    ) -> None:
        """Consumers have another generation: the changes that came with it have reached them."""
        if old is None:
            return
        by_digest = self.publication.by_digest
        for issue in self.publication.issues[subject][
            by_digest[old.digest].number + 1 : by_digest[new.digest].number + 1
        ]:
            commit = self._commit_of.get(issue.standing.digest)
            if commit is not None:
                spread = self.spreads.setdefault((commit, layer, region), Spread())
                spread.add(self.clock.now_s - self.commits[commit].at_s, weight)

    def heard(self, consumer: Consumer, well: int, listening: int) -> None:
        """So many clients more were answered when they last asked, or listen; or fewer."""
        if consumer.topic is None:
            return
        place = self.places[consumer.region]
        place.well += well
        place.listening += listening
        self.look_round()

    def look_round(self) -> None:
        """Ask all who watch clients come and go whether they have seen enough."""
        if self._watchers:
            self._watchers = [watch for watch in self._watchers if not watch()]

    def hinted(self, consumer: Consumer) -> None:
        """It heard of something new."""
        if consumer.topic is not None and self.clock.now_s >= self.asked.settle_s:
            self.counted_hints += consumer.weight

    def watch(self, has_seen: Callable[[], bool]) -> None:
        """Ask it whenever clients come or go, until it says that it has seen enough."""
        self._watchers.append(has_seen)

    def turned(self, state: str) -> None:
        """Admission of a server is in another state."""
        self.turns[state] += 1

    # -- what happens

    def commit(self, subjects: Sequence[Subject], what: str) -> list[Issue]:
        """A change at the control plane, which tells of it; nothing while all of it is away."""
        nodes = [node for node in self.control if node.state == UP]
        if not nodes:
            self.commits_refused += 1
            return []
        issues = self.publication.change(subjects)
        self.commits.append(
            Committed(self.clock.now_s, what, tuple(issue.subject for issue in issues))
        )
        for issue in issues:
            self._commit_of[issue.standing.digest] = len(self.commits) - 1
            for number, node in enumerate(nodes):
                wait_s = self.costs.publish_s + (self.costs.watch_s * self.draw() if number else 0)
                self.clock.after(wait_s, node.put, issue)
        return issues

    def commit_of(self, issue: Issue) -> int | None:
        """The number of the change that a snapshot came with; none for the first ones."""
        return self._commit_of.get(issue.standing.digest)

    def fall(self, edges: Iterable[Edge], how: str) -> None:
        """They are away from now on; cells of which nobody is left are lost."""
        for edge in edges:
            edge.fall(how)
        for place in self.places.values():
            for subject, cell in place.cells.items():
                if all(edge.server.state != UP for edge in cell):
                    self.lost[place.region.name, subject] = place.clients_of[subject]

    def run(self, tell: Callable[[float], object]) -> None:
        """To its end."""
        self.clock.run(self.end_s, tell)

    def _sample(self) -> None:
        """Once in a slot: what is not counted as it happens, heartbeats too."""
        slot = int(self.clock.now_s / self.slot_s) - 1
        for load in self.loads.values():
            load.streams[slot] = load.streaming
            beats = load.streaming * self.slot_s / HEARTBEAT_S
            load.sent_bytes[slot] += beats * self.costs.heartbeat_bytes
            load.busy_s[slot] += beats * self.costs.heartbeat_s
        places = self.places.values()
        self.seen.append(
            Seen(
                sum(place.well for place in places),
                sum(place.listening for place in places),
            )
        )
        self.clock.after(self.slot_s, self._sample)


class _Hosts:
    """CPUs that so many clients share, one after the other; none for 0."""

    def __init__(self, clients: int) -> None:
        self._clients = clients
        self._host: Host | None = None
        self._taken = 0

    def host(self, weight: int) -> Host | None:
        if not self._clients:
            return None
        if self._host is None or self._taken + weight > self._clients:
            self._host, self._taken = Host(), 0
        self._taken += weight
        return self._host


def _turned(routes: Sequence[tuple[Server, float]], by: int) -> tuple[tuple[Server, float], ...]:
    """The same, beginning with another one, so that not all begin with the first."""
    start = by % len(routes)
    return (*routes[start:], *routes[:start])


def _shared(count: int, shares: Sequence[float]) -> list[int]:
    """`count` in parts of these shares: whole numbers that add up to it."""
    ends = [round(count * sum(shares[: number + 1])) for number in range(len(shares))]
    ends[-1] = count
    return [end - begin for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
