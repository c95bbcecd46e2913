"""What stands before the first request: the first tokens, issued beside the stores themselves.

Everything later goes through the API, with a token. This goes through the same write door, on the
machine that has the data directory: whoever can write there needs no token to do harm.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from holdfast.apps.dev import write_private
from holdfast.apps.lean import starting
from holdfast.apps.settings import ControlSettings
from holdfast.apps.store_urls import shown
from holdfast.core.errors import Damaged

if TYPE_CHECKING:
    from holdfast.apps.control.plane import Control

KEPT = "tokens.json"
KEPT_BYTES_MAX = 4096


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tokens that `holdfast dev` made for itself, in `tokens.json` of its data directory."""

    admin: str
    edge: str


def first_token(
    data_dir: Path, name: str, store: str = "", password_file: Path | None = None
) -> str:
    """A token with every right, called `name`; its text is nowhere else.

    Control planes may be running on the same store. Raises `Invalid` for a store's URL that can't
    be meant, `Unavailable` without signing keys or when the store does not answer, and `Damaged`
    for stores that are not what was written.
    """
    with _beside(data_dir, store, password_file, development=False) as control:
        return control.first_token(name)


def make_tokens(data_dir: Path, store: str = "", password_file: Path | None = None) -> Kept:
    """The tokens of `holdfast dev`, kept for its next start; signing keys are made, too.

    Raises as `first_token` does.
    """
    with _beside(data_dir, store, password_file, development=True) as control:
        kept = Kept(
            admin=control.first_token("holdfast dev"),
            edge=control.first_token("holdfast dev edge", "follow"),
        )
    write_private(data_dir / _kept_in(store), msgspec.json.encode(kept))
    return kept


@contextlib.contextmanager
def _beside(
    data_dir: Path, store: str, password_file: Path | None, *, development: bool
) -> Iterator[Control]:
    """A control plane on the stores, for as long as it takes."""
    # A warm start reads what was kept, and has no use for a control plane's weight.
    with starting():
        from holdfast.apps.control.parts import open_parts
        from holdfast.apps.control.plane import Control

    settings = ControlSettings(data_dir=data_dir, store=store, development=development)
    parts = open_parts(data_dir, development=development, store=store, password_file=password_file)
    control = Control(settings, parts, time.time)
    try:
        yield control
    finally:
        control.close()


def kept_tokens(data_dir: Path, store: str = "") -> Kept | None:
    """The tokens of an earlier start on that store; none at the first. Raises `Damaged`."""
    path = data_dir / _kept_in(store)
    try:
        body = path.read_bytes()
        return msgspec.json.decode(body[:KEPT_BYTES_MAX], type=Kept)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise Damaged(f"{path} can't be read ({error}): delete it, and new ones are made") from None


def _kept_in(store: str) -> str:
    """The file's name: tokens stand in one store, and are none in another."""
    if not store:
        return KEPT
    return f"tokens-{hashlib.sha256(shown(store).encode()).hexdigest()[:12]}.json"
