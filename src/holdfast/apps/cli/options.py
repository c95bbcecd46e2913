"""Options that several commands share. Imports click alone, so that help comes at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from holdfast.apps.cli.names import ENVIRONMENT_NAME, SERVICE_NAME
from holdfast.apps.defaults import DATA_DIR, ENVIRONMENT

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api

Command = TypeVar("Command", bound=Callable[..., Any])

REASON = click.option("--reason", default="", help="Why; it stays in the journal.")
BREAK_GLASS = click.option(
    "--break-glass",
    metavar="REASON",
    default="",
    help="In an emergency: skip approval, freeze and waiting, and say why. Everybody is told.",
)
YES = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
SERVICE = click.option("--service", "-s", required=True, type=SERVICE_NAME, help="Whose settings.")
IN_ENVIRONMENT = click.option(
    "--environment",
    "-e",
    default=ENVIRONMENT,
    show_default=True,
    type=ENVIRONMENT_NAME,
    help="Where.",
)
DATA = click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DATA_DIR,
    show_default=True,
    envvar="HOLDFAST_DATA",
    help="Directory of everything that a control plane keeps.",
)
STORE = click.option(
    "--store",
    default="",
    metavar="URL",
    envvar="HOLDFAST_STORE",
    help="Where the journal is: sqlite:///DIR, etcd://H:2379,H:2379, postgresql://USER@H/DB; "
    "else the data directory. A password is better in HOLDFAST_STORE_PASSWORD_FILE.",
)
PASSWORD_FILE = click.option(
    "--store-password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="HOLDFAST_STORE_PASSWORD_FILE",
    help="File with the password of the store's user.",
)
OPEN = click.option(
    "--open",
    "open_reads",
    is_flag=True,
    help="Let reads through without a token. For development, on loopback only.",
)


def log_level_option(default: str) -> Callable[[Command], Command]:
    return click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default=default,
        show_default=True,
        envvar="HOLDFAST_LOG_LEVEL",
        help="Least level that is logged, to standard error.",
    )


def output_option(*kinds: str) -> Callable[[Command], Command]:
    """The `--output` option; the first of `kinds` is the default."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(kinds or ("text", "json")),
        default=(kinds or ("text",))[0],
        show_default=True,
        help="How to print.",
    )


def servers_option(text: str) -> Callable[[Command], Command]:
    """`--server`, which may be given again, or name several nodes with commas between them."""
    return click.option(
        "--server", "servers", metavar="URL", multiple=True, envvar="HOLDFAST_SERVER", help=text
    )


def the_api(servers: tuple[str, ...], token: str | None, at_least: int = 0) -> Api:
    """The control plane that the options, the surroundings or `holdfast dev` name."""
    from holdfast.apps.cli.api import Api
    from holdfast.apps.cli.connection import find_connection

    data_dir = os.environ.get("HOLDFAST_DATA", "")
    return Api(find_connection(servers, token, Path.cwd(), data_dir, at_least))


def connectable(command: Command) -> Command:
    """Adds `--server`, `--at-least` and `--token`; the command's first argument makes an `Api`."""

    @servers_option(
        "Control plane; again, or with commas, for its other nodes. Else HOLDFAST_SERVER, else the "
        "one of `holdfast dev`."
    )
    @click.option(
        "--at-least",
        type=click.IntRange(0),
        metavar="REVISION",
        default=0,
        envvar="HOLDFAST_AT_LEAST",
        help="Only answers of this revision or a newer one, whichever node gives them.",
    )
    @click.option(
        "--token",
        metavar="TOKEN",
        envvar="HOLDFAST_TOKEN",
        help="Else HOLDFAST_TOKEN, else the one of `holdfast dev`.",
    )
    @wraps(command)
    def with_connect(
        *args: Any, servers: tuple[str, ...], token: str | None, at_least: int, **kwargs: Any
    ) -> Any:
        return command(partial(the_api, servers, token, at_least), *args, **kwargs)

    return with_connect  # type: ignore[return-value]  # the signature that click reads is its own


def connected(command: Command) -> Command:
    """As `connectable`; the command gets an `Api` as first argument."""

    @wraps(command)
    def with_api(connect: Callable[[], Api], *args: Any, **kwargs: Any) -> Any:
        with connect() as api:
            return command(api, *args, **kwargs)

    return connectable(with_api)  # type: ignore[return-value]
