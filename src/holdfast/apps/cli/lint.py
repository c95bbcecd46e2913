"""`holdfast lint`: what is allowed and probably not meant, in files or in what stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.apps.cli.options import output_option, servers_option, the_api
from holdfast.apps.cli.output import print_data, print_problems, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.errors import Problem


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--environment", "-e", default="", help="Instead of files: what stands there, as it is used."
)
@click.option("--service", "-s", default="", help="With --environment: only this service.")
@servers_option("As for plan.")
@click.option("--token", metavar="TOKEN", envvar="HOLDFAST_TOKEN", help="As for plan.")
@output_option()
def lint(
    paths: tuple[Path, ...],
    environment: str,
    service: str,
    servers: tuple[str, ...],
    token: str | None,
    output: str,
) -> None:
    """Find what is allowed and probably not meant: in settings files, offline, or in what stands.

    Dead and shadowed rules, variants nobody gets, splits that do not add up, attributes nobody
    sends, settings past their date, values that look like secrets, owners missing. A setting
    silences codes by its metadata: lint.ignore: "dead-rule, expired".

    Exit code 1 when there are findings.

    \b
    Examples:
      holdfast lint examples/contoso
      holdfast lint --environment production --output json | jq '.findings[].code'
    """
    if bool(paths) == bool(environment):
        raise click.UsageError("Give settings files, or --environment for what stands there.")
    if paths:
        findings, sources = _of_files(paths)
    else:
        findings, sources = _of_environment(environment, service, servers, token), {}
    if not print_data({"findings": findings}, output):
        print_problems(findings, sources)
        if not findings:
            say("No findings.", fg="green")
    if findings:
        raise click.exceptions.Exit(1)


def today() -> str:
    """The date here and now, as `expires` has it."""
    import time

    from holdfast.core.lint import day

    return day(time.time())


def _of_files(paths: Sequence[Path]) -> tuple[Sequence[Problem], dict[str, str]]:
    """Findings and the files' texts. Raises `Invalid` for files that have errors."""
    from holdfast.apps.cli.texts import offline_plan, read_texts
    from holdfast.core.authoring import lint_together
    from holdfast.core.errors import Invalid

    texts = read_texts(paths)
    planned = offline_plan(texts)
    documents = len(planned.documents)
    if planned.problems and documents < len(texts):
        raise Invalid(planned.problems)
    return lint_together(planned, today()), {text.file: text.text for text in texts}


def _of_environment(
    environment: str, service: str, servers: tuple[str, ...], token: str | None
) -> Sequence[Problem]:
    from holdfast.apps.control.impact_schemas import Linted

    with the_api(servers, token) as api:
        query = {"environment": environment, "service": service or None}
        return api.call(Linted, "GET", "/v1/lint", **query).findings
