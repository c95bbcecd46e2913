"""`holdfast status`: how the control plane and the edges are, and how old what they have is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from holdfast.apps.cli.options import connected, output_option
from holdfast.apps.cli.output import age, moment, print_data, print_table, say

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api
    from holdfast.apps.cli.survey import Survey


@click.command()
@click.option(
    "--edge",
    "edges",
    multiple=True,
    metavar="URL",
    envvar="HOLDFAST_EDGES",
    help="Edge to ask; give it again for more. Else HOLDFAST_EDGES, else that of `holdfast dev`.",
)
@output_option()
@connected
def status(api: Api, edges: tuple[str, ...], output: str) -> None:
    """Show the control plane, each node of it, the edges, and how fresh each service is there.

    Exit code 1 when one of them does not answer, is not ready, or is behind.

    \b
    Examples:
      holdfast status
      holdfast status --edge http://edge-1:8016 --edge http://edge-2:8016
      holdfast status --server http://a:8010,http://b:8010,http://c:8010
      holdfast status --output json | jq '.edges[] | select(.ready | not)'
    """
    from holdfast.apps.cli.survey import survey

    urls = edges or ((api.connection.edge,) if api.connection.edge else ())
    found = survey(api, urls, time.time)
    if not print_data(found, output):
        _show(found)
    if not found.well:
        raise click.exceptions.Exit(1)


def _show(found: Survey) -> None:
    print_table(
        ["process", "at", "state", "head", "subjects", "behind"],
        [
            (one.process, one.url, one.state, one.revision, one.subjects, one.behind)
            for one in (*found.nodes, *found.edges)
        ],
    )
    if found.subjects:
        click.echo()
        edges = [f"at {edge.url}" for edge in found.edges]
        print_table(
            ["environment", "service", "revision", *edges],
            [
                (one.environment, one.service, one.revision, *_at(one.edges))
                for one in found.subjects
            ],
        )
    for one in found.broken:
        say(
            f"BREAK-GLASS in {one.environment} by {one.actor}, revision {one.revision}, "
            f"{moment(one.at_ms)} UTC: {one.reason}",
            fg="red",
            bold=one.open,
        )
    for message in found.rewritten:
        say(f"the journal was rewritten: {message}", fg="red")
    if not found.well:
        say("Not all is well.", fg="yellow", bold=True)


def _at(edges: Iterable[Sequence[float | None]]) -> Iterable[str]:
    for revision, age_s in edges:
        if revision is None:
            yield "-"
        else:
            yield f"{revision:.0f}" + (f", {age(age_s)} old" if age_s is not None else "")
