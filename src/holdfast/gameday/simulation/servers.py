"""A simulated server: one request after the other, in batches, as the edge's event loop does it.

What came while a batch was answered is the next batch. `core.admission.Admission` is told of each
as `apps.front` and `apps.edge.gate` tell it, and refuses; when to come back is told by the edge's
own `Refusals`. A request that stands for several is judged as often as that, takes as long as they
would, and is answered as one of them, drawn by lot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from holdfast.adapters.http_source import HEARTBEATS, SILENCE_MIN_S, SILENCE_S
from holdfast.apps.edge.refusals import Refusals
from holdfast.apps.streams import FULL_RETRY_S, HEARTBEAT_S, WRITES_PER_TURN
from holdfast.core.admission import Admission, Rank
from holdfast.core.model import Subject
from holdfast.gameday.simulation.publication import Issue
from holdfast.gameday.simulation.tallies import Load
from holdfast.gameday.wire import Answer

if TYPE_CHECKING:
    from holdfast.gameday.simulation.consumers import Consumer
    from holdfast.gameday.simulation.world import World

UP, KILLED, REFUSING, UNREACHABLE = "up", "killed", "refusing", "unreachable"
POLL, CATALOGUE, STREAM = range(3)
QUIET_S: Final = max(HEARTBEATS * HEARTBEAT_S, SILENCE_MIN_S)
"""After so long without a heartbeat a consumer knows that a stream is silent."""
RANKS: Final = {POLL: Rank.IMPORTANT, CATALOGUE: Rank.IMPORTANT, STREAM: Rank.INTERACTIVE}


class Ask:
    """One request on its way. `way_s`: to the server, and back."""

    __slots__ = (
        "consumer", "deadline_s", "have", "kind", "settled", "subject", "turn", "upstream",
        "way_s", "weight",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913, PLR0917  what a request is
        self,
        consumer: Consumer,
        upstream: int,
        kind: int,
        subject: Subject | None,
        have: str | None,
        deadline_s: float,
        way_s: float,
    ) -> None:
        self.consumer = consumer
        self.upstream = upstream
        self.kind = kind
        self.subject = subject
        self.have = have
        self.deadline_s = deadline_s
        self.way_s = way_s
        self.weight = consumer.weight
        self.turn = consumer.turn
        self.settled = False


class Reply:
    """How a request ended, and what came: a judged snapshot, a catalogue, a wish to be left."""

    __slots__ = ("brought", "how", "poll_s", "retry_s")

    def __init__(
        self, how: str, brought: Any = None, retry_s: float = 0.0, poll_s: float = 0.0
    ) -> None:
        self.how = how
        self.brought = brought
        self.retry_s = retry_s
        self.poll_s = poll_s


NOT_MODIFIED: Final = Reply("not_modified")
OPENED: Final = Reply("opened")
TURNED_AWAY: Final = Reply("turned_away")
UNANSWERED: Final = Reply("unanswered")
TIMED_OUT: Final = Reply("timed_out")


class _Telling:
    """One event on its way to all streams, so many writes a turn."""

    __slots__ = ("at", "issue", "readers")

    def __init__(self, issue: Issue, readers: list[tuple[Consumer, int]]) -> None:
        self.issue = issue
        self.readers = readers
        self.at = 0


class Server:
    """See the module. `shelf` is what it hands on; `readers` are its streams."""

    __slots__ = (
        "_admission", "_busy_until_s", "_refusals", "_refusing", "_retries", "_stalled", "_turn",
        "_waiting", "_waiting_s", "_world", "digests", "forges", "load", "name", "readers",
        "reading", "region", "shelf", "state",
    )  # fmt: skip

    def __init__(self, world: World, load: Load, name: str, region: str) -> None:
        self._world = world
        self.load = load
        self.name, self.region = name, region
        self.state = UP
        self.forges = False
        self.shelf: dict[Subject, Issue] = {}
        self.digests: dict[Subject, str] = {}
        self.readers: dict[Subject | None, dict[Consumer, int]] = {}
        self.reading = 0
        load.servers += 1
        budget_s = world.asked.wait_budget_ms / 1000
        self._admission = Admission(budget_s, world.clock.now_s) if budget_s else None
        self._refusals = Refusals()
        self._retries: list[tuple[float, float]] = []
        self._refusing = -1
        self._turn = 0
        self._waiting: list[Ask | _Telling] = []
        self._waiting_s = 0.0
        self._busy_until_s = -1.0
        self._stalled: list[tuple[Consumer, int]] = []

    # -- what comes

    def arrive(self, ask: Ask) -> None:
        """A request is here."""
        clock = self._world.clock
        if self.state == UNREACHABLE:
            clock.at(ask.deadline_s, ask.consumer.hear, ask, TIMED_OUT)
            return
        if self.state != UP:
            reply = TURNED_AWAY if self.state == REFUSING else UNANSWERED
            clock.after(ask.way_s, ask.consumer.hear, ask, reply)
            return
        self._waiting.append(ask)
        self._waiting_s += self._world.costs.not_modified_s * ask.weight
        begins_s = max(self._busy_until_s, clock.now_s)
        if begins_s + self._waiting_s + ask.way_s > ask.deadline_s:
            clock.at(ask.deadline_s, ask.consumer.hear, ask, TIMED_OUT)
        if self._busy_until_s < clock.now_s:
            self._begin()

    def put(self, issue: Issue) -> None:
        """From now on this is handed on, and those who listen hear of it."""
        known = self.shelf.get(issue.subject)
        if known is not None and known.standing.revision >= issue.standing.revision:
            return
        self.shelf[issue.subject] = issue
        self.digests[issue.subject] = issue.standing.digest
        if self.state != UP:
            return
        readers = [
            each for topic in (None, issue.subject) for each in self.readers.get(topic, {}).items()
        ]
        if readers:
            self._waiting.append(_Telling(issue, readers))
            if self._busy_until_s < self._world.clock.now_s:
                self._begin()

    def leave(self, consumer: Consumer, turn: int) -> None:
        """Its stream ends."""
        readers = self.readers.get(consumer.topic, {})
        if readers.get(consumer) == turn:
            del readers[consumer]
            self.reading -= consumer.weight
            self.load.streaming -= consumer.weight

    # -- one batch after the other

    def _begin(self) -> None:
        """Busy from now on; what comes at the same moment is of the same batch."""
        self._busy_until_s = self._world.clock.now_s
        self._world.clock.after(0.0, self._serve)

    def _serve(self) -> None:
        world, clock = self._world, self._world.clock
        if self.state != UP:
            return
        batch, self._waiting, self._waiting_s = self._waiting, [], 0.0
        start_s = at_s = clock.now_s
        admission, calm, calm_s = self._admission, 0, 0.0
        for item in batch:
            if type(item) is _Telling:
                at_s = self._tell(item, at_s)
                continue
            assert isinstance(item, Ask)  # noqa: S101  there are two kinds of work
            cost_s, reply = self._reply(item)
            if admission is not None and at_s - start_s >= admission.alert_s:
                if calm:
                    admission.done(calm_s, calm)
                    calm, calm_s = 0, 0.0
                at_s, lead_s, reply = self._judged(admission, item, start_s, at_s, cost_s, reply)
            else:
                lead_s = at_s + cost_s * (1 + world.lot(item.weight))
                at_s += cost_s * item.weight
                calm += item.weight
                calm_s += cost_s * item.weight
            if reply is OPENED:
                self._open(item)
            clock.at(lead_s + world.way(item.way_s), item.consumer.hear, item, reply)
        length_s = at_s - start_s
        self.load.busy_s[int(start_s / self.load.slot_s)] += length_s
        if admission is not None:
            self._batch_over(admission, at_s, length_s, calm, calm_s)
        self._busy_until_s = at_s
        clock.at(at_s, self._rest)

    def _batch_over(
        self, admission: Admission, at_s: float, length_s: float, calm: int, calm_s: float
    ) -> None:
        if calm:
            admission.done(calm_s, calm)
        if admission.calm and length_s < admission.wait_budget_s:
            admission.rest()
            return
        admission.batch(at_s, length_s)
        self._refusals.press(admission.pressure)
        while admission.turns:
            self._world.turned(admission.turns.popleft().state)

    def _rest(self) -> None:
        """A batch is answered; what came meanwhile is the next one."""
        if self._waiting:
            self._serve()
        else:
            self._busy_until_s = -1.0

    def _judged(  # noqa: PLR0913, PLR0917  a request within its batch
        self,
        admission: Admission,
        ask: Ask,
        start_s: float,
        at_s: float,
        cost_s: float,
        reply: Reply,
    ) -> tuple[float, float, Reply]:
        """When it is done, when the one that it is answered as is, and how it is answered."""
        lot, lead_s = self._world.lot(ask.weight), at_s
        rank = Rank.EXPORT if ask.kind == POLL and ask.have is None else RANKS[ask.kind]
        caller = ask.consumer.token
        refused = 0
        for number in range(ask.weight):
            why = admission.judge(at_s, at_s - start_s, rank, caller, ask.subject)
            if why is None:
                at_s += cost_s
                admission.done(cost_s)
            else:
                at_s += self._world.costs.refusal_s
                refused += 1
            if number == lot:
                lead_s = at_s
                answered = reply if why is None else None
        self.load.refused[int(start_s / self.load.slot_s)] += refused
        return at_s, lead_s, answered or Reply("refused", None, *self._come_back())

    def _come_back(self) -> tuple[float, float]:
        """When a refused one is told to come back, and how often to poll then."""
        if self._refusing != self._refusals.epoch:
            self._refusing = self._refusals.epoch
            made = self._refusals.made(self._world.pacing, [], ofrep=False)
            answers = [Answer(503, head) for head in made]
            self._retries = [(each.retry_after_s, each.pace_s) for each in answers]
        self._turn = (self._turn + 1) % len(self._retries)
        return self._retries[self._turn]

    # -- answers

    def _reply(self, ask: Ask) -> tuple[float, Reply]:
        """What it costs to answer, and the answer."""
        costs, sent_bytes = self._world.costs, self._world.costs.answer_bytes
        if ask.kind == POLL:
            assert ask.subject is not None  # noqa: S101  polls are of a subject
            issue = self.shelf.get(ask.subject)
            if issue is None:
                cost_s, reply = costs.not_modified_s, TURNED_AWAY
            elif issue.standing.digest == ask.have and not self.forges:
                cost_s, reply = costs.not_modified_s, NOT_MODIFIED
            else:
                judged = self._world.publication.judge(ask.have, issue, forged=self.forges)
                sent_bytes += judged.sent_bytes
                cost_s, reply = costs.snapshot_s, Reply("new", judged)
        elif ask.kind == CATALOGUE:
            sent_bytes += self._world.listed_bytes * len(self.digests)
            cost_s, reply = costs.catalogue_s, Reply("catalogue", dict(self.digests))
        elif self.reading + ask.weight > self._world.asked.streams_max:
            retry_s = round(FULL_RETRY_S * (0.5 + self._world.draw()))
            cost_s, reply = costs.refusal_s, Reply("full", None, retry_s)
        else:
            cost_s, reply = costs.stream_s, OPENED
        load = self.load
        load.sent_bytes[int(self._world.clock.now_s / load.slot_s)] += sent_bytes * ask.weight
        return cost_s, reply

    def _open(self, ask: Ask) -> None:
        consumer = ask.consumer
        if ask.settled or ask.turn != consumer.turn:
            return
        self.readers.setdefault(consumer.topic, {})[consumer] = consumer.turn
        self.reading += consumer.weight
        self.load.streaming += consumer.weight

    def _tell(self, telling: _Telling, at_s: float) -> float:
        """Write to the next readers; the others have their turn after what waits."""
        world, written = self._world, 0
        hint_s, topic = world.costs.hint_s, telling.issue.subject
        digest = telling.issue.standing.digest
        while telling.at < len(telling.readers) and written < WRITES_PER_TURN:
            consumer, turn = telling.readers[telling.at]
            telling.at += 1
            if consumer.turn != turn:
                continue
            lead_s = at_s + hint_s * (1 + world.lot(consumer.weight))
            at_s += hint_s * consumer.weight
            written += consumer.weight
            way_s = consumer.way_to(self)
            world.clock.at(lead_s + world.way(way_s), consumer.hinted, turn, topic, digest)
        self.load.hints += written
        slot = int(world.clock.now_s / self.load.slot_s)
        self.load.sent_bytes[slot] += written * world.costs.hint_bytes
        if telling.at < len(telling.readers):
            self._waiting.append(telling)
        return at_s

    # -- what happens to it

    def fall(self, how: str) -> None:
        """It is away: streams end, or fall silent, and what waits gets no answer."""
        self.state = how
        readers = [each for topic in self.readers.values() for each in topic.items()]
        self.readers.clear()
        self.load.streaming -= self.reading
        self.reading = 0
        world = self._world
        waiting, self._waiting, self._busy_until_s = self._waiting, [], -1.0
        for item in waiting:
            if isinstance(item, Ask) and how == UNREACHABLE:
                world.clock.at(item.deadline_s, item.consumer.hear, item, TIMED_OUT)
            elif isinstance(item, Ask):
                world.clock.after(world.way(item.way_s), item.consumer.hear, item, UNANSWERED)
        if how == UNREACHABLE:
            self._stalled = readers
        for consumer, turn in readers:
            if how == UNREACHABLE:
                quiet_s = QUIET_S + HEARTBEAT_S * world.draw()
                world.clock.after(quiet_s, consumer.fell_silent, turn)
                world.clock.after(SILENCE_S, consumer.closed, turn)
            else:
                world.clock.after(world.way(consumer.way_to(self)), consumer.closed, turn)

    def rise(self) -> None:
        """It is there again; streams that fell silent end now."""
        self.state = UP
        for consumer, turn in self._stalled:
            self._world.clock.after(self._world.draw(), consumer.closed, turn)
        self._stalled = []
