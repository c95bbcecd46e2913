"""Holdfast's client as shipped: counting on, nothing switched off."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from workloads import USER, Setting

from holdfast import Client
from peers.flagd_format import flag_set


def document(settings: list[Setting]) -> str:
    """The flag definitions in a file of their own; gives its path."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(flag_set(settings), file)
    return file.name


def load(path: str) -> Client:
    try:
        return Client.from_file(path)
    finally:
        Path(path).unlink()


def statement(client: Client, setting: Setting, context: dict[str, str]) -> tuple[str, Any]:
    boolean = setting.type == "boolean"
    names = {
        "get": client.get_bool if boolean else client.get_object,
        "default": False if boolean else {},
        "context": {"targetingKey": USER, **context},
    }
    return f"get({setting.key!r}, default, context)", names
