"""What happens to a simulated fleet, as its parameters say: changes, outages, poison, forgeries."""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.gameday.simulation.parameters import (
    Change,
    Forgery,
    Happening,
    Outage,
    Poison,
    Rollout,
)
from holdfast.gameday.simulation.rollouts import Rolling
from holdfast.gameday.simulation.servers import UP
from holdfast.gameday.simulation.world import Edge, Place, World

HOW_POISONED: Final = "killed"


class Return(msgspec.Struct):
    """An outage of clients' edges, by when it began and was healed.

    `unserved_most`: clients whose last question had no answer, at the worst moment. `served_s`:
    since it began, until all were answered again, by whomever; 0 when nobody ever was without an
    answer. `back_s`: since it was healed, until all are answered and, if they want to, listen.
    """

    what: str
    regions: tuple[str, ...]
    began_s: float
    healed_s: float
    unserved_most: int = 0
    served_s: float | None = 0.0
    back_s: float | None = None


class Happenings:
    """All of them, put on the clock; `returns` and `rollouts` fill as they go."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.returns: list[Return] = []
        self.rollouts: list[Rolling] = []
        for happening in world.asked.happenings:
            world.clock.at(world.asked.settle_s + happening.at_s, self._begin, happening)

    def _begin(self, happening: Happening) -> None:
        match happening:
            case Change(service=service):
                subjects = self._world.publication.subjects
                chosen = subjects if service == "all" else (subjects[service],)
                self._world.commit(chosen, "a change")
            case Outage():
                self._outage(happening)
            case Poison(service=service, for_s=for_s):
                subject = self._world.publication.subjects[service]
                places = list(self._world.places.values())
                edges = [edge for place in places for edge in place.cells[subject]]
                self._away(edges, HOW_POISONED, for_s, f"poison in {subject.service}", places)
            case Forgery():
                self._forge(happening)
            case Rollout():
                self.rollouts.append(Rolling(self._world, happening))

    def _outage(self, outage: Outage) -> None:
        world = self._world
        if outage.region:
            place = world.places[outage.region]
            what = f"{outage.region} {outage.how}"
            self._away(place.serving, outage.how, outage.for_s, what, [place])
            return
        for node in world.control:
            node.fall(outage.how)
            wait_s = outage.for_s + (world.costs.start_s if outage.how != "unreachable" else 0)
            world.clock.after(wait_s, node.rise)

    def _away(
        self, edges: list[Edge], how: str, for_s: float, what: str, places: list[Place]
    ) -> None:
        world = self._world
        down = [edge for edge in edges if edge.server.state == UP]
        world.fall(down, how)
        now_s = world.clock.now_s
        regions = tuple(place.region.name for place in places)
        back = Return(what, regions, now_s, now_s + for_s)
        self.returns.append(back)
        world.watch(lambda: self._look(back))
        world.clock.after(for_s, self._heal, down)

    def _heal(self, down: list[Edge]) -> None:
        for edge in down:
            edge.rise()
        self._world.look_round()

    def _look(self, back: Return) -> bool:
        """Whether all clients of these regions are back after it; what is seen is noted."""
        world, now_s = self._world, self._world.clock.now_s
        places = [world.places[name] for name in back.regions]
        unserved = sum(place.clients - place.well for place in places)
        back.unserved_most = max(back.unserved_most, unserved)
        if unserved:
            back.served_s = None
        elif back.served_s is None:
            back.served_s = now_s - back.began_s
        listening = world.asked.pace.streams
        if now_s < back.healed_s or not all(each.is_back(listening=listening) for each in places):
            return False
        back.back_s = now_s - back.healed_s
        return True

    def _forge(self, forgery: Forgery) -> None:
        place = self._world.places[forgery.region]
        liars = place.edges[: round(forgery.share * len(place.edges))]
        for edge in liars:
            edge.server.forges = True
        self._world.clock.after(forgery.for_s, _be_honest, liars)


def _be_honest(liars: list[Edge]) -> None:
    for edge in liars:
        edge.server.forges = False
