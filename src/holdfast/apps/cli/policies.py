"""The commands of policies: `policy show`, `policy set`, `policy edit`, `policy schema`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.apps.cli.names import ENVIRONMENT_NAME
from holdfast.apps.cli.options import REASON, connected, output_option
from holdfast.apps.cli.output import print_data, print_json, print_yaml, say

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api
    from holdfast.core.policies import Policy

PROPOSE = click.option(
    "--propose", is_flag=True, help="Let others approve it first, where the policy asks for that."
)
_HEAD = "# The policy of {}. What is left out has its default: holdfast policy schema\n"


@click.group()
def policy() -> None:
    """Look after what environments ask of every change: approvals, caps, freezes, rollouts."""


@policy.command("show")
@click.argument("environment", type=ENVIRONMENT_NAME)
@output_option("yaml", "json")
@connected
def show_policy(api: Api, environment: str, output: str) -> None:
    """Show what an ENVIRONMENT asks of every change, as a file for `policy set`.

    \b
    Example:
      holdfast policy show production > production.policy.yaml
    """
    from holdfast.apps.control.policy_schemas import PolicyBody

    found = api.call(PolicyBody, "GET", f"/v1/environments/{environment}/policy")
    print_data(found.policy, output)
    if found.freeze is not None:
        say(f"{environment} is frozen now: {found.freeze.reason or 'no reason given'}", fg="yellow")


@policy.command("set")
@click.argument("environment", type=ENVIRONMENT_NAME)
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--standard", is_flag=True, help="What production should have; takes no FILE.")
@PROPOSE
@REASON
@output_option()
@connected
def set_policy(
    api: Api,
    environment: str,
    file: Path | None,
    standard: bool,
    propose: bool,
    reason: str,
    output: str,
) -> None:
    """Give an ENVIRONMENT the policy of a YAML or JSON FILE (- is standard input).

    It is judged by the policy that stands: one that asks for approvals is changed with them only.

    \b
    Examples:
      holdfast policy set production --standard
      holdfast policy set production production.policy.yaml --propose --reason "two pairs of eyes"
    """
    if standard == (file is not None):
        raise click.UsageError("Give a FILE or --standard.")
    if file is None:
        from holdfast.core.policies import STANDARD

        wanted = STANDARD
    else:
        wanted = _read(file)
    _put(api, environment, wanted, reason=reason, propose=propose, output=output)


@policy.command("edit")
@click.argument("environment", type=ENVIRONMENT_NAME)
@PROPOSE
@REASON
@output_option()
@connected
def edit_policy(api: Api, environment: str, propose: bool, reason: str, output: str) -> None:
    """Change the policy of an ENVIRONMENT in your editor (VISUAL or EDITOR).

    \b
    Example:
      holdfast policy edit production --propose
    """
    import msgspec
    import yaml

    from holdfast.apps.control.policy_schemas import PolicyBody
    from holdfast.core.errors import HoldfastError

    standing = api.call(PolicyBody, "GET", f"/v1/environments/{environment}/policy").policy
    text = yaml.safe_dump(msgspec.to_builtins(standing), sort_keys=False, allow_unicode=True)
    edited = click.edit(_HEAD.format(environment) + text, extension=".yaml")
    if edited is None:
        say("Nothing was changed.")
        return
    try:
        wanted = _parsed(edited, "the edited policy")
        _put(api, environment, wanted, reason=reason, propose=propose, output=output)
    except HoldfastError:
        kept = Path(f"{environment}.policy.yaml.edited")
        kept.write_text(edited, encoding="utf-8")
        say(f"What you wrote is in {kept}: mend it, then holdfast policy set {environment} {kept}")
        raise


@policy.command("schema")
def policy_schema() -> None:
    """Print the JSON Schema of policy files, for editors to complete and check them.

    \b
    Example:
      holdfast policy schema > policy.schema.json
    """
    print_json(schema())


@policy.command("standard")
def standard_policy() -> None:
    """Print the policy that production should have, as a file to begin from.

    \b
    Example:
      holdfast policy standard > production.policy.yaml
    """
    from holdfast.core.policies import STANDARD

    print_yaml(STANDARD)


def schema() -> dict[str, Any]:
    """The JSON Schema of a policy file, as it is kept in `docs/reference/policy.schema.json`."""
    import inspect

    import msgspec

    from holdfast.core.policies import Policy

    made: dict[str, Any] = msgspec.json.schema(Policy)
    for each in made["$defs"].values():
        if "description" in each:
            each["description"] = inspect.cleandoc(each["description"])
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The policy of an environment of Holdfast",
    }
    return {**head, **made}


def _put(
    api: Api, environment: str, wanted: Policy, *, reason: str, propose: bool, output: str
) -> None:
    from holdfast.apps.cli.proposals import tell_proposed
    from holdfast.apps.control.proposal_schemas import Proposed
    from holdfast.apps.control.schemas import Revised

    path, body = f"/v1/environments/{environment}/policy", {"policy": wanted, "reason": reason}
    if propose:
        tell_proposed(api.call(Proposed, "POST", f"{path}/changes", body), output)
        return
    revised = api.call(Revised, "PUT", path, body)
    if not print_data(revised, output):
        say(f"The policy of {environment} stands, at revision {revised.revision}.", fg="green")


def _read(file: Path) -> Policy:
    name = str(file)
    try:
        text = sys.stdin.read() if name == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as failed:
        raise click.UsageError(f"{name} can't be read: {failed}") from None
    return _parsed(text, name)


def _parsed(text: str, name: str) -> Policy:
    import msgspec
    import yaml

    from holdfast.core.errors import Invalid, Problem
    from holdfast.core.policies import Policy

    try:
        return msgspec.convert(yaml.safe_load(text) or {}, Policy)
    except (yaml.YAMLError, msgspec.ValidationError, RecursionError) as wrong:
        message = " ".join(str(wrong).split()) or "nested too deep"
        hint = "holdfast policy schema says what a policy has; holdfast policy standard is one"
        raise Invalid(
            [Problem(code="policy-file", message=message, file=name, hint=hint)]
        ) from None
