"""Options that several commands share. Imports click alone, so that help comes at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from holdfast.apps.defaults import DATA_DIR, ENVIRONMENT

Command = TypeVar("Command", bound=Callable[..., Any])

REASON = click.option("--reason", default="", help="Why; it stays in the journal.")
BREAK_GLASS = click.option(
    "--break-glass",
    metavar="REASON",
    default="",
    help="In an emergency: skip approval, freeze and waiting, and say why. Everybody is told.",
)
YES = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
SERVICE = click.option("--service", "-s", required=True, help="Whose settings.")
IN_ENVIRONMENT = click.option(
    "--environment", "-e", default=ENVIRONMENT, show_default=True, help="Where."
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


def connected(command: Command) -> Command:
    """Adds `--server` and `--token`, and passes the command an `Api` as its first argument."""

    @click.option(
        "--server",
        metavar="URL",
        envvar="HOLDFAST_SERVER",
        help="Control plane; else HOLDFAST_SERVER, else the one of `holdfast dev`.",
    )
    @click.option(
        "--token",
        metavar="TOKEN",
        envvar="HOLDFAST_TOKEN",
        help="Else HOLDFAST_TOKEN, else the one of `holdfast dev`.",
    )
    @wraps(command)
    def with_api(*args: Any, server: str | None, token: str | None, **kwargs: Any) -> Any:
        from holdfast.apps.cli.api import Api
        from holdfast.apps.cli.connection import find_connection

        with Api(
            find_connection(server, token, Path.cwd(), os.environ.get("HOLDFAST_DATA", ""))
        ) as api:
            return command(api, *args, **kwargs)

    return with_api  # type: ignore[return-value]  # the signature that click reads is its own
