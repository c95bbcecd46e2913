"""What an edge counts of its own answers: probes asked, what failed, who is put away."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from holdfast.apps.edge.quarantine import Quarantine
from holdfast.apps.edge.rounds import Rounds
from holdfast.apps.edge.table import Table

Collect = Callable[[], Iterator[Metric]]


def health_metrics(table: Table, quarantine: Quarantine, rounds: Rounds | None) -> Collect:
    """Collects when it is called."""

    def collect() -> Iterator[Metric]:
        yield CounterMetricFamily(
            "holdfast_probes_asked",
            "Probes asked of itself while it serves.",
            value=rounds.asked if rounds else 0,
        )
        failed = GaugeMetricFamily(
            "holdfast_failed_evaluations",
            "Evaluations that the active generation could not make.",
            labels=["environment", "service"],
        )
        exhausted = GaugeMetricFamily(
            "holdfast_exhausted_requests",
            "Requests whose context was too much work for the active generation.",
            labels=["environment", "service"],
        )
        for active in table:
            where = [active.subject.environment, active.subject.service]
            failed.add_metric(where, active.evaluator.failed)
            exhausted.add_metric(where, active.evaluator.exhausted)
        yield failed
        yield exhausted
        yield GaugeMetricFamily(
            "holdfast_quarantined",
            "Services that are not answered here now: workers died on what they have.",
            value=len(quarantine),
        )

    return collect


def together(*each: Collect) -> Collect:
    """All of them, one after the other."""

    def collect() -> Iterator[Metric]:
        for one in each:
            yield from one()

    return collect
