"""One control plane put together: its parts, its threads, its life from start to drain.

The event loop only looks things up. Writing happens on one thread, reading what takes time on a few
others; both queues are bounded, and whoever finds one full is told to try again.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Final, ParamSpec, TypeVar

from msgspec.structs import asdict, replace

from holdfast import __version__
from holdfast.apps import http
from holdfast.apps.control import schemas
from holdfast.apps.control.answers import Answers
from holdfast.apps.control.automation import Automation
from holdfast.apps.control.desk import Desk
from holdfast.apps.control.door import TokenDoor
from holdfast.apps.control.environments import EnvironmentDesk
from holdfast.apps.control.fleet_schemas import RunningBody, RunningVersion
from holdfast.apps.control.held import Held
from holdfast.apps.control.leader import Leader, while_leading
from holdfast.apps.control.outlook import Outlook
from holdfast.apps.control.parts import Parts
from holdfast.apps.control.proposing import ProposalDesk
from holdfast.apps.control.reading import Reading
from holdfast.apps.control.relaying import Relaying
from holdfast.apps.control.stalls import Stalls
from holdfast.apps.control.store_metrics import LOOK_S, MeasuredJournal, StoreMetrics
from holdfast.apps.control.traffic import Metrics, is_data_plane
from holdfast.apps.control.upstream import Upstream
from holdfast.apps.distribute import Distribution
from holdfast.apps.http import Request, Response
from holdfast.apps.observe import logger, registry
from holdfast.apps.settings import ControlSettings
from holdfast.apps.streams import Fanout, Stream
from holdfast.core.access import SECRET_BYTES, Grant, issue
from holdfast.core.checks import examine
from holdfast.core.contracts import World
from holdfast.core.delta import make_delta
from holdfast.core.errors import HoldfastError, Invalid, Problem, Unavailable
from holdfast.core.model import Edit, PutToken, Scope, Subject, Token, Verb
from holdfast.core.reproduce import NOT_REPRODUCIBLE, Departure, NotReproducible
from holdfast.core.roots import RootSet
from holdfast.core.state import ServiceState, State
from holdfast.engine.agreement import Agreement
from holdfast.engine.collecting import Collecting
from holdfast.engine.fleet import Fleet
from holdfast.engine.foresight import Foresight
from holdfast.engine.glass import Glass
from holdfast.engine.held_versions import HeldVersions
from holdfast.engine.judgement import AUTOMATION
from holdfast.engine.publish import Publisher
from holdfast.engine.pushes import PushDoor
from holdfast.engine.records import Records
from holdfast.engine.sentry import Sentry
from holdfast.engine.shelf import Shelf
from holdfast.engine.views import View
from holdfast.engine.waiting import Waiting
from holdfast.ports import Clock

READERS: Final = 4
"""Threads for reads that take time."""
WRITES_MAX: Final = 64
"""Writes that run or wait."""
READS_MAX: Final = 256
TOLD_MAX: Final = 20
"""Departures told one by one; the rest is counted."""
BUILD: Final = f"holdfast/{__version__}"
AUTHORING_AFTER_S: Final = 3.0
"""From readiness to the import of what only changes need."""
CONTEXTS_S: Final = 3_600.0
"""Between two looks at whether traffic has better contexts for probes."""
COLLECT_S: Final = 600.0
"""Between two looks at which lists nothing names any more."""
AUDIT_S: Final = 10.0
"""Between two looks at whether the journal is still what was seen of it."""
SCHEDULE_S: Final = 1.0
"""Between two looks at the schedules."""
SYSTEM: Final = Grant("holdfast", "holdfast", (Scope(verbs=("admin",)),))
"""Who acts in what a control plane does by itself, at its first start."""

P = ParamSpec("P")
T = TypeVar("T")
_log = logger("holdfast.control")


class Control:
    """A control plane that is ready once it is `running` and its shelf is warm."""

    def __init__(self, settings: ControlSettings, parts: Parts, clock: Clock) -> None:
        self.settings, self.clock = settings, clock
        self.stalls = Stalls()
        self.metrics = Metrics(registry("control"))
        self._parts = parts = self._measured(self.stalls.timed_parts(parts))
        agreement = Agreement(parts.digests, BUILD)
        self.view = View(parts.journal, clock, agreement=agreement)
        records = Records(self.view, parts.journal)
        self.reading = Reading(records)
        self.fleet = Fleet(clock, lambda: self.view.state.rollouts)
        self.leader = Leader(parts.leases, settings)
        self.held = Held(self.leader, lambda: self.automation.settled)
        heard = HeldVersions(self.state, records.state_at, self.fleet.consumers, self.held.told)
        self._heard, self.world = heard, World(parts.blobs.get, clock, heard)
        self.foresight = Foresight(parts.samples, parts.blobs.get, clock)
        self._publisher = publisher = self._door()
        self.relaying = Relaying(self.leader, lambda: self.view.state.head.revision)
        for collector in (self.leader, self.relaying, self.held):
            self.metrics.registry.register(collector)
        self.sentry = Sentry(parts.journal, self.fleet.heads, lambda: self.view.state.head)
        self.automation = Automation(
            view=self.view,
            publisher=publisher,
            journal=parts.journal,
            fleet=self.fleet,
            clock=clock,
            rights=SYSTEM,
            metrics=self.metrics,
            leader=self.leader,
        )
        self.leader.on_lead = self.automation.lead
        self.telemetry, self.rollouts = self.automation.telemetry, self.automation.rollouts
        self.desk = Desk(
            view=self.view,
            publisher=publisher,
            blobs=parts.blobs,
            records=records,
            metrics=self.metrics,
            advise=self.foresight.advise,
        )
        waiting = self._waiting(publisher)
        self.proposals = ProposalDesk(self.desk, waiting, parts.proposals, self.metrics)
        self.environments = EnvironmentDesk(
            self.desk, self.proposals, Glass(parts.journal), self.state, clock
        )
        self.fleet.on_samples = lambda *told: self.foresight.take(self.state(), *told)
        self.outlook = Outlook(self.desk, self.foresight, parts.blobs, clock)
        self.shelf = Shelf(self.view, parts.blobs, parts.keys.sign, make_delta)
        self.answers = Answers(self.shelf.newest, self.state, parts.blobs, clock)
        self.fanout = Fanout()
        self._tokens: tuple[object, dict[str, Token]] = (None, {})
        self.door = TokenDoor(self.tokens, clock, settings.open_reads)
        self._distribution = Distribution(Upstream(self.shelf), self.door, self.fanout)
        self._writer = _Lane("holdfast-writer", 1, WRITES_MAX)
        self._readers = _Lane("holdfast-reader", READERS, READS_MAX)
        self.ready = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gauges()
        agreement.subscribe(self._departed)
        self.follow_roots()

    @property
    def roots(self) -> RootSet:
        """Who signs here."""
        return self._parts.keys.root

    @property
    def pushes(self) -> PushDoor:
        return PushDoor(self._publisher, self.view)

    def _measured(self, parts: Parts) -> Parts:
        """The parts, their journal measured, and who looks after the store beneath."""
        journal = MeasuredJournal(parts.journal, self.metrics.registry, self.clock)
        self.collecting = Collecting(journal=journal, blobs=parts.blobs, proposals=parts.proposals)
        self._store = StoreMetrics(parts.status, journal, self.collecting)
        self.metrics.registry.register(self._store)
        return replace(parts, journal=journal)

    def _door(self) -> Publisher:
        publisher = Publisher(
            view=self.view,
            journal=self._parts.journal,
            blobs=self._parts.blobs,
            clock=self.clock,
            validate=self._examined,
            traffic_share=self.foresight.traffic_share,
        )
        publisher.on_fenced = self.leader.fenced
        return publisher

    def _examined(self, old: State, edits: Sequence[Edit], new: State) -> list[Problem]:
        return [*examine(old, edits, new, world=self.world), *self.held.doubts(old, new)]

    def _waiting(self, publisher: Publisher) -> Waiting:
        return Waiting(
            publisher=publisher,
            view=self.view,
            journal=self._parts.journal,
            proposals=self._parts.proposals,
            clock=self.clock,
            new_id=lambda: secrets.token_hex(16),
        )

    def state(self) -> State:
        """What stands now; a value that never changes under the reader."""
        return self.view.state

    def tokens(self) -> Mapping[str, Token]:
        """The tokens that stand now, by id."""
        kept = self.view.state.tokens
        if self._tokens[0] is not kept:
            self._tokens = (kept, {name: each.token for name, each in kept.items()})
        return self._tokens[1]

    def subjects_of(self, service: str) -> tuple[schemas.SubjectBody, ...]:
        """The service's subjects with the revisions of their newest snapshots."""
        standing = self.view.standing
        return tuple(
            schemas.SubjectBody(each.environment, each.service, standing.lineages[each].revision)
            for environment in sorted(standing.state.environments)
            if (each := Subject(environment, service)) in standing.live
        )

    def running_versions(self, caller: Grant) -> RunningBody:
        """The revisions that consumers run of what the caller may write."""
        state = self.view.state
        mine = [name for name in state.services if caller.allows_somewhere("write", name)]
        return RunningBody(
            whole=self.held.whole,
            services={
                service: tuple(RunningVersion(*one) for one in running.items())
                for service, running in self._heard.running(mine).items()
            },
        )

    async def write(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` on the writer thread, after what waits there already.

        Raises `Unavailable` when the store stands still.
        """
        return await self.stalls.bound(lambda: self._writer.run(lambda: work(*args, **kwargs)))

    async def read(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` on a reader thread."""
        return await self._readers.run(lambda: work(*args, **kwargs))

    def handle(self, request: Request) -> Response | Stream | None:
        """The data plane's routes; refused until the shelf is warm, so that nothing blocks."""
        if self.ready or not is_data_plane(request.path):
            return self._distribution.handle(request)
        return http.error_response(Unavailable("the shelf is not warm yet"))

    def unready(self) -> Response:
        """Why this node may get no traffic, as a probe is told it."""
        if departures := self.view.agreement.departures:
            return http.fault(503, NOT_REPRODUCIBLE, str(NotReproducible(departures)))
        return http.error_response(Unavailable("not loaded yet, or stopping"))

    def export_flagd(self, service: str, environment: str) -> bytes:
        """A service in one environment as a flagd file. Raises `NotFound`."""
        from holdfast.core.flagd import export_flagd  # see `_warm`

        return export_flagd(self.state(), service, environment, self._parts.blobs.get)

    def document(self, service: str, found: ServiceState) -> str:
        """A service as the YAML document that, committed again, changes nothing."""
        from holdfast.core.authoring import render  # see `_warm`

        return render(service, found)

    def first_token(self, name: str, verb: Verb = "admin") -> str:
        """Issue a token with `verb` everywhere, past the door: for the first start, and tests."""
        token_id = secrets.token_hex(8)
        every = (Scope(verbs=(verb,)),)
        text, token = issue(token_id, secrets.token_bytes(SECRET_BYTES), name, every)
        self.desk.commit_edits(SYSTEM, (PutToken(token_id, token),), f"token {name}")
        return text

    def follow_roots(self) -> None:
        """Commit the root documents that the keys' folder has and the journal has not."""
        missing = self._parts.keys.missing_from(self.state().roots)
        if not missing or self.view.agreement.departures:
            return
        try:
            self.desk.commit_edits(SYSTEM, missing, f"root version {missing[-1].version}")
        except Invalid:
            if self._parts.keys.missing_from(self.state().roots) == missing:
                raise
            self.follow_roots()  # another node has put some of them meanwhile

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the journal and warm the shelf; on the way out drain and close everything."""
        self._loop = asyncio.get_running_loop()
        self.view.follow()
        leader = self.leader
        kept = (
            self._warm(),
            while_leading(leader, SCHEDULE_S, "schedules can't be kept", self._run_due),
            while_leading(leader, CONTEXTS_S, "contexts can't be kept", self._refresh),
            while_leading(leader, COLLECT_S, "unused lists can't be collected", self._collect),
            self._watch_journal(),
            self._watch_store(),
        )
        tasks = [asyncio.create_task(each) for each in kept]
        try:
            yield
        finally:
            self.ready = False
            self.fanout.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self.close)

    def drain(self) -> None:
        """Take no new traffic and end the streams; from any thread, a signal's handler too."""
        self.ready = False
        self.leader.resign()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.fanout.close)

    def close(self) -> None:
        """End the threads once their work is done, keep a checkpoint, close the stores."""
        self.automation.close()
        self.leader.close()
        self.relaying.close()
        self._writer.close()
        self._readers.close()
        self.view.save_checkpoint()
        self._parts.close()  # first, since it wakes the thread that watches the journal
        self.view.close()

    async def _warm(self) -> None:
        try:
            # Before any change: what is other commits nothing. It waits for as long as it takes.
            await self._writer.run(self.shelf.warm)
        except NotReproducible:
            return  # `_departed` has told it, and nothing will come by waiting
        self.ready = True
        self.leader.start()
        self.relaying.start()
        self.automation.start()
        head = self.state().head.revision
        _log.info("ready", revision=head, subjects=len(self.view.standing.live))
        # YAML, CEL and JSON Schema are large: a start goes without them, and once it is over, the
        # writer has them before somebody's first change.
        await asyncio.sleep(AUTHORING_AFTER_S)
        await self.write(import_module, "holdfast.core.flagd")

    async def _run_due(self, fence: int) -> None:
        """Commit waiting changes whose time has come."""
        await self.write(self.proposals.run_due, fence)

    def keep_contexts(self, fence: int = 0) -> None:
        """Let traffic better the contexts that probes are made of, where it can."""
        change = self.foresight.refreshed(self.state())
        if change is not None:
            mandate = replace(AUTOMATION, fence=fence)
            self._publisher.commit(change, SYSTEM.actor, SYSTEM, mandate)

    async def _refresh(self, fence: int) -> None:
        await self.read(self.keep_contexts, fence)

    def _departed(self, departures: Sequence[Departure]) -> None:
        self.ready = False
        self.leader.resign()
        for departure in departures[:TOLD_MAX]:
            _log.error("this build makes other bytes than were published", **asdict(departure))
        _log.error("nothing is signed, served or committed", snapshots=len(departures), build=BUILD)

    async def _watch_journal(self) -> None:
        """See that nobody rewrites the store beneath us, for as long as this runs."""
        while True:
            await asyncio.sleep(AUDIT_S)
            try:
                await self.read(self.look_at_journal)
            except HoldfastError as failed:
                _log.error("the journal can't be audited", code=failed.code, error=str(failed))
            except Exception:  # noqa: BLE001  whatever it is: else nobody looked any more, unseen
                _log.exception("the journal can't be audited")

    async def _collect(self, _: int) -> None:
        await self.read(self.collecting.look, self.leader.fence)

    async def _watch_store(self) -> None:
        """Know how the store is, for as long as this runs."""
        while True:
            try:
                await self.read(self._store.look)
            except HoldfastError:
                pass  # the metrics tell
            except Exception:  # noqa: BLE001  as above
                _log.exception("the store can't be looked at")
            await asyncio.sleep(LOOK_S)

    def look_at_journal(self) -> None:
        """Compare the journal with what was seen of it; what is new is told in the log."""
        for one in self.sentry.look():
            _log.error("the journal was rewritten", code=one.code, what=one.message)

    def _gauges(self) -> None:
        metrics = self.metrics
        metrics.gauge(
            "holdfast_departed_snapshots",
            "Snapshots of which this build makes other bytes than were published: not 0, no node.",
            lambda: len(self.view.agreement.departures),
        )
        metrics.gauge(
            "holdfast_journal_rewritten",
            "Entries that were seen and are gone, or other ones now: not 0, somebody tampered.",
            lambda: len(self.sentry.findings),
        )
        metrics.gauge(
            "holdfast_head_revision", "The newest revision.", lambda: self.state().head.revision
        )
        metrics.gauge(
            "holdfast_subjects", "Subjects handed out.", lambda: len(self.view.standing.live)
        )
        metrics.gauge("holdfast_streams", "Open streams.", lambda: len(self.fanout))
        metrics.gauge(
            "holdfast_journal_fault",
            "1 while the journal can't be followed.",
            lambda: self.view.fault is not None,
        )
        metrics.gauge("holdfast_writes_waiting", "Writes that wait.", lambda: self._writer.held)
        metrics.gauge(
            "holdfast_writes_given_up",
            "Writes answered with 503 because the store stood still.",
            lambda: self.stalls.given_up,
        )
        metrics.gauge("holdfast_ready", "1 once ready.", lambda: self.ready)


class _Lane:
    """Threads with a bounded queue. `held` counts what runs or waits."""

    def __init__(self, name: str, threads: int, held_max: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._held_max = held_max
        self.held = 0
        self.refused = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Called on the event loop. Raises `Unavailable` when too much waits already."""
        if self.held >= self._held_max:
            self.refused += 1
            raise Unavailable("too many requests wait for their turn")
        self.held += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self.held -= 1

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
