"""What stands before the first request: the first token, issued beside the stores themselves.

Everything later goes through the API, with a token. This goes through the same write door, on the
machine that has the data directory: whoever can write there needs no token to do harm.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from holdfast.apps.settings import ControlSettings
from holdfast.core.errors import Damaged

KEPT = "tokens.json"
KEPT_BYTES_MAX = 4096


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tokens that `holdfast dev` made for itself, in `tokens.json` of its data directory."""

    admin: str
    edge: str


def first_token(data_dir: Path, name: str, *, development: bool) -> str:
    """A token with every right, called `name`; its text is nowhere else.

    A control plane may be running on the same directory. Raises `Unavailable` without signing
    keys, unless `development` makes them, and `Damaged` for stores that are not what was written.
    """
    # A warm start reads what was kept, and has no use for a control plane's weight.
    from holdfast.apps.control.parts import open_parts
    from holdfast.apps.control.plane import Control

    settings = ControlSettings(data_dir=data_dir, development=development)
    control = Control(settings, open_parts(data_dir, development=development), time.time)
    try:
        return control.first_token(name)
    finally:
        control.close()


def kept_tokens(data_dir: Path) -> Kept | None:
    """The tokens of an earlier start; none at the first. Raises `Damaged`."""
    path = data_dir / KEPT
    try:
        body = path.read_bytes()
        return msgspec.json.decode(body[:KEPT_BYTES_MAX], type=Kept)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise Damaged(f"{path} can't be read ({error}): delete it, and new ones are made") from None
