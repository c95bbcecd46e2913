"""Metrics of what consumers tell and of rollouts, read when Prometheus asks.

Labels are statuses and bounds: of consumers and rollouts there may be any number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast.apps.control.advancing import Advancing, Queries
from holdfast.apps.control.telemetry import Telemetry
from holdfast.core.state import State
from holdfast.engine.advance import Advance
from holdfast.engine.fleet import Fleet


class RolloutMetrics(Collector):
    """Collects from the parts of one control plane."""

    def __init__(  # noqa: PLR0913  # every part by name
        self,
        *,
        fleet: Fleet,
        telemetry: Telemetry,
        advance: Advance,
        advancing: Advancing,
        queries: Queries,
        state: Callable[[], State],
    ) -> None:
        self._fleet = fleet
        self._telemetry = telemetry
        self._advance = advance
        self._advancing = advancing
        self._queries = queries
        self._state = state

    def describe(self) -> list[Metric]:
        """Nothing before the first scrape: the control plane is still being made."""
        return []

    def collect(self) -> Iterator[Metric]:
        for name, what, value in (
            ("reports_taken", "Reports of consumers taken.", self._fleet.taken),
            ("reports_refused", "Reports of what the token may not read.", self._telemetry.refused),
            ("verdicts_refused", "Verdicts on rollouts not committed.", self._advance.failures),
            ("rollout_faults", "Looks at rollouts that failed.", self._advancing.faults),
            ("queries_failed", "Queries of rollouts without an answer.", self._queries.failed),
        ):
            yield CounterMetricFamily(f"holdfast_{name}", what, value=value)
        hit = CounterMetricFamily(
            "holdfast_fleet_limit_hits", "Bounds of the fleet that were hit.", labels=["limit"]
        )
        hit.add_metric(["consumers"], self._fleet.forgotten)
        hit.add_metric(["alarms"], self._fleet.dropped)
        yield hit
        rollouts = GaugeMetricFamily(
            "holdfast_rollouts", "Rollouts under way, by status.", labels=["status"]
        )
        found = Counter(each.status for each in self._state().rollouts.values())
        for status in ("running", "held"):
            rollouts.add_metric([status], found[status])
        yield rollouts
        yield GaugeMetricFamily(
            "holdfast_consumers", "Consumers remembered.", value=self._fleet.remembered
        )
