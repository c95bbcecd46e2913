"""Reports at an edge: taken from those who follow it, handed up with its own.

Only the newest report of each consumer waits here, since its counters hold all that the older ones
said. So an upstream that is away for a day costs a bounded heap and loses nothing that matters.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeAlias

import msgspec

import holdfast
from holdfast.adapters.http_reports import HttpReports
from holdfast.apps import http
from holdfast.apps.edge.table import Active, Table
from holdfast.apps.http import NO_STORE, Request, Response
from holdfast.core.conversation import Report
from holdfast.core.errors import Forbidden, HoldfastError
from holdfast.core.generations import refusal as refusal_of
from holdfast.core.model import Subject
from holdfast.core.pacing import UNSIGNED
from holdfast.core.reports import (
    HEADS_MAX,
    REFUSALS_MAX,
    ConsumerReport,
    Refusal,
    ReportBody,
    Witness,
)
from holdfast.core.snapshot import Pacing
from holdfast.core.wire import UNREADABLE
from holdfast.ports import Reports
from holdfast.sdk.follower import FollowerStatus, draw
from holdfast.sdk.reporter import INTERVAL_S, Reporter

WAITING_MAX: Final = 20_000
"""Consumers whose reports wait; beyond that the longest waiting one goes."""
WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""And so many bytes of them, as JSON: a report may be large, and anybody may send one."""
GAP_S: Final = 0.5
"""Least time between two batches."""
OWN_PER_S: Final = 100
"""Reports of its own that an edge sends each second at most, on average."""

_Key: TypeAlias = tuple[str, str, str]
_decode = msgspec.json.Decoder(ReportBody).decode
_encode = msgspec.json.Encoder().encode


class Sees(Protocol):
    """What the relay asks of the door."""

    def sees(self, headers: Sequence[tuple[bytes, bytes]]) -> Callable[[Subject], bool]: ...


