"""`holdfast fleet`: who runs what, how old it is, and who refused what and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from holdfast.apps.cli.options import connected, output_option
from holdfast.apps.cli.output import age, moment, print_data, print_table, say

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api
    from holdfast.apps.control.fleet_schemas import ConsumerLine, FleetBody

LINES = 100


@click.command()
@click.option("--environment", "-e", default="", help="Only consumers of this environment.")
@click.option("--service", "-s", default="", help="Only consumers of this service.")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(1, 500),
    default=LINES,
    show_default=True,
    help="Consumers at most.",
)
@output_option()
@connected
def fleet(api: Api, environment: str, service: str, limit: int, output: str) -> None:
    """Show the consumers that report: what each runs, how old it is, and what it refused.

    Exit code 1 when one of them refused a candidate.

    \b
    Examples:
      holdfast fleet
      holdfast fleet -e production -s demo-shop
      holdfast fleet --output json | jq '.consumers[] | select(.behind)'
    """
    from holdfast.apps.control.fleet_schemas import FleetBody

    query = {"environment": environment, "service": service, "limit": limit}
    found = api.call(FleetBody, "GET", "/v1/fleet", **query)
    if not print_data(found, output):
        _show(found)
    if found.summary.refusing:
        raise click.exceptions.Exit(1)


def _show(found: FleetBody) -> None:
    if not found.consumers:
        say("No consumer has reported yet.")
        return
    print_table(
        ["environment", "service", "consumer", "kind", "runs", "state", "trust", "report", "build"],
        (
            (
                line.report.environment,
                line.report.service,
                line.report.application or line.report.consumer[:8],
                line.report.kind,
                line.report.revision or "-",
                _state(line),
                line.report.trust,
                f"{age(line.age_s)} ago",
                line.report.build,
            )
            for line in found.consumers
        ),
    )
    refusals = list(_refusals(found))
    if refusals:
        click.echo()
        print_table(["at (UTC)", "consumer", "refused", "code", "setting", "why"], refusals)
    summary = found.summary
    say(
        f"{summary.consumers} consumer{'s' * (summary.consumers != 1)}: {summary.behind} behind, "
        f"{summary.stale} stale, {summary.silent} silent, {summary.refusing} refused something."
    )
    if found.cursor:
        say("There are more: give --limit, --environment or --service.")


def _state(line: ConsumerLine) -> str:
    if line.silent:
        return "silent"
    return "behind" if line.behind else "stale" if line.report.stale else "current"


def _refusals(found: FleetBody) -> Iterator[tuple[object, ...]]:
    """Newest refusal of each consumer."""
    for line in found.consumers:
        for one in line.report.refusals[-1:]:
            name = line.report.application or line.report.consumer[:8]
            yield moment(one.at_ms), name, one.revision or "-", one.code, one.key, one.message
