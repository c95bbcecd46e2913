"""A simulated consumer: it performs what `core.follow.Follow` commands, as `sdk.follower` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from holdfast.adapters.http_source import CONNECT_S, READ_S
from holdfast.core.conversation import (
    Activate,
    Answered,
    Catalogued,
    CloseStream,
    Event,
    Failed,
    Fetch,
    FetchCatalogue,
    Hinted,
    OpenStream,
    Refused,
    Restored,
    Standing,
    StreamClosed,
    StreamOpened,
    StreamSilent,
    Tick,
    WakeAt,
)
from holdfast.core.errors import Untrusted
from holdfast.core.follow import Follow, Plan
from holdfast.core.model import Subject
from holdfast.gameday.simulation.publication import Judged
from holdfast.gameday.simulation.servers import CATALOGUE, POLL, STREAM, TIMED_OUT, Ask, Reply

if TYPE_CHECKING:
    from holdfast.gameday.simulation.servers import Server
    from holdfast.gameday.simulation.world import World

PATIENCE_S: Final = CONNECT_S + READ_S
_TICK: Final = Tick()


class Host:
    """One CPU that several consumers share: one piece of work after the other."""

    __slots__ = ("_free_s", "busy_s")

    def __init__(self) -> None:
        self._free_s = 0.0
        self.busy_s = 0.0

    def done_s(self, now_s: float, cost_s: float) -> float:
        """When work that comes now is done."""
        self._free_s = max(self._free_s, now_s) + cost_s
        self.busy_s += cost_s
        return self._free_s


class Consumer:
    """One machine, which stands for `weight` consumers. `routes` are its upstreams with the way to
    each; `topic` is what its stream tells of, none for everything.
    """

    __slots__ = (
        "_cut", "_host", "_listens_to", "_machine", "_plan", "_routes", "_wake_s", "_world",
        "held", "listening", "on_activate", "region", "serves", "token", "topic", "turn",
        "weight", "well",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913, PLR0917  what a consumer is
        self,
        world: World,
        routes: tuple[tuple[Server, float], ...],
        subject: Subject | None,
        region: str,
        weight: int,
        on_activate: Callable[[Consumer, Subject, Standing], None],
        host: Host | None = None,
    ) -> None:
        self._world = world
        self._routes = routes
        self._host = host
        self.topic = subject
        self.token = subject.service if subject else "edge"
        self.region = region
        self.weight = weight
        self.on_activate = on_activate
        self.serves: frozenset[Subject] | None = None
        self.held: Standing | None = None
        self._plan = Plan(
            upstreams=len(routes),
            subjects=(subject,) if subject else (),
            catalogue=subject is None,
            gentle=world.asked.protected,
        )
        self._machine: Follow | None = None
        self._wake_s = -1.0
        self._listens_to: Server | None = None
        self._cut = False
        self.turn = 0
        """Of its streams: what is told of an older one is not for it."""
        self.well = self.listening = False

    # -- its life

    def start(self, kept: dict[Subject, Standing] | None = None) -> None:
        """Begin, with what is kept on its disk."""
        now_s = self._world.clock.now_s
        self._cut = False
        self._machine = Follow(self._plan, self._world.draw, now_s)
        for subject, standing in (kept or {}).items():
            self._step(Restored(subject, (standing,), 0.0))
        self._step(_TICK)

    def stop(self) -> None:
        """It is gone, with all that it waited for."""
        self._machine = None
        self._close()

    def cut_off(self) -> None:
        """Nothing that it asks from now on arrives anywhere."""
        self._cut = True
        self._world.clock.after(PATIENCE_S, self.closed, self.turn)

    def mend(self) -> None:
        """What it asks arrives again."""
        self._cut = False

    def way_to(self, server: Server) -> float:
        return next((way_s for each, way_s in self._routes if each is server), 0.0)

    # -- what it hears

    def wake(self, at_s: float) -> None:
        if at_s == self._wake_s:
            self._wake_s = -1.0
            self._step(_TICK)

    def hear(self, ask: Ask, reply: Reply) -> None:
        """How a request ended."""
        server = self._routes[ask.upstream][0]
        if ask.settled:
            server.load.wasted += ask.weight
            return
        ask.settled = True
        server.load.end(reply.how, ask.weight)
        if self._machine is None:
            return
        if self._host is not None:
            costs = self._world.costs
            cost_s = costs.client_activate_s if reply.how == "new" else costs.client_poll_s
            done_s = self._host.done_s(self._world.clock.now_s, cost_s * self.weight)
            self._world.clock.at(done_s, self._take, ask, reply)
        else:
            self._take(ask, reply)

    def _take(self, ask: Ask, reply: Reply) -> None:
        if self._machine is None:
            return
        if ask.kind == STREAM:
            self._opened(ask, reply)
            return
        well = reply.how in {"new", "not_modified", "catalogue"}
        if well != self.well:
            self.well = well
            self._world.heard(self, self.weight if well else -self.weight, 0)
        self._step(self._event(ask, reply))

    def _event(self, ask: Ask, reply: Reply) -> Event:
        if reply.how == "catalogue":
            digests = reply.brought
            if self.serves is not None:
                digests = {s: digest for s, digest in digests.items() if s in self.serves}
            return Catalogued(ask.upstream, digests)
        if ask.subject is None or reply.how not in {"new", "not_modified"}:
            return Failed(ask.subject, ask.upstream, reply.retry_s, reply.poll_s)
        if reply.how == "not_modified":
            return Answered(ask.subject, ask.upstream, None)
        judged: Judged = reply.brought
        verdict = judged.verdict
        if isinstance(verdict, Untrusted):
            self._world.disbelieved[verdict.code] += self.weight
            return Refused(ask.subject, ask.upstream, verdict.code, str(verdict))
        return Answered(ask.subject, ask.upstream, verdict)

    def hinted(self, turn: int, subject: Subject, digest: str) -> None:
        if turn != self.turn or self._machine is None or self._cut:
            return
        if self._host is not None:
            clock = self._world.clock
            done_s = self._host.done_s(clock.now_s, self._world.costs.client_hint_s * self.weight)
            clock.at(done_s, self._hear_hint, turn, subject, digest)
        else:
            self._hear_hint(turn, subject, digest)

    def _hear_hint(self, turn: int, subject: Subject, digest: str) -> None:
        if turn == self.turn and (self.serves is None or subject in self.serves):
            self._world.hinted(self)
            self._step(Hinted({subject: digest}))

    def fell_silent(self, turn: int) -> None:
        if turn == self.turn and self._listens_to is not None:
            self._step(StreamSilent(self._upstream()))

    def closed(self, turn: int) -> None:
        """Its stream was cut."""
        if turn == self.turn and self._listens_to is not None:
            upstream = self._upstream()
            self._close()
            self._step(StreamClosed(upstream, cut=True))

    def _upstream(self) -> int:
        return next(n for n, (each, _) in enumerate(self._routes) if each is self._listens_to)

    # -- what it does

    def _step(self, event: Event) -> None:
        machine, clock = self._machine, self._world.clock
        if machine is None:
            return
        wake_s = -1.0
        for command in machine.step(event, clock.now_s):
            match command:
                case WakeAt(at_s=at_s):
                    wake_s = at_s
                case Fetch():
                    self._ask(
                        command.upstream, POLL, command.subject, command.have, command.patience_s
                    )
                case Activate():
                    self.on_activate(self, command.subject, command.standing)
                case OpenStream():
                    self._ask(command.upstream, STREAM, self.topic, None, PATIENCE_S)
                case FetchCatalogue():
                    self._ask(command.upstream, CATALOGUE, None, None, command.patience_s)
                case CloseStream():
                    self._close()
                case _:
                    pass  # nothing is kept, nobody is told
        if wake_s != self._wake_s:
            self._wake_s = wake_s
            if wake_s >= 0:
                clock.at(wake_s, self.wake, wake_s)

    def _ask(
        self, upstream: int, kind: int, subject: Subject | None, have: str | None, patience_s: float
    ) -> None:
        world = self._world
        server, way_s = self._routes[upstream]
        now_s = world.clock.now_s
        server.load.ask(now_s, self.weight)
        if kind == STREAM:
            self.turn += 1
            self._listens_to = server
        deadline_s = now_s + min(patience_s, PATIENCE_S)
        ask = Ask(self, upstream, kind, subject, have, deadline_s, way_s)
        if self._cut:
            world.clock.at(deadline_s, self.hear, ask, TIMED_OUT)
        else:
            world.clock.after(world.way(way_s), server.arrive, ask)

    def _opened(self, ask: Ask, reply: Reply) -> None:
        if ask.turn != self.turn:
            return
        if reply.how == "opened":
            self.listening = True
            self._world.heard(self, 0, self.weight)
            self._step(StreamOpened(ask.upstream))
        else:
            self._close()
            self._step(StreamClosed(ask.upstream, reply.retry_s))

    def _close(self) -> None:
        server, self._listens_to = self._listens_to, None
        if server is not None:
            server.leave(self, self.turn)
            self.turn += 1
        if self.listening:
            self.listening = False
            self._world.heard(self, 0, -self.weight)