class Relay:
    """Thread-safe. `taken`, `refused` and `dropped` count reports, `failed` batches."""

    def __init__(
        self,
        door: Sees,
        table: Table,
        status: Callable[[], FollowerStatus],
        upward: Callable[[str], Reports],
    ) -> None:
        """`upward` connects to an upstream's base URL."""
        self._door = door
        self._table = table
        self._status = status
        self._upward = upward
        self._connected: tuple[str, Reports] | None = None
        self._lock = threading.Lock()
        self._waiting: dict[_Key, ConsumerReport] = {}
        self._waiting_bytes = 0
        self._consumer = secrets.token_hex(16)
        self._sequence = 0
        self._own_due_s = 0.0
        self._refusals: dict[Subject, deque[Refusal]] = {}
        self._heads: dict[int, str] = {}
        self._reporter = Reporter(self._flush, draw, INTERVAL_S, GAP_S)
        self.taken = self.refused = self.dropped = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def failed(self) -> int:
        return self._reporter.failed

    def start(self) -> None:
        self._reporter.start()

    def close(self) -> None:
        self._reporter.close()

    def take(self, request: Request) -> Response:
        """The answer to `POST /v1/reports`: 202 with how many were taken.

        A report is taken from who may read what it is of.
        """
        if request.method != "POST":
            return http.method_not_allowed(request.method, "POST")
        try:
            sees = self._door.sees(request.headers)
            reports = _decode(request.body).reports
            mine = [each for each in reports if sees(Subject(each.environment, each.service))]
            if reports and not mine:
                raise Forbidden("this token may not read what the reports are of")
        except UNREADABLE as error:
            return http.fault(400, "bad-body", f"not reports: {error}")
        except HoldfastError as error:
            return http.error_response(error)
        self.refused += len(reports) - len(mine)
        self.taken += len(mine)
        self._wait(mine)
        self._reporter.soon()
        return http.json_response({"taken": len(mine)}, 202, [NO_STORE])

    def refuse(self, report: Report) -> None:
        """This edge refused a candidate (NACK): tell it soon."""
        refusal = refusal_of(
            report.revision, report.digest, report.code, report.message, _now_ms(), report.key
        )
        with self._lock:
            known = self._refusals.setdefault(report.subject, deque(maxlen=REFUSALS_MAX))
            known.append(refusal)
            self._own_due_s = 0.0
        self._reporter.soon()

    def _wait(self, reports: Iterable[ConsumerReport], *, again: bool = False) -> None:
        """Keep reports to be handed up; `again` after a failure: newer ones stay."""
        with self._lock:
            for each in reports:
                key = (each.consumer, each.environment, each.service)
                known = self._waiting.get(key)
                if known is not None and (again or known.sequence > each.sequence):
                    continue
                self._waiting_bytes += len(_encode(each)) - (len(_encode(known)) if known else 0)
                self._waiting[key] = each
                self._drop()

    def _drop(self) -> None:
        while len(self._waiting) > WAITING_MAX or self._waiting_bytes > WAITING_BYTES_MAX:
            oldest = self._waiting.pop(next(iter(self._waiting)))
            self._waiting_bytes -= len(_encode(oldest))
            self.dropped += 1

    def _flush(self) -> None:
        """Hand up all that waits; what could not be handed up waits on."""
        status = self._status()
        with self._lock:
            waiting, self._waiting, self._waiting_bytes = self._waiting, {}, 0
        if time.monotonic() >= self._own_due_s:
            self._own_due_s = time.monotonic() + max(INTERVAL_S, len(self._table) / OWN_PER_S)
            own = list(self._own(status))
        else:
            own = []
        try:
            self._upstream(status.upstream).send([*waiting.values(), *own])
        except HoldfastError:
            self._wait(waiting.values(), again=True)
            raise

    def _upstream(self, base_url: str) -> Reports:
        if self._connected is None or self._connected[0] != base_url:
            if self._connected is not None:
                self._connected[1].close()
            self._connected = (base_url, self._upward(base_url))
        return self._connected[1]

    def _own(self, status: FollowerStatus) -> Iterator[ConsumerReport]:
        """What this edge is itself, subject by subject."""
        self._sequence += 1
        for active in list(self._table):
            yield self._of(active, status)
        for subject in list(self._refusals):
            if self._table.get(subject) is None:
                yield self._bare(subject)

    def _of(self, active: Active, status: FollowerStatus) -> ConsumerReport:
        mine = status.subjects.get(active.subject)
        if mine is not None and mine.freshness is not None:
            self._heads[mine.freshness.journal_revision] = mine.freshness.journal_head
            for revision in sorted(self._heads)[:-HEADS_MAX]:
                del self._heads[revision]
        return msgspec.structs.replace(
            self._bare(active.subject),
            revision=active.revision,
            digest=active.digest,
            since_ms=int(active.activated_s * 1000),
            stale=active.stale_age_s is not None,
            trust=mine.trust if mine else "none",
            crashes=mine.crashes if mine else 0,
            contexts=active.sampler.take(),
            heads=tuple(Witness(revision, head) for revision, head in self._heads.items()),
        )

    def _bare(self, subject: Subject) -> ConsumerReport:
        with self._lock:
            refusals = tuple(self._refusals.get(subject, ()))
        return ConsumerReport(
            consumer=self._consumer,
            service=subject.service,
            environment=subject.environment,
            kind="edge",
            build=f"holdfast/{holdfast.__version__}",
            sequence=self._sequence,
            at_ms=_now_ms(),
            refusals=refusals,
        )


def upward(token: str, table: Table) -> Callable[[str], Reports]:
    """Connects over HTTP. Whoever asks to be left alone is, for as long as any subject's pacing
    allows it.
    """

    def contract() -> Pacing:
        signed = (active.snapshot.holdfast.pacing for active in table)
        return min(signed, key=lambda each: each.retry_after_max_s, default=UNSIGNED)

    return lambda base_url: HttpReports(base_url, token, contract=contract)


def _now_ms() -> int:
    return int(time.time() * 1000)
