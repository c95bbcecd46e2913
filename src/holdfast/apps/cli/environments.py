"""The commands of environments: `env list`, `env put`, `env move`, `env pace`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.apps.cli.names import ENVIRONMENT_NAME, SERVICE_NAME
from holdfast.apps.cli.options import REASON, connected, output_option
from holdfast.apps.cli.output import print_data, print_table, say

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api
    from holdfast.apps.control.schemas import EnvironmentLine
    from holdfast.core.model import Ahead


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
            ["environment", "bucketing", "revision", "ahead", "description"],
            (
                (one.environment, one.bucketing, one.revision, _shown(one.ahead), one.description)
                for one in found
            ),
        )


@env.command("put")
@click.argument("environment", type=ENVIRONMENT_NAME)
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


@env.command("move")
@click.argument("environment", type=ENVIRONMENT_NAME)
@click.argument("services", nargs=-1, required=True, type=SERVICE_NAME)
@click.option(
    "--bucketing",
    type=click.Choice(["v2", "v3"]),
    required=True,
    help="The hash contract that they go over to.",
)
@REASON
@output_option()
@connected
def move_services(
    api: Api,
    environment: str,
    services: tuple[str, ...],
    bucketing: str,
    reason: str,
    output: str,
) -> None:
    """Let SERVICES of an ENVIRONMENT go over to another bucketing before the rest.

    Once all are ahead, `env put ENVIRONMENT --bucketing` makes it the environment's own.

    \b
    Examples:
      holdfast env move production --bucketing v3 shop
      holdfast env move production --bucketing v3 mail calling
    """
    from holdfast.apps.control.schemas import Revised

    standing = _standing(api, environment)
    ahead = standing.ahead
    known = ahead.services if ahead is not None and ahead.bucketing == bucketing else ()
    body = {
        "bucketing": standing.bucketing,
        "description": standing.description,
        "reason": reason,
        "ahead": {"bucketing": bucketing, "services": sorted({*known, *services})},
    }
    revised = api.call(Revised, "PUT", f"/v1/environments/{environment}", body)
    if not print_data(revised, output):
        names = ", ".join(services)
        say(f"{names}: bucketing {bucketing} in {environment}, at revision {revised.revision}.")


@env.command("pace")
@click.argument("environment", type=ENVIRONMENT_NAME)
@click.option("--poll", "poll_interval_s", type=int, help="Seconds between two steady polls.")
@click.option(
    "--poll-max",
    "poll_interval_max_s",
    type=int,
    help="How far an edge may slow the polls down, in seconds.",
)
@click.option(
    "--retry-after-max",
    "retry_after_max_s",
    type=int,
    help="How long an edge's Retry-After may keep consumers away, in seconds.",
)
@click.option(
    "--stale-after",
    "stale_after_s",
    type=int,
    help="Seconds without a newer statement of freshness after which answers say stale.",
)
@click.option("--streams/--no-streams", default=None, help="Whether consumers listen to streams.")
@REASON
@output_option()
@connected
def pace_environment(
    api: Api, environment: str, reason: str, output: str, **wanted: int | bool | None
) -> None:
    """Show, or change, how often consumers in an ENVIRONMENT may ask.

    The numbers are signed with every snapshot. Edges may only ask for less, within them.

    \b
    Examples:
      holdfast env pace production
      holdfast env pace production --poll 15 --poll-max 600
      holdfast env pace production --no-streams --reason "streams hurt the store"
    """
    import msgspec

    from holdfast.apps.control.schemas import Revised

    standing = _standing(api, environment)
    changed = {name: value for name, value in wanted.items() if value is not None}
    pacing = {**msgspec.structs.asdict(standing.pacing), **changed}
    if not changed:
        if not print_data(pacing, output):
            print_table(["pacing", "value"], ((name, str(each)) for name, each in pacing.items()))
        return
    body = {
        "bucketing": standing.bucketing,
        "description": standing.description,
        "reason": reason or f"pacing of {environment}",
        "pacing": pacing,
    }
    revised = api.call(Revised, "PUT", f"/v1/environments/{environment}", body)
    if not print_data(revised, output):
        say(f"Consumers in {environment} are paced anew, at revision {revised.revision}.")


def _standing(api: Api, environment: str) -> EnvironmentLine:
    from holdfast.apps.control.schemas import Environments

    found = api.call(Environments, "GET", "/v1/environments").environments
    standing = next((one for one in found if one.environment == environment), None)
    if standing is None:
        raise click.ClickException(f"There is no environment {environment}: holdfast env list.")
    return standing


def _shown(ahead: Ahead | None) -> str:
    return f"{ahead.bucketing}: {', '.join(ahead.services)}" if ahead else ""
