"""`holdfast assess`: a baseline of security and safety rules over a whole installation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from holdfast.apps.cli.options import connected, output_option
from holdfast.apps.cli.output import print_data, print_table, say

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api
    from holdfast.core.assess import Assessment, Severity


@click.command()
@click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The control plane's data directory, when it is on this machine.",
)
@click.option(
    "--backup",
    type=click.Path(path_type=Path),
    help="Where backups of the journal lie: a file, or a directory of them.",
)
@click.option(
    "--production",
    multiple=True,
    metavar="ENVIRONMENT",
    help="Counts as production, on top of those whose names say so; give it again for more.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Write a page for people there.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["info", "low", "medium", "high", "critical", "never"]),
    default="high",
    show_default=True,
    help="Exit code 1 for a finding of this severity or above.",
)
@output_option()
@connected
def assess(
    api: Api,
    data_dir: Path | None,
    backup: Path | None,
    production: tuple[str, ...],
    html: Path | None,
    fail_on: str,
    output: str,
) -> None:
    """Look over the whole installation for what should not be.

    It takes a token with admin over everything, else some rules stay unknown. Every finding says
    where, and the way out; docs/reference/assess.md lists the rules.

    \b
    Examples:
      holdfast assess
      holdfast assess --data /var/lib/holdfast --backup /var/backups/holdfast --html report.html
      holdfast assess --fail-on medium --output json
    """
    from holdfast.apps.cli.assess_page import page
    from holdfast.apps.cli.assessing import gather
    from holdfast.core.assess import assess as assessed
    from holdfast.core.assess_rules import RULES

    made = assessed(gather(api, time.time(), production, data_dir, backup), RULES)
    if html is not None:
        html.write_text(page(made), encoding="utf-8")
    if not print_data(made, output):
        _show(made)
    if fail_on != "never" and made.fails(cast("Severity", fail_on)):
        raise click.exceptions.Exit(1)


_COLOURS = {"critical": "red", "high": "red", "medium": "yellow"}


def _show(made: Assessment) -> None:
    rows = [
        (one.severity, one.id, each.where, each.what)
        for one in made.results
        if one.status == "failed"
        for each in one.found
    ]
    if rows:
        print_table(["severity", "rule", "where", "what"], rows)
    for one in made.results:
        if one.status == "failed":
            say(f"{one.id}: {one.way_out}", fg=_COLOURS.get(one.severity))
    counts = [f"{count} {severity}" for severity, count in made.failed.items()]
    say(
        f"Of {len(made.results)} rules {made.passed} hold, {made.unknown} could not be looked at, "
        f"broken: {', '.join(counts) or 'none'}",
        bold=True,
    )
