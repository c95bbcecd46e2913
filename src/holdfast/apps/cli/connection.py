"""Which control plane the commands talk to, with which token, and how.

Sought in this order: `--server`/`--token`, `HOLDFAST_SERVER`/`HOLDFAST_TOKEN`, and the file that
`holdfast dev` writes: `dev.json` in `HOLDFAST_DATA`, else `.holdfast/dev.json` here or above.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import click
import msgspec

DEV_FILE = Path(".holdfast/dev.json")
TIMEOUT_S = 30.0
DEV_FILE_BYTES_MAX = 64 * 1024


class DevFile(msgspec.Struct, frozen=True):
    """What `holdfast dev` leaves for the other commands, readable to its owner only."""

    server: str
    edge: str
    token: str
    environment: str = "production"
    processes: dict[str, int] = {}


class Connection(msgspec.Struct, frozen=True):
    server: str
    token: str
    edge: str = ""


def find_connection(
    server: str | None, token: str | None, directory: Path, data_dir: str = ""
) -> Connection:
    """The connection to use; a usage error when nothing names a control plane."""
    dev = _read(Path(data_dir) / DEV_FILE.name) if data_dir else find_dev_file(directory)
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
