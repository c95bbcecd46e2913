"""The commands of authors: `check` (offline), `plan`, `apply`, `schema`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.apps.cli.committing import ask_unless, commit, show_commit
from holdfast.apps.cli.options import BREAK_GLASS, REASON, YES, connected, output_option
from holdfast.apps.cli.output import print_data, print_problems, say

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api
    from holdfast.apps.control.schemas import Checked, Text

PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
PRUNE = click.option(
    "--prune",
    is_flag=True,
    help="Also delete services that none of these files speaks of.",
)


@click.command()
@PATHS
@output_option()
def check(paths: tuple[Path, ...], output: str) -> None:
    """Check settings files, offline, and tell all problems at once.

    PATHS are files (YAML or JSON) or directories of them. What hangs on services that are not among
    them is a warning here, and checked by plan.

    \b
    Examples:
      holdfast check examples/contoso
      holdfast check calling.yaml --output json | jq '.problems[].code'
    """
    import msgspec

    from holdfast.apps.cli.lint import today
    from holdfast.apps.cli.texts import find_texts, offline_problems, too_large_together

    found = find_texts(paths)
    texts = found.texts
    together = (
        msgspec.structs.replace(problem, severity="warning")
        for problem in too_large_together(texts)
    )
    problems = (*found.problems, *together, *offline_problems(texts, today()))
    count = len(texts) + len(found.problems)
    errors = any(problem.severity == "error" for problem in problems)
    if not print_data({"ok": not errors, "files": count, "problems": problems}, output):
        print_problems(problems, {text.file: text.text for text in texts})
        if not problems:
            say(f"{count} file{'s' * (count != 1)} checked, no problems.", fg="green")
    if errors:
        raise click.exceptions.Exit(1)


@click.command()
@PATHS
@PRUNE
@click.option("--impact", "with_impact", is_flag=True, help="Also show who it would move.")
@output_option()
@connected
def plan(api: Api, paths: tuple[Path, ...], prune: bool, with_impact: bool, output: str) -> None:
    """Show what applying settings files would change; changes nothing.

    A file is the whole of its service: what the service has and its file has not, is deleted.

    Exit code 0 whether or not there are differences; 1 when the files have problems.

    \b
    Examples:
      holdfast plan examples/contoso
      holdfast plan calling.yaml --output json | jq '.differences | length'
    """
    texts, checked = check_files(api, paths, prune=prune, output=output)
    if with_impact and checked.ok:
        show_both(api, texts, checked, prune=prune, output=output)
        return
    if not print_data(checked, output):
        show_plan(checked, texts)
    if not checked.ok:
        raise click.exceptions.Exit(1)


@click.command()
@PATHS
@PRUNE
@REASON
@click.option("--propose", is_flag=True, help="Do not commit: let it wait for others to approve.")
@click.option("--schedule", metavar="TIME", help="Let it wait, and be committed at a time.")
@BREAK_GLASS
@YES
@output_option()
@connected
def apply(
    api: Api,
    *,
    paths: tuple[Path, ...],
    prune: bool,
    reason: str,
    propose: bool,
    schedule: str | None,
    break_glass: str,
    yes: bool,
    output: str,
) -> None:
    """Commit settings files as one change, all or nothing; or propose it.

    A file is the whole of its service. What was shown is what is committed: when somebody else
    wrote in between, nothing is, and you are told. On a terminal it asks first, unless --yes.

    \b
    Examples:
      holdfast apply examples/contoso --reason "49 tiles for the pilot tenants"
      holdfast apply calling.yaml --yes --output json | jq .revision
      holdfast apply calling.yaml --propose
      holdfast apply calling.yaml --schedule 2026-11-30T08:00Z
      holdfast apply calling.yaml --break-glass "calls fail since 08:12"
    """
    from holdfast.apps.cli.proposals import seconds_at

    waits = propose or schedule is not None
    if waits and break_glass:
        raise click.UsageError("--break-glass commits now: leave out --propose and --schedule.")
    at_s = seconds_at(schedule) if schedule is not None else None
    texts, checked = check_files(api, paths, prune=prune, output=output)
    if output == "text":
        show_plan(checked, texts)
    if not checked.ok:
        print_data(checked, output)
        raise click.exceptions.Exit(1)
    if not checked.differences and output == "text":
        return
    ask_unless(yes, "Propose this?" if waits else "Commit this?", output)
    body = {
        "documents": texts,
        "prune": prune,
        "reason": reason,
        "base_revision": checked.base_revision,
    }
    if waits:
        _propose(api, body, at_s, output)
        return
    body["break_glass"] = break_glass
    show_commit(commit(api, "/v1/commits", body), output)


@click.command()
def schema() -> None:
    """Print the JSON Schema of settings files, for editors to complete and check them.

    \b
    Example:
      holdfast schema > settings.schema.json
    """
    from holdfast.apps.cli.output import print_json
    from holdfast.core.authoring import json_schema

    print_json(json_schema())


def _propose(api: Api, body: dict[str, Any], at_s: int | None, output: str) -> None:
    from holdfast.apps.cli import proposals
    from holdfast.apps.control.proposal_schemas import Proposed

    proposed = api.call(Proposed, "POST", "/v1/changes", body)
    if at_s is not None:
        proposed = proposals.schedule(api, proposed.id, at_s)
    proposals.tell_proposed(proposed, output)


def check_files(
    api: Api, paths: Sequence[Path], *, prune: bool, output: str
) -> tuple[Sequence[Text], Checked]:
    """The files as they are sent, and what the control plane says of them.

    Leaves with exit code 1 when they have problems that keep them from being sent.
    """
    from holdfast.apps.cli.texts import read_change, send_members
    from holdfast.apps.control.schemas import Checked
    from holdfast.core.errors import Invalid

    try:
        texts = send_members(api, read_change(paths))
    except Invalid as unsent:
        problems = Checked(False, unsent.problems, (), base_revision=0, digest="")
        if print_data(problems, output):
            raise click.exceptions.Exit(1) from None
        raise
    return texts, check_change(api, texts, prune=prune)


def check_change(api: Api, texts: Sequence[Text], *, prune: bool) -> Checked:
    from holdfast.apps.control.schemas import Checked

    body = {"documents": texts, "prune": prune}
    checked = api.call(Checked, "POST", "/v1/changes/check", body)
    if not checked.problems:
        return checked
    import msgspec

    from holdfast.core.authoring import parse, placed

    parsed = (parse(text.text.encode(), text.file).document for text in texts)
    problems = placed(checked.problems, [one for one in parsed if one is not None])
    return msgspec.structs.replace(checked, problems=problems)


def show_both(
    api: Api, texts: Sequence[Text], checked: Checked, *, prune: bool, output: str
) -> None:
    """The plan, and who it moves; as JSON, the plan with one member more."""
    import msgspec

    from holdfast.apps.cli.impact import impact_lines, preview

    found = preview(api, texts, prune=prune)
    if print_data({**msgspec.structs.asdict(checked), "impact": found}, output):
        return
    show_plan(checked, texts)
    click.echo()
    for line in impact_lines(found):
        click.echo(line)


def show_plan(checked: Checked, texts: Sequence[Text]) -> None:
    """The problems on standard error, the differences on standard output."""
    from holdfast.apps.cli.differences import difference_lines, summary

    print_problems(checked.problems, {text.file: text.text for text in texts})
    if not checked.ok:
        return
    if not checked.differences:
        say(f"No differences to revision {checked.base_revision}.", fg="green")
        return
    for line in difference_lines(checked.differences):
        click.echo(line)
    click.echo(f"\n{summary(checked.differences)}, on revision {checked.base_revision}.")
