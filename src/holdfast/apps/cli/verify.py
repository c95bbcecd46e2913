"""`holdfast verify`: does this build make the bytes, and give the answers, that were published?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.apps.cli.options import PASSWORD_FILE, output_option
from holdfast.apps.cli.output import print_data, print_facts, say
from holdfast.apps.defaults import DATA_DIR

if TYPE_CHECKING:
    from holdfast.apps.cli.verification import Verification

LAST = 10_000


@click.command()
@click.argument("path", default=str(DATA_DIR), envvar=["HOLDFAST_STORE", "HOLDFAST_DATA"])
@PASSWORD_FILE
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=LAST,
    show_default=True,
    help="Revisions whose snapshots are built again; older ones are taken as published.",
)
@click.option(
    "--evaluations",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Recorded evaluations to repeat, as --record wrote them.",
)
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Write the answers to all probes there, for the next build to repeat.",
)
@output_option()
def verify(
    path: str,
    store_password_file: Path | None,
    last: int,
    evaluations: Path | None,
    record: Path | None,
    output: str,
) -> None:
    """Check this build of Holdfast against a journal before it is deployed.

    PATH is a data directory, a journal.db, a copy of either, or a store's URL; it is only read, and
    control planes may run on it meanwhile. Every snapshot is built again and its digest compared
    with the one that was published; the probes of the newest ones are evaluated again.

    Exit code 1 when one differs: this build must not be deployed on that journal.

    \b
    Examples:
      holdfast verify /var/lib/holdfast
      holdfast verify backup/journal.db --last 500 --output json
      holdfast verify etcd://a:2379,b:2379,c:2379
      holdfast verify /var/lib/holdfast --record answers.jsonl     (with the build that runs)
      holdfast verify /var/lib/holdfast --evaluations answers.jsonl     (with the next one)
    """
    from holdfast.apps.cli.verification import read_records, write_records
    from holdfast.apps.cli.verification import verify as verified

    records = read_records(evaluations) if evaluations else []
    found, answers = verified(path, last, records, Progress(output), store_password_file)
    if record is not None:
        write_records(record, answers)
    if not print_data(found, output):
        _show(found)
    if not found.ok:
        raise click.exceptions.Exit(1)


class Progress:
    """A line that counts, on a terminal only."""

    def __init__(self, output: str) -> None:
        self._shown = output == "text" and sys.stderr.isatty()
        self._percent = -1

    def __call__(self, done: int, everything: int) -> None:
        percent = 100 * done // max(1, everything)
        if self._shown and percent != self._percent:
            self._percent = percent
            click.echo(f"\r{percent:3} %  revision {done}", err=True, nl=percent == 100)


def _show(found: Verification) -> None:
    print_facts(
        {
            "build": found.build,
            "journal": f"{found.journal}, revision {found.revision}",
            "snapshots": f"{found.compared} compared, {found.unrecorded} with no digest on record",
            "probes": found.probes,
            "evaluations": found.evaluations,
        }
    )
    for departure in found.departures:
        say(f"differs: {departure}", fg="red")
    if found.departed > len(found.departures):
        say(f"and {found.departed - len(found.departures)} snapshots more", fg="red")
    for probes in found.failed_probes:
        where = f"{probes.environment}/{probes.service} at revision {probes.revision}"
        say(f"probes fail: {where}: {', '.join(probes.settings)}", fg="red")
    for one in found.moved:
        where = f"{one.environment}/{one.service} at revision {one.revision}: {one.key}"
        say(f"answers otherwise: {where}: {one.how}", fg="red")
    for subject in found.skipped:
        say(f"not evaluated, for want of its segments' tables (blobs.db): {subject}", fg="yellow")
    if found.ok:
        say("This build makes what was published.", fg="green", bold=True)
    else:
        say("This build must not run on that journal: deploy another one.", fg="red", bold=True)
