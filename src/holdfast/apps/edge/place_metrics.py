"""What an edge counts of its place among others: its cell, its upstreams' loops, pushes it took."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from holdfast.apps.edge.cell import CellGate
from holdfast.apps.edge.push import Pushes
from holdfast.apps.edge.table import Table
from holdfast.apps.edge.upstream import Place
from holdfast.apps.serve import Gate


def place_metrics(
    cell: str, entrance: Gate | None, place: Place, pushes: Pushes, table: Table
) -> Callable[[], Iterator[Metric]]:
    """Collects when it is called."""

    def collect() -> Iterator[Metric]:
        if cell:
            yield InfoMetricFamily("holdfast_cell", "The cell of this edge.", {"cell": cell})
        if isinstance(entrance, CellGate):
            refused = CounterMetricFamily(
                "holdfast_cell_refusals", "Requests refused at a cell's door.", labels=["why"]
            )
            refused.add_metric(["another-cell"], entrance.misdirected)
            refused.add_metric(["cell-full"], entrance.over)
            yield refused
        yield CounterMetricFamily(
            "holdfast_upstream_loops", "Catalogues that came through here.", value=place.loops
        )
        pushed = CounterMetricFamily(
            "holdfast_pushes", "Bundles signed offline, by what became of them.", labels=["state"]
        )
        for state in ("taken", "refused", "turned-away"):
            pushed.add_metric([state], pushes.counts[state])
        yield pushed
        yield GaugeMetricFamily(
            "holdfast_pushed_settings",
            "Settings that serve what was pushed over them.",
            value=sum(len(active.pushed) for active in table),
        )

    return collect
