"""What a client tells of itself: which settings it has, what it refused, how requests went.

Nothing in it is of a user but what `samples` gives, which is the caller's to allow.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import holdfast
from holdfast.core.conversation import Report
from holdfast.core.generations import refusal as refusal_of
from holdfast.core.model import Subject
from holdfast.core.trust import Generation
from holdfast.sdk.follower import Follower, draw
from holdfast.sdk.forks import import_reports
from holdfast.sdk.outcomes import Ledger
from holdfast.sdk.reporter import INTERVAL_S, Reporter

if TYPE_CHECKING:
    from holdfast.core.reports import ConsumerReport, Refusal, Sample
    from holdfast.core.snapshot import Pacing

Samples = Callable[[], "Sequence[Sample]"]
"""Contexts that were really seen since the last report, reduced to what may be told."""
Send = Callable[[str, "Sequence[ConsumerReport]"], None]
"""(base URL of the upstream in use, reports); raises `core.errors`."""

TEXT_CHARS_MAX: Final = 256
REFUSALS_MAX: Final = 16
HEADS_MAX: Final = 8
ROLLOUT_INTERVAL_S: Final = 5.0
"""Between two reports while a rollout is under way."""
CONTEXTS_MAX: Final = 32


def no_samples() -> Sequence[Sample]:
    """Nothing was sampled."""
    return ()


class Reporting:
    """The telemetry of one client. Thread-safe; nothing of it ever raises into the host.

    `samples` may be replaced until `start`.
    """

    def __init__(  # noqa: PLR0913  each is one thing to tell
        self,
        follower: Follower,
        subject: Subject,
        *,
        send: Send,
        application: str = "",
        ring: str = "",
        contract: str = "",
    ) -> None:
        self._follower = follower
        self._subject = subject
        self._send = send
        self._application = application[:TEXT_CHARS_MAX]
        self._ring = ring[:TEXT_CHARS_MAX]
        self._contract = contract
        self.samples: Samples = no_samples
        self.ledger = Ledger()
        self.reporter = Reporter(self._report, draw)
        self._begin()

    def _begin(self) -> None:
        """All that is of this process alone."""
        self.consumer = os.urandom(16).hex()  # `secrets` costs a start 3 ms
        self._sequence = 0
        self._lock = threading.Lock()
        self._refusals: deque[Refusal] = deque(maxlen=REFUSALS_MAX)
        self._heads: dict[int, str] = {}

    def start(self) -> None:
        self.reporter.start()

    def renew(self) -> None:
        """In a child after a fork: another consumer, which counts from zero."""
        self._begin()
        self.ledger.clear()
        self.reporter.renew()

    def close(self) -> None:
        self.reporter.close()

    def activated(self, generation: Generation) -> None:
        self.ledger.replace(generation.snapshot)
        # Never sooner because something failed: the errors of one side would come before its other
        # requests, and look like more than they are.
        self.reporter.every(ROLLOUT_INTERVAL_S if self.ledger.counting else INTERVAL_S)

    def refused(self, report: Report) -> None:
        """A candidate was refused (NACK): tell it soon."""
        refusal = refusal_of(
            report.revision, report.digest, report.code, report.message, _now_ms(), report.key
        )
        with self._lock:
            self._refusals.append(refusal)
        self.reporter.soon()

    def count(
        self, context: Mapping[str, Any], ok: bool = True, latency_ms: float | None = None
    ) -> None:
        """One request came to its end. Never raises."""
        try:
            self.ledger.count(context, ok, latency_ms)
        except Exception:  # noqa: BLE001  a context may be anything; the host's request goes on
            self.ledger.dropped["events"] += 1

    def compose(self) -> ConsumerReport:
        """The next report."""
        from holdfast.core.reports import ConsumerReport, Outcomes, Witness  # late: as above

        self._sequence += 1
        mine = self._follower.status().subjects.get(self._subject)
        if mine is not None and mine.freshness is not None:
            self._heads[mine.freshness.journal_revision] = mine.freshness.journal_head
            for revision in sorted(self._heads)[:-HEADS_MAX]:
                del self._heads[revision]
        with self._lock:  # those of a subject that has no generation yet
            refusals = tuple(self._refusals)
        return ConsumerReport(
            consumer=self.consumer,
            service=self._subject.service,
            environment=self._subject.environment,
            kind="sdk",
            build=f"holdfast/{holdfast.__version__}",
            sequence=self._sequence,
            at_ms=_now_ms(),
            application=self._application,
            ring=self._ring,
            revision=mine.revision if mine else 0,
            digest=mine.digest if mine else "",
            trust=mine.trust if mine else "none",
            since_ms=mine.since_ms if mine else 0,
            stale=mine.stale if mine else False,
            contract=self._contract,
            crashes=mine.crashes if mine else 0,
            refusals=mine.refusals if mine and mine.refusals else refusals,
            outcomes=tuple(
                Outcomes(rollout, stage, exposed, side.requests, side.errors, side.slow, side.units)
                for rollout, stage, exposed, side in self.ledger.rows()
            ),
            contexts=tuple(self.samples())[:CONTEXTS_MAX],
            heads=tuple(Witness(revision, head) for revision, head in self._heads.items()),
        )

    def _report(self) -> None:
        upstream, counts = self._follower.status().upstream, self._follower.counts
        counts["outcomes_dropped"] = sum(self.ledger.dropped.values())
        if not upstream:
            return
        try:
            self._send(upstream, (self.compose(),))
        except Exception:
            counts["reports_failed"] += 1
            raise
        counts["reports_sent"] += 1


def sender(token: str, contract: Callable[[], Pacing]) -> Send:
    """Sends over HTTP; one connection, to the upstream that was asked last. `contract` is what was
    signed of pacing by now.
    """
    made: dict[str, Any] = {}

    def send(base_url: str, reports: Sequence[ConsumerReport]) -> None:
        if base_url not in made:
            for each in made.values():
                each.close()
            made.clear()
            made[base_url] = import_reports().HttpReports(base_url, token, contract=contract)
        made[base_url].send(reports)

    return send


def _now_ms() -> int:
    return int(time.time() * 1000)
