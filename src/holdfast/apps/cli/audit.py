"""`holdfast audit`: whether anybody rewrote the journal, its administrator included."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.apps.cli.options import PASSWORD_FILE, output_option, servers_option, the_api
from holdfast.apps.cli.output import print_data, print_facts, say
from holdfast.apps.cli.verify import LAST, Progress
from holdfast.apps.defaults import DATA_DIR

if TYPE_CHECKING:
    from holdfast.apps.cli.auditing import Audited, Evidence


@click.group()
def audit() -> None:
    """Find out whether the journal was rewritten."""


@audit.command("verify")
@click.argument("path", default=str(DATA_DIR), envvar=["HOLDFAST_STORE", "HOLDFAST_DATA"])
@PASSWORD_FILE
@click.option(
    "--cache",
    "caches",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="A consumer's cache directory, an edge's or a client's; give it again for more.",
)
@click.option(
    "--root",
    "roots",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="A root document that was handed out (holdfast keys show --to).",
)
@servers_option("Control plane to ask which journal heads consumers have reported.")
@click.option("--token", metavar="TOKEN", envvar="HOLDFAST_TOKEN", help="For --server.")
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=LAST,
    show_default=True,
    help="Revisions whose snapshots are built again.",
)
@output_option()
def verify_audit(
    path: str,
    store_password_file: Path | None,
    caches: tuple[Path, ...],
    roots: tuple[Path, ...],
    servers: tuple[str, ...],
    token: str | None,
    last: int,
    output: str,
) -> None:
    """Check a journal against itself and against what consumers have seen of it.

    PATH is a data directory, a journal.db, a copy of either, or a store's URL; it is only read.
    Alone, it shows damage and careless edits. With the evidence of consumers it shows careful ones
    too, where every hash was computed again: what was signed and handed out can't be taken back.

    Exit code 1 when anything was edited, deleted, cut off or replaced.

    \b
    Examples:
      holdfast audit verify /var/lib/holdfast
      holdfast audit verify /var/lib/holdfast --server http://control:8010
      holdfast audit verify postgresql://holdfast@db/holdfast --cache edge-1/cache
      holdfast audit verify backup/journal.db --cache edge-1/cache --root root.json --output json
    """
    from holdfast.apps.cli.auditing import Evidence, audited

    evidence = Evidence()
    for cache in caches:
        evidence.add_cache(cache)
    for root in roots:
        evidence.add_root(root)
    if servers:
        _ask(evidence, servers, token)
    found = audited(path, evidence, last, Progress(output), store_password_file)
    if not print_data(found, output):
        _show(found)
    if not found.ok:
        raise click.exceptions.Exit(1)


def _ask(evidence: Evidence, servers: tuple[str, ...], token: str | None) -> None:
    with the_api(servers, token) as api:
        evidence.add_fleet(api)


def _show(found: Audited) -> None:
    print_facts(
        {
            "journal": f"{found.journal}, revision {found.revision}",
            "head": found.hash or "none",
            "entries": found.entries,
            "built again": f"{found.snapshots_built} snapshots",
            "evidence": f"{found.heads} heads seen, {found.snapshots} signed snapshots held",
        }
    )
    for one in found.findings:
        say(f"{one.code}: {one.message}", fg="red" if one.severity == "error" else "yellow")
    if not found.ok:
        say("The journal is not what was written.", fg="red", bold=True)
    elif found.heads:
        say("Nothing was rewritten.", fg="green", bold=True)
    else:
        say("It holds together. Without a witness from outside (--cache, --server), that is all.")
