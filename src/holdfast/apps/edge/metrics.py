"""An edge's metrics: what its parts have counted, read when somebody scrapes.

Nothing on the way of an answer knows of Prometheus; labels are subjects, statuses and codes, all of
them from bounded sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast.apps.asgi import Face
from holdfast.apps.edge.admission_metrics import admission_metrics
from holdfast.apps.edge.attested import AttestedClock
from holdfast.apps.edge.door import EdgeDoor
from holdfast.apps.edge.gate import EdgeGate
from holdfast.apps.edge.hints import Hints
from holdfast.apps.edge.relay import Relay
from holdfast.apps.edge.routes import Routes
from holdfast.apps.edge.shelf import EdgeShelf
from holdfast.apps.edge.table import Table
from holdfast.apps.front import Bounds
from holdfast.apps.observe import exposition, registry
from holdfast.sdk.follower import Follower


class Counted(msgspec.Struct, frozen=True):
    """The parts of an edge that count."""

    face: Face
    routes: Routes
    bounds: Bounds
    door: EdgeDoor
    attested: AttestedClock
    hints: Hints
    shelf: EdgeShelf
    follower: Follower
    relay: Relay
    table: Table
    gate: EdgeGate | None
    ready: Callable[[], tuple[bool, Mapping[str, Any]]]
    place: Callable[[], Iterator[Metric]]


class EdgeMetrics(Collector):
    """Collects from the parts of one edge."""

    def __init__(self, counted: Counted) -> None:
        self._edge = counted
        self._registry: CollectorRegistry = registry("edge")
        self._registry.register(self)

    def render(self) -> tuple[bytes, str]:
        """The exposition and its content type."""
        return exposition(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing before the first scrape: the follower may not have started yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._answers()
        yield from self._bounds()
        yield from self._following()
        yield from self._subjects()
        yield from self._reports()
        yield from admission_metrics(self._edge.gate)
        yield from self._edge.place()

    def _answers(self) -> Iterator[Metric]:
        face, counts = self._edge.face, self._edge.routes.counts
        answered = CounterMetricFamily("holdfast_answers", "Answers by status.", labels=["status"])
        for status, count in sorted(face.answered.items()):
            answered.add_metric([str(status)], count)
        yield answered
        for name, what, value in (
            ("evaluations", "Single evaluations answered.", counts.evaluations),
            ("bulk_evaluations", "Bulk evaluations answered.", counts.bulks),
            ("ecs_reads", "ECS-shaped reads answered.", counts.ecs_reads),
            ("stale_answers", "Answers labelled stale.", counts.stale_answers),
            ("failures", "Answers that failed by our own fault.", face.failures),
            (
                "shelving_failures",
                "Generations not handed on by our own fault.",
                self._edge.shelf.failures,
            ),
        ):
            yield CounterMetricFamily(f"holdfast_{name}", what, value=value)

    def _bounds(self) -> Iterator[Metric]:
        """Every bound that was hit."""
        edge = self._edge
        bounds, tallies = edge.bounds, edge.hints.tallies
        hit = CounterMetricFamily("holdfast_limit_hits", "Bounds that were hit.", labels=["limit"])
        for limit, count in (
            ("body", edge.face.bodies_refused),
            *bounds.hits().items(),
            ("paths_remembered", edge.routes.counts.memo_clears),
            ("callers_remembered", edge.door.forgotten),
            ("reports_waiting", edge.relay.dropped),
            ("streams", sum(each.refused for each in tallies)),
            ("slow_readers", sum(each.cut for each in tallies)),
            ("streams_that_spoke", sum(each.spoke for each in tallies)),
        ):
            hit.add_metric([limit], count)
        yield hit
        yield CounterMetricFamily(
            "holdfast_callers_refused", "Callers turned away.", value=edge.door.refused
        )
        yield GaugeMetricFamily(
            "holdfast_connections", "Open connections.", value=len(bounds.connections)
        )
        streams = GaugeMetricFamily("holdfast_streams", "Open streams.", labels=["kind"])
        streams.add_metric(["changes"], len(edge.hints.changes))
        streams.add_metric(["refetch"], len(edge.hints.refetches))
        yield streams
        yield GaugeMetricFamily(
            "holdfast_streams_behind",
            "Readers who have something unread.",
            value=edge.hints.changes.behind() + edge.hints.refetches.behind(),
        )
        yield GaugeMetricFamily(
            "holdfast_streams_off", "Whether streams are switched off.", value=edge.hints.room.off
        )
        for name, what, value in (
            ("streams_opened", "Streams opened.", sum(each.opened for each in tallies)),
            ("stream_frames", "Events sent to readers.", sum(each.frames for each in tallies)),
            (
                "stream_events_merged",
                "Events that a newer one about the same subject overtook.",
                sum(each.merged for each in tallies),
            ),
            (
                "streams_ended",
                "Streams ended by this edge, in good order.",
                sum(each.ended for each in tallies),
            ),
            (
                "streams_refused_off",
                "Streams refused, because they are switched off.",
                sum(each.refused_off for each in tallies),
            ),
            ("deltas_made", "Deltas made.", edge.shelf.deltas_made),
        ):
            yield CounterMetricFamily(f"holdfast_{name}", what, value=value)

    def _following(self) -> Iterator[Metric]:
        status = self._edge.follower.status()
        followed = CounterMetricFamily(
            "holdfast_follower_events", "What following has come to.", labels=["event"]
        )
        for event, count in sorted(status.counts.items()):
            followed.add_metric([event], count)
        yield followed
        yield GaugeMetricFamily(
            "holdfast_upstream_streaming",
            "Whether the upstream sends hints now.",
            value=status.streaming,
        )
        yield GaugeMetricFamily(
            "holdfast_cache_fault",
            "1 while the disk does not take what is held: answers come from memory.",
            value=bool(status.cache_error),
        )
        yield GaugeMetricFamily(
            "holdfast_clock_skew_seconds",
            "How far this machine's clock is ahead of what the control plane signed.",
            value=self._edge.attested.skew_s(),
        )
        ready, _ = self._edge.ready()
        yield GaugeMetricFamily("holdfast_ready", "Whether this edge is ready.", value=ready)

    def _reports(self) -> Iterator[Metric]:
        relay = self._edge.relay
        for name, what, value in (
            ("reports_taken", "Reports of consumers taken to be handed up.", relay.taken),
            ("reports_refused", "Reports refused: their sender may not read it.", relay.refused),
            ("report_failures", "Batches that no upstream took.", relay.failed),
        ):
            yield CounterMetricFamily(f"holdfast_{name}", what, value=value)
        yield GaugeMetricFamily(
            "holdfast_reports_waiting", "Consumers whose report waits.", value=relay.waiting
        )

    def _subjects(self) -> Iterator[Metric]:
        labels = ["environment", "service"]
        revision = GaugeMetricFamily("holdfast_revision", "Active revision.", labels=labels)
        stale = GaugeMetricFamily("holdfast_stale", "Whether answers are stale.", labels=labels)
        for active in self._edge.table:
            where = [active.subject.environment, active.subject.service]
            revision.add_metric(where, active.revision)
            stale.add_metric(where, active.stale_age_s is not None)
        yield revision
        yield stale
        yield GaugeMetricFamily(
            "holdfast_bulk_differing",
            "Generations whose settings are evaluated one by one: all at once they differ.",
            value=sum(active.bulk.differs for active in self._edge.table),
        )
