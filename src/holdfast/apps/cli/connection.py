"""Which control plane the commands talk to, with which token, and how.

Sought in this order: `--server`/`--token`, `HOLDFAST_SERVER`/`HOLDFAST_TOKEN`, and the file that
`holdfast dev` writes, `.holdfast/dev.json` in this directory or one above it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

Command = TypeVar("Command", bound=Callable[..., Any])

DEV_FILE = Path(".holdfast/dev.json")
TIMEOUT_S = 30.0
DEV_FILE_BYTES_MAX = 64 * 1024


class DevFile(msgspec.Struct, frozen=True):
    """What `holdfast dev` leaves for the other commands, readable to its owner only."""

    server: str
    edge: str
    token: str
    environment: str = "production"


class Connection(msgspec.Struct, frozen=True):
    server: str
    token: str
    edge: str = ""


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

        with Api(find_connection(server, token, Path.cwd())) as api:
            return command(api, *args, **kwargs)

    return with_api  # type: ignore[return-value]  # the signature that click reads is its own


def find_connection(server: str | None, token: str | None, directory: Path) -> Connection:
    """The connection to use; a usage error when nothing names a control plane."""
    dev = find_dev_file(directory)
    if server:
        same = dev is not None and dev.server == server.rstrip("/")
        own = dev.token if dev and same else ""
        return Connection(server.rstrip("/"), token or own, dev.edge if dev and same else "")
    if dev:
        return Connection(dev.server, token or dev.token, dev.edge)
    raise click.UsageError(
        "No control plane to talk to.\n"
        "Give --server URL (or set HOLDFAST_SERVER), or start one here: holdfast dev --open"
    )


def find_dev_file(directory: Path) -> DevFile | None:
    """The nearest `.holdfast/dev.json` at or above `directory`.

    A file that another user owns or may write is passed over: it could send a token elsewhere.
    """
    for parent in (directory, *directory.parents):
        path = parent / DEV_FILE
        try:
            facts = path.stat()
        except OSError:
            continue
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > DEV_FILE_BYTES_MAX:
            continue
        if facts.st_uid != os.geteuid() or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            continue
        try:
            return msgspec.json.decode(path.read_bytes(), type=DevFile)
        except (OSError, msgspec.MsgspecError):
            continue
    return None


def context_of(text: str | None, pairs: tuple[str, ...]) -> Mapping[str, Any]:
    """An evaluation context from `--context JSON` and any number of `-c NAME=VALUE`.

    A value that reads as JSON (a number, true, a list) is taken as such, everything else as text.
    """
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
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return text
