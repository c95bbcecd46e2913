"""Which control planes the commands talk to, with which token, and how.

Sought in this order: `--server`/`--token`, `HOLDFAST_SERVER`/`HOLDFAST_TOKEN`, and the file that
`holdfast dev` writes: `dev.json` in `HOLDFAST_DATA`, else `.holdfast/dev.json` here or above. Each
may name several nodes of one control plane, with commas between them; they are tried in order.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click
import msgspec

from holdfast.sdk.base_urls import is_bare, shown

DEV_FILE = Path(".holdfast/dev.json")
DEV_FILE_BYTES_MAX = 64 * 1024
SERVERS_MAX: Final = 16
"""Nodes of one control plane."""


class DevFile(msgspec.Struct, frozen=True):
    """What `holdfast dev` leaves for the other commands, readable to its owner only."""

    server: str
    edge: str
    token: str
    environment: str = "production"
    processes: dict[str, int] = {}


class Connection(msgspec.Struct, frozen=True):
    """`server` is asked first, the `others` are further nodes of the same control plane.

    Answers are of revision `at_least` of the journal, or newer; 0 for any.
    """

    server: str
    token: str
    edge: str = ""
    others: tuple[str, ...] = ()
    at_least: int = 0

    @property
    def servers(self) -> tuple[str, ...]:
        return (self.server, *self.others)


def find_connection(
    given: Iterable[str], token: str | None, directory: Path, data_dir: str = "", at_least: int = 0
) -> Connection:
    """The connection to use; a usage error when nothing names a control plane."""
    dev = _read(Path(data_dir) / DEV_FILE.name) if data_dir else find_dev_file(directory)
    if servers := urls_of(given):
        # The token of `dev` goes to its own control plane, and to nobody besides.
        same = dev is not None and {*servers} <= {*urls_of([dev.server])}
        own = dev.token if dev and same else ""
        edge = dev.edge if dev and same else ""
        return _connection(servers, token or own, edge, at_least)
    if dev and (servers := urls_of([dev.server])):
        return _connection(servers, token or dev.token, dev.edge, at_least)
    raise click.UsageError(
        "No control plane to talk to.\n"
        "Give --server URL (or set HOLDFAST_SERVER), or start one here: holdfast dev --open"
    )


def urls_of(given: Iterable[str]) -> tuple[str, ...]:
    """The URLs in texts that hold one or several each, with commas between; each one once."""
    parts = (part.strip().rstrip("/") for text in given for part in text.split(","))
    return tuple(dict.fromkeys(filter(None, parts)))


def _connection(servers: tuple[str, ...], token: str, edge: str, at_least: int) -> Connection:
    if len(servers) > SERVERS_MAX:
        raise click.UsageError(f"{len(servers)} control planes, and {SERVERS_MAX} are the most.")
    for url in servers:
        if not _is_base_url(url):
            raise click.UsageError(
                f"{shown(url)} is no URL of a control plane: http://HOST:PORT is one."
            )
    return Connection(servers[0], token, edge, servers[1:], at_least)


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        named = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        return named and is_bare(url)
    except ValueError:  # of a port that is none
        return False


def find_dev_file(directory: Path) -> DevFile | None:
    """The nearest `.holdfast/dev.json` at or above `directory`.

    A file that another user owns or may write is passed over: it could send a token elsewhere.
    """
    found = (_read(parent / DEV_FILE) for parent in (directory, *directory.parents))
    return next((dev for dev in found if dev), None)


def _read(path: Path) -> DevFile | None:
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > DEV_FILE_BYTES_MAX:
            return None
        if facts.st_uid != os.geteuid() or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return None
        return msgspec.json.decode(path.read_bytes(), type=DevFile)
    except (OSError, msgspec.MsgspecError):
        return None
