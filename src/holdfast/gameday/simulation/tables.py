"""A result as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

from holdfast.apps.cli.output import print_rich, print_table

if TYPE_CHECKING:
    from holdfast.gameday.simulation.checking import Checked
    from holdfast.gameday.simulation.results import Herd, Result

NEVER = "not within the run"


def show(result: Result) -> None:
    """All tables of a run, to standard output."""
    print_rich(headline(result))
    for title, columns, rows in tables(result):
        print_rich(f"\n{title}")
        print_table(columns, rows)


def headline(result: Result) -> str:
    each = "" if result.weight == 1 else f", each for {result.weight} clients"
    nodes = "node" if result.control_nodes == 1 else "nodes"
    return (
        f"{result.clients:,} clients ({result.machines:,} machines{each}), {result.edges:,} edges, "
        f"{result.relays:,} relays, {result.control_nodes} control-plane {nodes}; "
        f"{result.run_s:g} s after {result.settle_s:g} s of settling, seed {result.seed}"
    )


Row: TypeAlias = tuple[str, ...]
Table: TypeAlias = tuple[str, Row, list[Row]]


def tables(result: Result) -> Iterator[Table]:
    """(title, columns, rows), those that have rows."""
    for title, columns, rows in (
        _propagation(result),
        _layers(result),
        _herds(result),
        _rollouts(result),
        _cost(result),
        _weights(result),
    ):
        if rows:
            yield title, columns, rows


def _propagation(result: Result) -> Table:
    rows: list[Row] = [
        (
            f"{each.at_s:g} s",
            each.what,
            each.layer,
            each.region or "all",
            f"{each.reached:,} of {each.of:,}",
            seconds(each.p50_s),
            seconds(each.p99_s),
            seconds(each.last_s),
        )
        for each in result.propagation
    ]
    columns = ("COMMITTED AT", "WHAT", "LAYER", "REGION", "REACHED", "P50", "P99", "LAST")
    return "Propagation, from the commit on", columns, rows


def _layers(result: Result) -> Table:
    rows: list[Row] = [
        (
            each.layer,
            each.region or "-",
            f"{each.servers:,}",
            f"{each.requests_per_s:,.1f}",
            f"{each.requests_per_s_peak:,.0f}",
            f"{each.sent_bytes_per_s / 1000:,.1f}",
            f"{each.sent_bytes_per_s_peak / 1000:,.0f}",
            f"{each.streams_peak:,}",
            f"{each.busy:.2%}",
            f"{each.busy_peak:.1%}",
            f"{each.refused:,}",
        )
        for each in result.layers
    ]
    columns = (
        "LAYER", "REGION", "SERVERS", "REQUESTS/S", "PEAK", "KB/S", "PEAK", "STREAMS", "BUSY",
        "PEAK", "REFUSED",
    )  # fmt: skip
    return "Load, all servers of a layer together; busy: each one's CPU", columns, rows


def _herds(result: Result) -> Table:
    rows: list[Row] = [
        (
            each.what,
            f"{each.began_s:g} to {each.healed_s:g} s",
            f"{each.steady_per_s:,.0f}",
            f"{each.peak_times:.2f}",
            f"{each.interval_times:.2f}",
            f"{each.unserved_most:,}",
            _until(each, each.served_s),
            _until(each, each.back_s),
        )
        for each in result.herds
    ]
    columns = (
        "OUTAGE", "WHEN", "REQUESTS/S BEFORE", "PEAK, TIMES", "WORST INTERVAL, TIMES", "UNSERVED",
        "ALL SERVED AFTER", "ALL BACK AFTER",
    )  # fmt: skip
    return "Outages: all served since the begin, all back since the end", columns, rows


def _until(_herd: Herd, after_s: float | None) -> str:
    return NEVER if after_s is None else seconds(after_s)


def _rollouts(result: Result) -> Table:
    rows: list[Row] = [
        (
            course.service,
            f"{stage.at_s:g} s",
            f"{stage.percent:g} %",
            stage.status,
            stage.why,
            "" if stage.p99_s is None else seconds(stage.p99_s),
        )
        for course in result.rollouts
        for stage in course.stages
    ]
    columns = ("ROLLOUT", "AT", "EXPOSED", "STATUS", "WHY", "AT 99 % OF CLIENTS AFTER")
    return "Rollouts", columns, rows


def _cost(result: Result) -> Table:
    cost = result.cost
    rows: list[Row] = [
        ("requests of a client in an hour", f"{cost.requests_per_h:,.1f}"),
        ("kB that it receives in an hour", f"{cost.received_bytes_per_h / 1000:,.1f}"),
        ("kB that it sends in an hour", f"{cost.sent_bytes_per_h / 1000:,.1f}"),
        ("CPU ms of it in an hour", f"{cost.client_cpu_s_per_h * 1000:,.2f}"),
        ("CPU ms of all servers for it in an hour", f"{cost.server_cpu_s_per_h * 1000:,.2f}"),
        ("cells lost", f"{result.cells_lost:,} of {result.cells:,}"),
        ("clients in lost cells", f"{result.clients_in_lost_cells:,}"),
        ("refused by admission", f"{result.refusals:,}"),
        ("answers that were not believed", _counts(result.disbelieved)),
        ("clients that went back a revision", f"{result.went_back:,}"),
        ("commits refused", f"{result.commits_refused:,}"),
        ("every request accounted for", "yes" if result.counted else "NO"),
    ]
    return "Cost, and what was lost", ("FIGURE", "VALUE"), rows


def _counts(counts: Mapping[str, int]) -> str:
    """The sum, and what it is made of."""
    parts = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    return f"{sum(counts.values()):,}" + (f" ({parts})" if parts else "")


def _weights(result: Result) -> Table:
    rows: list[Row] = [
        (each.figure, figure(each.value), figure(each.coarser), f"{each.difference:.1%}")
        for each in result.weights
    ]
    weight = result.weight
    title = f"What the weight makes: each machine for {weight} clients, and for {2 * weight}"
    return title, ("FIGURE", f"FOR {weight}", f"FOR {2 * weight}", "DIFFERENCE"), rows


def figure(of: float) -> str:
    """With four digits that count, or all before the point."""
    return f"{of:,.0f}" if abs(of) >= 1_000 else f"{of:.4g}"


def seconds(of: float) -> str:
    """In the unit that people read."""
    return f"{of * 1000:.0f} ms" if abs(of) < 1 else f"{of:.2f} s"


def show_check(found: Checked) -> None:
    """The comparison with the real run."""
    rows: list[Row] = [
        (
            "holds" if each.holds else "MISSED",
            each.figure,
            figure(each.real),
            figure(each.simulated),
            f"{each.difference:+.1%}",
        )
        for each in found.figures
    ]
    print_table(("", "FIGURE", "REAL", "SIMULATED", "DIFFERENCE"), rows)
    edge, clients = found.stretch
    print_rich(f"for want of CPUs all took the edge {edge:g}, and the clients {clients:g} times")
    print_rich("PASS" if found.passed else "FAIL")
