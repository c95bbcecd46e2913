"""An edge put together: its parts, its threads, its life from the disk to the drain.

follower's thread   fetches, verifies, keeps, activates: one assignment into the table
shelf's thread      deltas and compression for those who follow this edge
labels' thread      once a second, which subjects are stale, and what is asked for in bulk
event loop          answers, from the table; it waits for none of the others
"""

from __future__ import annotations

import hashlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from holdfast.adapters.disk_cache import DiskCache
from holdfast.adapters.ed25519 import verify
from holdfast.apps import ofrep
from holdfast.apps.address import Address
from holdfast.apps.asgi import Face
from holdfast.apps.distribute import Distribution
from holdfast.apps.edge.attested import AttestedClock
from holdfast.apps.edge.cell import CellGate
from holdfast.apps.edge.cors import ANY, Cors
from holdfast.apps.edge.doing import Doing
from holdfast.apps.edge.door import EdgeDoor, tokens_of
from holdfast.apps.edge.gate import EdgeGate
from holdfast.apps.edge.health_metrics import health_metrics, together
from holdfast.apps.edge.hints import Hints
from holdfast.apps.edge.metrics import Counted, EdgeMetrics
from holdfast.apps.edge.place_metrics import place_metrics
from holdfast.apps.edge.push import Pushes
from holdfast.apps.edge.quarantine import Quarantine
from holdfast.apps.edge.rehearsal import Rehearsal
from holdfast.apps.edge.relay import Relay, upward
from holdfast.apps.edge.rounds import Rounds
from holdfast.apps.edge.routes import Parts, Routes
from holdfast.apps.edge.shard import Shard
from holdfast.apps.edge.shelf import EdgeShelf
from holdfast.apps.edge.siblings import Siblings
from holdfast.apps.edge.spool import Spool
from holdfast.apps.edge.table import Active, Table
from holdfast.apps.edge.tickets import Tickets
from holdfast.apps.edge.upstream import EdgeSource, Place
from holdfast.apps.observe import logger
from holdfast.apps.serve import Gate, Server
from holdfast.apps.settings import EdgeSettings, problems_of
from holdfast.apps.shards import read_plan
from holdfast.core.access import ACCESS
from holdfast.core.conversation import Report
from holdfast.core.errors import Invalid, Untrusted
from holdfast.core.generations import CRASH_STREAK, FAILING
from holdfast.core.limits import CONTEXT_BYTES_MAX
from holdfast.core.model import Subject
from holdfast.core.roots import RootSet
from holdfast.core.snapshot import decode_freshness
from holdfast.core.trust import EVERY_CHECK, NO_CHECKS, Generation
from holdfast.core.wire import decode_envelope
from holdfast.ports import Cache, Clock, Source
from holdfast.sdk.follower import Follower, Following, boot_clock
from holdfast.sdk.intake import pause
from holdfast.sdk.setup import trusted
from holdfast.sdk.trials import Host

LABELS_S: Final = 1.0
BODY_BYTES_MAX: Final = CONTEXT_BYTES_MAX
"""A request's body: one context."""

_log = logger("holdfast.edge")


