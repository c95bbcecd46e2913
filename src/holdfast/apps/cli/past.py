"""The commands of the past: `history`, `diff`, `revert`, `restore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.apps.cli.names import KEY, SERVICE_NAME
from holdfast.apps.cli.options import BREAK_GLASS, REASON, YES, connected, output_option
from holdfast.apps.cli.output import (
    moment,
    print_data,
    print_facts,
    print_problems,
    print_table,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.apps.cli.api import Api
    from holdfast.core.difference import Difference

HISTORY_LINES = 20


@click.command()
@click.argument("revision", type=click.IntRange(1), required=False)
@click.option("--service", "-s", help="Only changes of this service.")
@click.option("--key", "-k", help="Only changes of this setting; needs --service.")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(1, 500),
    default=HISTORY_LINES,
    show_default=True,
    help="Entries at most.",
)
@output_option()
@connected
def history(
    api: Api, revision: int | None, service: str | None, key: str | None, limit: int, output: str
) -> None:
    """Show who changed what and why, newest first; or one REVISION with what it changed.

    \b
    Examples:
      holdfast history
      holdfast history 12
      holdfast history --service demo-shop --key cartFailure --output json
    """
    from holdfast.apps.control.schemas import History, RecordedDetail
    from holdfast.core.model import Approve, BreakGlass

    if key and not service:
        raise click.UsageError("--key needs --service: keys are the service's own.")
    if revision is not None:
        detail = api.call(RecordedDetail, "GET", f"/v1/history/{revision}")
        if not print_data(detail, output):
            facts = {
                "revision": detail.revision,
                "at": f"{moment(detail.at_ms)} UTC",
                "by": detail.actor,
                "reason": detail.reason or "-",
                "hash": detail.hash,
            }
            for edit in detail.edits:
                if isinstance(edit, Approve):
                    before = f"{facts['approved']}, " if "approved" in facts else ""
                    facts["approved"] = before + edit.actor
                elif isinstance(edit, BreakGlass):
                    facts["BREAK-GLASS"] = f"{edit.environment}: {edit.reason}"
            print_facts(facts)
            _show(detail.differences)
        return
    found = api.call(History, "GET", "/v1/history", service=service, key=key, limit=limit)
    if not print_data(found, output):
        print_table(
            ["revision", "at (UTC)", "by", "edits", "reason"],
            (
                (
                    entry.revision,
                    moment(entry.at_ms),
                    entry.actor,
                    entry.edit_count,
                    entry.reason + f" [BREAK-GLASS: {entry.break_glass}]" * bool(entry.break_glass),
                )
                for entry in found.entries
            ),
        )


@click.command()
@click.argument("from_revision", type=click.IntRange(0))
@click.argument("to_revision", type=click.IntRange(0), required=False)
@click.option("--service", "-s", help="Only this service.")
@output_option()
@connected
def diff(
    api: Api, from_revision: int, to_revision: int | None, service: str | None, output: str
) -> None:
    """Show what differs between two revisions; the newest when TO_REVISION is left out.

    \b
    Examples:
      holdfast diff 11 12
      holdfast diff 0 --service demo-shop
    """
    from holdfast.apps.control.schemas import Differences

    query = {"from": from_revision, "to": to_revision, "service": service}
    found = api.call(Differences, "GET", "/v1/diff", **query)
    if not print_data(found, output):
        _show(found.differences)


@click.command()
@click.argument("revision", type=click.IntRange(1))
@REASON
@click.option("--propose", is_flag=True, help="Do not commit: let it wait for others to approve.")
@BREAK_GLASS
@YES
@output_option()
@connected
def revert(
    api: Api,
    revision: int,
    reason: str,
    propose: bool,
    break_glass: str,
    yes: bool,
    output: str,
) -> None:
    """Undo one REVISION by one more change; what came after it stays.

    What was changed again since is not undone over the newer work: you are told instead.

    \b
    Example:
      holdfast revert 12 --reason "tiles were too small"
    """
    body = {
        "revision": revision,
        "reason": reason or f"revert of revision {revision}",
        "break_glass": break_glass,
    }
    if propose:
        from holdfast.apps.cli.proposals import tell_proposed
        from holdfast.apps.control.proposal_schemas import Proposed

        if break_glass:
            raise click.UsageError("--break-glass commits now: leave out --propose.")
        tell_proposed(api.call(Proposed, "POST", "/v1/changes/revert", body), output)
        return
    _commit(api, "/v1/revert", body, f"Undo revision {revision}?", yes, output)


@click.command()
@click.argument("service", type=SERVICE_NAME)
@click.argument("key", required=False, type=KEY)
@click.option("--segment", help="Bring back this segment and not a setting.")
@click.option("--revision", type=int, help="As it stood then; else as it last stood.")
@REASON
@BREAK_GLASS
@YES
@output_option()
@connected
def restore(
    api: Api,
    service: str,
    key: str | None,
    segment: str | None,
    revision: int | None,
    reason: str,
    break_glass: str,
    yes: bool,
    output: str,
) -> None:
    """Bring back a deleted setting, segment, or whole SERVICE.

    \b
    Examples:
      holdfast restore demo-shop cartFailure
      holdfast restore demo-shop --revision 12
    """
    if key and segment:
        raise click.UsageError("Give KEY or --segment, not both.")
    what = f"{service}/{key or segment}" if key or segment else service
    body = {
        "service": service,
        "key": key,
        "segment": segment,
        "revision": revision,
        "reason": reason or f"restore of {what}",
        "break_glass": break_glass,
    }
    _commit(api, "/v1/restore", body, f"Bring back {what}?", yes, output)


def _commit(
    api: Api, route: str, body: dict[str, Any], question: str, yes: bool, output: str
) -> None:
    from holdfast.apps.cli.committing import ask_unless, commit, show_commit

    ask_unless(yes, question, output)
    committed = commit(api, route, body)
    print_problems(committed.problems)
    if output == "text":
        _show(committed.differences)
    show_commit(committed, output)


def _show(differences: Sequence[Difference]) -> None:
    from holdfast.apps.cli.differences import difference_lines, summary

    if not differences:
        say("No differences.")
        return
    for line in difference_lines(differences):
        click.echo(line)
    click.echo(f"\n{summary(differences)}.")
