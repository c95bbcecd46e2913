"""The commands of waiting changes: `change list`, `show`, `approve`, `reject`, `schedule`, …"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click

from holdfast.apps.cli import names
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
    from holdfast.apps.cli.api import Api
    from holdfast.apps.control.proposal_schemas import Proposed, ProposedDetail

ID = click.argument("change_id", metavar="ID", type=names.ID)
_UNITS_S: Final = {"m": 60, "h": 3_600, "d": 86_400}
_FROM_NOW: Final = re.compile(r"\+(\d{1,6})([mhd])")


@click.group()
def change() -> None:
    """Look after changes that wait: approve, reject, schedule and commit them."""


@change.command("list")
@output_option()
@connected
def list_changes(api: Api, output: str) -> None:
    """Show all waiting changes, oldest first.

    \b
    Examples:
      holdfast change list
      holdfast change list --output json | jq '.[] | select(.status == "failed")'
    """
    from holdfast.apps.control.proposal_schemas import Proposals

    found = api.call(Proposals, "GET", "/v1/changes").changes
    if not print_data(found, output):
        print_table(
            ["id", "at (UTC)", "by", "status", "approvals", "edits", "reason"],
            (
                (
                    one.id,
                    moment(one.at_ms),
                    one.author,
                    _status(one),
                    len(one.approvals),
                    one.edit_count,
                    one.reason,
                )
                for one in found
            ),
        )


@change.command("show")
@ID
@output_option()
@connected
def show_change(api: Api, change_id: str, output: str) -> None:
    """Show one waiting change: what it would do now, and what it still lacks.

    \b
    Example:
      holdfast change show 4be1a0c7d2f3
    """
    detail = _detail(api, change_id)
    if not print_data(detail, output):
        _show(detail)


@change.command("approve")
@ID
@click.option("--digest", help="That of the change as you looked at it; else as it is shown now.")
@YES
@output_option()
@connected
def approve_change(api: Api, change_id: str, digest: str | None, yes: bool, output: str) -> None:
    """Vouch for a change. It takes the rights to commit it, and somebody else than its author.

    The approval is void once the change is edited, or somebody touches what it touches.

    \b
    Examples:
      holdfast change approve 4be1a0c7d2f3
      holdfast change approve 4be1a0c7d2f3 --digest 9f86d0… --yes
    """
    from holdfast.apps.cli.committing import ask_unless

    if digest is None:
        detail = _detail(api, change_id)
        digest = detail.change.digest
        if output == "text":
            _show(detail)
        ask_unless(yes, "Approve this?", output)
    approved = _post(api, change_id, "approve", {"digest": digest})
    _told(approved, output, "Approved")
    if output == "text":
        say(f"When it has all that it takes: holdfast change commit {change_id}")


@change.command("reject")
@ID
@REASON
@output_option()
@connected
def reject_change(api: Api, change_id: str, reason: str, output: str) -> None:
    """Say no to a change: it can't be committed unless its author edits it.

    \b
    Example:
      holdfast change reject 4be1a0c7d2f3 --reason "49 tiles are too many for a phone"
    """
    _told(_post(api, change_id, "reject", {"reason": reason}), output, "Rejected")


@change.command("schedule")
@ID
@click.argument("time", required=False)
@click.option("--never", is_flag=True, help="Take the schedule back.")
@output_option()
@connected
def schedule_change(api: Api, change_id: str, time: str | None, never: bool, output: str) -> None:
    """Let a change be committed at a TIME, in your name: 2026-11-30T08:00Z, or +2h from now.

    It is checked again then. What is refused, or is more than an hour late, stays and says why.

    \b
    Examples:
      holdfast change schedule 4be1a0c7d2f3 2026-11-30T08:00Z
      holdfast change schedule 4be1a0c7d2f3 --never
    """
    if never == bool(time):
        raise click.UsageError("Give a TIME or --never.")
    at_s = seconds_at(time) if time else None
    _told(schedule(api, change_id, at_s), output, "Unscheduled" if never else "Scheduled")


@change.command("commit")
@ID
@click.option("--digest", help="That of the change as you looked at it.")
@BREAK_GLASS
@output_option()
@connected
def commit_change(
    api: Api, change_id: str, digest: str | None, break_glass: str, output: str
) -> None:
    """Commit a waiting change onto the newest revision, with the approvals that it has.

    \b
    Example:
      holdfast change commit 4be1a0c7d2f3
    """
    from holdfast.apps.cli.committing import show_commit
    from holdfast.apps.control.schemas import Committed

    body = {"digest": digest, "break_glass": break_glass}
    committed = api.call(Committed, "POST", f"/v1/changes/{change_id}/commit", body)
    print_problems(committed.problems)
    show_commit(committed, output)


@change.command("drop")
@ID
@connected
def drop_change(api: Api, change_id: str) -> None:
    """Forget a waiting change.

    \b
    Example:
      holdfast change drop 4be1a0c7d2f3
    """
    api.raw("DELETE", f"/v1/changes/{change_id}")
    say(f"Change {change_id} waits no longer.")


def tell_proposed(proposed: Proposed, output: str) -> None:
    """What became of a proposal, and what comes next."""
    if print_data(proposed, output):
        return
    click.echo(proposed.id)
    when = f", for {_moment_s(proposed.scheduled_s)} UTC" if proposed.scheduled_s else ""
    say(f"Change {proposed.id} waits{when}. Digest {proposed.digest}.", fg="green")
    say(f"Where it takes approvals, others give them: holdfast change approve {proposed.id}")


def schedule(api: Api, change_id: str, at_s: int | None) -> Proposed:
    from holdfast.apps.control.proposal_schemas import Proposed

    return api.call(Proposed, "PUT", f"/v1/changes/{change_id}/schedule", {"at_s": at_s})


def seconds_at(text: str) -> int:
    """Unix seconds of a time: ISO 8601, in UTC where it says no zone, or `+2h` from now."""
    from datetime import UTC, datetime

    ahead = _FROM_NOW.fullmatch(text)
    if ahead:
        return int(datetime.now(UTC).timestamp()) + int(ahead[1]) * _UNITS_S[ahead[2]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(
            f"{text!r} is no time: write 2026-11-30T08:00Z, or +2h for two hours from now"
        ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _detail(api: Api, change_id: str) -> ProposedDetail:
    from holdfast.apps.control.proposal_schemas import ProposedDetail

    return api.call(ProposedDetail, "GET", f"/v1/changes/{change_id}")


def _post(api: Api, change_id: str, what: str, body: object) -> Proposed:
    from holdfast.apps.control.proposal_schemas import Proposed

    return api.call(Proposed, "POST", f"/v1/changes/{change_id}/{what}", body)


def _told(proposed: Proposed, output: str, done: str) -> None:
    if not print_data(proposed, output):
        say(f"{done}: change {proposed.id} is {_status(proposed)}.", fg="green")


def _show(detail: ProposedDetail) -> None:
    from holdfast.apps.cli.differences import difference_lines, summary

    one, check = detail.change, detail.check
    facts = {
        "change": one.id,
        "by": f"{one.author}, {moment(one.at_ms)} UTC",
        "reason": one.reason or "-",
        "status": _status(one),
        "digest": one.digest,
        "approvals": f"{detail.approvals_counted} of {check.approvals_needed} that it takes"
        + "".join(f"\n           {each.actor}, {moment(each.at_ms)} UTC" for each in one.approvals),
    }
    if one.rejection is not None:
        facts["rejected"] = f"by {one.rejection.actor}: {one.rejection.reason or '-'}"
    if one.failure is not None:
        facts["failed"] = f"{moment(one.failure.at_ms)} UTC: {one.failure.message}"
    print_facts(facts)
    for line in difference_lines(check.differences):
        click.echo(line)
    click.echo(f"\n{summary(check.differences)}, on revision {check.base_revision}.")
    print_problems(check.problems)


def _status(one: Proposed) -> str:
    if one.scheduled_s is not None:
        return f"scheduled for {_moment_s(one.scheduled_s)} UTC"
    return one.status


def _moment_s(at_s: int | None) -> str:
    return moment((at_s or 0) * 1000)