class Edge:
    """One edge. `start` answers from the disk as soon as it returns; `listener.run` serves.

    Raises `Invalid` for settings that can't be meant, `Unavailable` for an address or a directory
    that can't be used. `once_ready` is called once, from a thread of the edge. `sockets` listen
    already, and `cache` is the directory's, where somebody else has a word in who writes it.
    `siblings` are the other workers of the same edge, `doing` is where one notes what it evaluates.
    """

    def __init__(  # noqa: PLR0913 - what it is told, and what it is given by whoever runs it
        self,
        settings: EdgeSettings,
        clock: Clock = time.time,
        once_ready: Callable[[], None] = lambda: None,
        *,
        sockets: Sequence[socket.socket] = (),
        cache: Cache | None = None,
        siblings: Siblings | None = None,
        doing: Doing | None = None,
    ) -> None:
        problems = problems_of(settings)
        if problems:
            raise Invalid(problems)
        self.settings = settings
        self.cache = cache or DiskCache(settings.cache_dir)
        self._siblings = siblings
        self._clock = clock
        self._once_ready = once_ready
        self._upstream = self._silence = ""
        self._ready = False
        self._known: frozenset[Subject] | None = None
        self._refused: set[Subject] = set()
        self._taken: set[Subject] = set()
        self._fault = ""
        self._restored = False
        self._stop = threading.Event()
        self._labels = threading.Thread(target=self._label_all, name="holdfast-labels", daemon=True)
        self._doing = doing
        self.table = Table() if doing is None else Table(doing.sampler)
        self.attested = AttestedClock(clock, boot_clock)
        self.door = EdgeDoor(self.attested, open_reads=settings.open_reads)
        self.hints = Hints(
            settings.cache_dir,
            settings.connections_max,
            on=settings.streams,
            cuts=not settings.unprotected,
        )
        self.shard = _shard(settings)
        self._place = Place(_name_of(settings))
        self.follower = Follower(self._following())
        self.quarantine = Quarantine(self.table, self._put_away)
        self.shelf = EdgeShelf(self.follower.freshness, self.follower.edition)
        above = upward(settings.token, self.table)
        self.relay = Relay(self.door, self.table, self.follower.status, above)
        follower, spool = self.follower, _spool(settings) if siblings is not None else None
        self.pushes = Pushes(self.door, follower.generation, follower.offer, spool)
        parts = self._parts()
        self.routes = Routes(parts)
        self._rehearsal = None if settings.unprotected else Rehearsal(parts)
        self._rounds = (
            None if settings.unprotected else Rounds(parts, self.table, settings.probation_s)
        )
        self.face = Face(self.routes.handle, BODY_BYTES_MAX)
        if doing is not None:
            self.face.doing = doing.now
        self.gate = self._gate(parts.cors)
        self.entrance = self._at_the_door()
        self.listener = self._server(sockets)
        self._metrics = EdgeMetrics(self._counted())

    def start(self) -> None:
        """Restore what the disk has, and follow."""
        self.shelf.start()
        self.follower.start()
        self._restored = True
        self.relay.start()
        self._labels.start()
        if self._siblings is not None:
            self._siblings.start(self.own_ready, self._metrics.render)
        _log.info(
            "edge started",
            host=self.settings.host,
            port=self.listener.port,
            upstreams=list(self.settings.upstreams),
            subjects=len(self.table),
            open_reads=self.settings.open_reads,
        )

    def close(self) -> None:
        """End the threads; what is on disk is complete at any time."""
        self._stop.set()
        if self._siblings is not None:
            self._siblings.close()
        self.relay.close()
        self.follower.close()
        self.shelf.close()
        _log.info("edge stopped")

    def ready(self) -> tuple[bool, Mapping[str, Any]]:
        """As `own_ready`; where there are more workers, none of them may answer wrongly."""
        own = self.own_ready()
        return self._siblings.ready(*own) if self._siblings is not None else own

    def own_ready(self) -> tuple[bool, Mapping[str, Any]]:
        """Ready once every subject known is answered, or was refused, and callers can be told
        apart; and then for good, unless its own answers turn out to be wrong (`rehearsal`).

        Afterwards only answers count, and there are answers: staleness is a label. An edge that
        could believe nothing of all that there is has none.
        """
        known = self._known
        missing = [] if known is None else sorted(map(str, known - self._taken - self._refused))
        if not self._ready:
            open_to_somebody = self.settings.open_reads or self.door.knows_tokens
            empty = known is not None and all(one.service == ACCESS for one in known)
            self._ready = not missing and open_to_somebody and bool(len(self.table) or empty)
        ready = self._ready and not self._fault
        facts = {
            "ready": ready,
            "subjects": len(self.table),
            "missing": missing[:20],
            "refused": sorted(map(str, self._refused))[:20],
            "stale": sum(active.stale_age_s is not None for active in self.table),
            "pushed": [active.name for active in self.table if active.pushed][:20],
            **({"silence": self._silence} if self._silence else {}),
            **({"cell": self.settings.cell} if self.settings.cell else {}),
            **({"shard": self.shard.name} if self.shard.plan else {}),
        }
        return ready, {**facts, "fault": self._fault} if self._fault else facts

    def expects(self, subject: Subject) -> bool:
        """Whether there is something of it, refused or put away, and nothing that may answer."""
        known = subject in self._refused or subject in self.quarantine
        return known and self.table.get(subject) is None

    def _put_away(self, subject: Subject, digest: str) -> None:
        self.follower.put_away(subject, digest, CRASH_STREAK, "processes died while they used it")

    def metrics(self) -> tuple[bytes, str]:
        """The exposition and its content type."""
        body, content_type = self._metrics.render()
        if self._siblings is not None:
            body = self._siblings.metrics(body.decode()).encode()
        return body, content_type

    def _at_the_door(self) -> Gate | None:
        """What is asked before anything is: whether it is of this cell, then admission."""
        cell, rate = self.settings.cell, self.settings.requests_per_s_max
        return CellGate(cell, rate, self.gate) if cell or rate else self.gate

    def _gate(self, cors: Cors) -> EdgeGate | None:
        settings = self.settings
        if settings.unprotected or not settings.admission:
            return None
        return EdgeGate(self.table, self.door, cors, settings.wait_budget_s)

    def _server(self, sockets: Sequence[socket.socket]) -> Server:
        settings = self.settings
        return Server(
            self.face,
            Address(settings.host, settings.port, settings.connections_max, settings.shutdown_s),
            sockets,
            on_stop=self.hints.close,
            gate=self.entrance,
            deadlines=not settings.unprotected,
        )

    def _counted(self) -> Counted:
        more = (self.entrance, self._place, self.pushes, self.table)
        return Counted(
            face=self.face,
            routes=self.routes,
            bounds=self.listener.bounds,
            door=self.door,
            attested=self.attested,
            hints=self.hints,
            shelf=self.shelf,
            follower=self.follower,
            relay=self.relay,
            table=self.table,
            gate=self.gate,
            ready=self.own_ready,
            place=together(
                place_metrics(self.settings.cell, *more),
                health_metrics(self.table, self.quarantine, self._rounds),
            ),
        )

    def _following(self) -> Following:
        settings = self.settings
        return Following(
            sources=self._sources,
            cache=self.cache,
            verify=verify,
            catalogue=True,
            root=_root(settings),
            on_activate=self._activated,
            on_fresh=lambda _, sealed: self.attested.hear(sealed),
            on_report=self._reported,
            poll_interval_s=settings.poll_interval_s,
            host=Host(probation_s=settings.probation_s),
            checks=NO_CHECKS if settings.unprotected else EVERY_CHECK,
            gentle=not settings.unprotected,
        )

    def _sources(self) -> Sequence[Source]:
        settings, mine = self.settings, (self._saw, self._place, self.shard, self.settings.cell)
        return [EdgeSource(url, settings.token, *mine) for url in settings.upstreams]

    def _distribution(self) -> Distribution:
        shared, via = self.settings.shared_cache, lambda: self._place.via
        return Distribution(
            self.shelf,
            self.door,
            self.hints.changes,
            shared=shared,
            via=via,
            edition=self.shelf.edition,
        )

    def _parts(self) -> Parts:
        settings = self.settings
        secret = settings.stream_secret.encode() or secrets.token_bytes(32)
        origins = settings.origins or ((ANY,) if settings.open_reads else ())
        return Parts(
            table=self.table,
            door=self.door,
            distribution=self._distribution(),
            refetches=self.hints.refetches,
            relay=self.relay,
            pushes=self.pushes,
            tickets=Tickets(secret, self._clock),
            cors=Cors(origins),
            health=self,
            clock=self._clock,
            shard=self.shard,
            public_url=settings.public_url.rstrip("/"),
        )

    def _activated(self, subject: Subject, generation: Generation) -> None:
        """Called by the follower: from here on the generation answers."""
        if subject.service == ACCESS:
            self._learn(subject.environment, generation)
        else:
            now_s = self._clock()
            active = Active(generation.snapshot, generation.digest, generation.evaluator, now_s)
            self._label(active)
            before = self.table.get(subject)
            active.bulk.equip(before.bulk if before else None, pause)
            if self._rehearsal is not None and (fault := self._rehearsal.fault(active)):
                self._fall_silent(fault)
            if self._doing is not None:
                self._doing.name(subject, active.digest)
            if self.quarantine.admits(active):
                self.table.put(active)
            if self._rounds is not None:
                self._rounds.began(active, before)
            self.hints.refetches.announce(subject, subject, ofrep.refetch(active))
        self.shelf.put(generation)
        self._taken.add(subject)
        self._refused.discard(subject)
        _log.info(
            "activated",
            subject=str(subject),
            revision=generation.revision,
            digest=generation.digest,
            stale=self.follower.is_stale(subject),
        )

    def _fall_silent(self, fault: str) -> None:
        """Answer nothing from now on: other edges do, and this build is not to be believed."""
        self._fault = fault
        self.table.close()
        _log.critical("this build answers wrongly: it answers nothing", why=fault)

    def _learn(self, environment: str, generation: Generation) -> None:
        try:
            self.door.learn(environment, tokens_of(generation.evaluator))
        except Untrusted as error:
            # Signed, and yet no tokens: the ones known before stay good until this is mended.
            _log.error("no tokens learnt", environment=environment, why=str(error))

    def _reported(self, report: Report) -> None:
        self._refused.add(report.subject)
        self.relay.refuse(report)
        if not self._restored and report.code == "probe" and self._rehearsal is not None:
            # Another build proved it here before. Older generations carry fewer probes: that those
            # come out says less than that these do not.
            self._fall_silent(f"{report.subject} was proven and is not: {report.message}")
        _log.error(
            "refused: the last good generation stays",
            subject=str(report.subject),
            upstream=self.settings.upstreams[report.upstream],
            code=report.code,
            why=report.message,
        )

    def _saw(self, name: str, subjects: Iterable[Subject]) -> None:
        """Called by the follower after each look at a catalogue."""
        self._known = frozenset(subjects)
        if name != self._upstream:
            _log.info("following", upstream=name, subjects=len(self._known), before=self._upstream)
            self._upstream = name

    def _tell_silence(self) -> None:
        """That no upstream answers is said once, with the reason, and once that it is over."""
        before, self._silence = self._silence, self.follower.silence
        if self._silence and not before:
            _log.warning("no upstream answers: what is held goes on", why=self._silence)
        elif before and not self._silence:
            _log.warning("an upstream answers again", before=before)

    def _label_all(self) -> None:
        settled, lagging = False, set[Subject]()
        while not self._stop.wait(LABELS_S):
            if not settled and self.own_ready()[0]:
                settled = True
                self._once_ready()
            self._tell_silence()
            for active in self.table:
                self._label(active)
                active.bulk.build(pause)
            self.quarantine.look()
            self._go_round()
            self.hints.look(self.table)
            self.pushes.look()
            behind = self._behind() if self._rehearsal is not None else set()
            if behind & lagging:
                self._fall_silent(f"another {min(behind & lagging)} is handed on than is answered")
            lagging = behind

    def _go_round(self) -> None:
        """Ask a few probes, and see what fails for callers."""
        if self._rounds is None:
            return
        if fault := self._rounds.look():
            self._fall_silent(fault)
        for active, key in self._rounds.failing(self._clock()):
            why = f"{key!r} fails in contexts in which it had an answer before"
            _log.critical("a fresh generation fails: back", subject=active.name, why=why)
            self.follower.put_away(active.subject, active.digest, FAILING, why)

    def _behind(self) -> set[Subject]:
        """Subjects of which something else is handed on than answered, and nothing is to come.

        For a moment that is so. One entry may touch thousands of subjects, whose deltas take long.
        """
        settled = [active for active in self.table if not self.shelf.is_busy(active.subject)]
        shelved = ((active, self.shelf.newest(active.subject)) for active in settled)
        return {
            active.subject for active, found in shelved if found and found.digest != active.digest
        }

    def _label(self, active: Active) -> None:
        if not self.follower.is_stale(active.subject):
            active.stale_age_s = None
            return
        sealed = self.follower.freshness(active.subject)
        since_s = _said_at_s(sealed) if sealed else active.activated_s
        active.stale_age_s = max(0, int(self._clock() - since_s))


def _spool(settings: EdgeSettings) -> Spool:
    return Spool(settings.cache_dir / "holdfast-1" / "pushes")


def _shard(settings: EdgeSettings) -> Shard:
    plan = read_plan(settings.shards, settings.shard) if settings.shards else None
    return Shard(plan, settings.shard)


def _name_of(settings: EdgeSettings) -> str:
    """What tells this edge from others, and is the same after a restart."""
    where = f"{socket.gethostname()}:{settings.cache_dir.resolve()}"
    return hashlib.sha256(where.encode()).hexdigest()[:16]


def _said_at_s(sealed: bytes) -> float:
    """When a freshness statement was made, in unix seconds; the follower has verified it."""
    return decode_freshness(decode_envelope(sealed).body()).at_ms / 1000


def _root(settings: EdgeSettings) -> RootSet | None:
    """The roots of a root document, of its envelope, or of a chain of envelopes."""
    return trusted(settings.root.read_text()) if settings.root else None
