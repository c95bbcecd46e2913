"""The commands that look at settings: `get` and `explain`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from holdfast.apps.cli.names import KEY, SERVICE_NAME
from holdfast.apps.cli.options import IN_ENVIRONMENT, SERVICE, connected, output_option
from holdfast.apps.cli.output import print_data, print_rich, print_table, print_yaml

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api


@click.command()
@click.argument("service", required=False, type=SERVICE_NAME)
@click.argument("key", required=False, type=KEY)
@click.option("--search", help="Only settings whose key or description has this text.")
@output_option("text", "json", "yaml")
@connected
def get(api: Api, service: str | None, key: str | None, search: str | None, output: str) -> None:
    """Show services, the settings of one SERVICE, or one setting by its KEY.

    With --output yaml a SERVICE comes as the settings file that, applied again, changes nothing.

    \b
    Examples:
      holdfast get
      holdfast get demo-shop
      holdfast get demo-shop cartFailure
      holdfast get demo-shop --output yaml > demo-shop.yaml
      holdfast get --search tiles
    """
    if service and key:
        _get_setting(api, service, key, output)
    elif service and output == "yaml":
        click.echo(api.raw("GET", f"/v1/services/{service}", query={"format": "yaml"}), nl=False)
    elif service or search:
        _get_settings(api, service, search, output)
    else:
        _get_services(api, output)


def _get_services(api: Api, output: str) -> None:
    from holdfast.apps.control.schemas import ServiceLine, Services

    lines: list[ServiceLine] = []
    cursor: str | None = None
    while True:
        page = api.call(Services, "GET", "/v1/services", cursor=cursor)
        lines += page.services
        cursor = page.cursor
        if cursor is None:
            break
    if print_data(lines, output):
        return
    print_table(
        ["service", "settings", "segments", "revision", "owners", "description"],
        (
            (
                line.service,
                line.setting_count,
                line.segment_count,
                max((subject.revision for subject in line.subjects), default="-"),
                ", ".join(line.owners),
                line.description,
            )
            for line in lines
        ),
    )


def _get_settings(api: Api, service: str | None, search: str | None, output: str) -> None:
    from holdfast.apps.control.schemas import SettingLine, Settings

    lines: list[SettingLine] = []
    cursor: str | None = None
    while True:
        page = api.call(Settings, "GET", "/v1/settings", service=service, q=search, cursor=cursor)
        lines += page.settings
        cursor = page.cursor
        if cursor is None:
            break
    if service and not lines:
        api.raw("GET", f"/v1/services/{service}")  # tells that there is none, when there is none
    if print_data(lines, output):
        return
    print_table(
        ["service", "key", "type", "revision", "environments", "description"],
        (
            (
                line.service,
                line.key,
                line.type,
                line.revision,
                ", ".join(line.environments),
                line.description,
            )
            for line in lines
        ),
    )


def _get_setting(api: Api, service: str, key: str, output: str) -> None:
    from holdfast.apps.control.schemas import SettingBody

    body = api.call(SettingBody, "GET", f"/v1/services/{service}/settings/{key}")
    if not print_data(body, output):
        print_yaml(body)


@click.command()
@click.argument("key", type=KEY)
@SERVICE
@IN_ENVIRONMENT
@click.option("--context", "context_json", metavar="JSON", help="Who asks, as a JSON object.")
@click.option(
    "-c",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="One attribute of who asks; a value that reads as JSON is taken as JSON.",
)
@output_option()
@connected
def explain(
    api: Api,
    key: str,
    service: str,
    environment: str,
    context_json: str | None,
    pairs: tuple[str, ...],
    output: str,
) -> None:
    """Say which value somebody gets for a setting, and why: each rule, condition and bucket.

    \b
    Examples:
      holdfast explain cartFailure -s demo-shop -c targetingKey=user-1
      holdfast explain max-video-tiles -s calling -c tenant=contoso -c version=1.6.0
      holdfast explain max-video-tiles -s calling --context '{"ring": "general", "user": "u1"}'
    """
    context = context_of(context_json, pairs)
    from holdfast.core.evaluate import Explanation

    body = {"environment": environment, "service": service, "key": key, "context": context}
    explained = api.call(Explanation, "POST", "/v1/explain", body)
    if print_data(explained, output):
        return
    from holdfast.apps.cli.explained import tree_of

    print_rich(tree_of(f"{environment}/{service}/{key}", explained))


def context_of(text: str | None, pairs: tuple[str, ...]) -> Mapping[str, Any]:
    """An evaluation context from `--context JSON` and any number of `-c NAME=VALUE`.

    A value that reads as JSON (a number, true, a list) is taken as such, everything else as text.
    """
    import msgspec

    context: dict[str, Any] = {}
    if text:
        try:
            context = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.MsgspecError as wrong:
            raise click.BadParameter(
                f'{wrong}; write a JSON object: \'{{"tenant": "contoso"}}\'',
                param_hint="--context",
            ) from None
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{pair!r}: write NAME=VALUE", param_hint="-c")
        context[name] = _value_of(value)
    return context


def _value_of(text: str) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return text
