"""The commands of environments: `env list`, `env put`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.apps.cli.options import REASON, connected, output_option
from holdfast.apps.cli.output import print_data, print_table, say

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api


@click.group()
def env() -> None:
    """Look after environments: production, staging, …"""


@env.command("list")
@output_option()
@connected
def list_environments(api: Api, output: str) -> None:
    """Show all environments.

    \b
    Example:
      holdfast env list
    """
    from holdfast.apps.control.schemas import Environments

    found = api.call(Environments, "GET", "/v1/environments").environments
    if not print_data(found, output):
        print_table(
            ["environment", "bucketing", "revision", "description"],
            ((one.environment, one.bucketing, one.revision, one.description) for one in found),
        )


@env.command("put")
@click.argument("environment")
@click.option(
    "--bucketing",
    type=click.Choice(["v2", "v3"]),
    default="v3",
    show_default=True,
    help="flagd's hash contract. Another one moves users between the arms of every split.",
)
@click.option("--description", default="", help="One line for people.")
@REASON
@output_option()
@connected
def put_environment(
    api: Api, environment: str, bucketing: str, description: str, reason: str, output: str
) -> None:
    """Make an ENVIRONMENT, or change it.

    \b
    Examples:
      holdfast env put staging --description "what ships next"
      holdfast env put legacy --bucketing v2
    """
    from holdfast.apps.control.schemas import Revised

    body = {"bucketing": bucketing, "description": description, "reason": reason}
    revised = api.call(Revised, "PUT", f"/v1/environments/{environment}", body)
    if not print_data(revised, output):
        say(f"Environment {environment} stands, at revision {revised.revision}.", fg="green")
