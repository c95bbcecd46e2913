"""The commands of signing keys: `keys init`, `keys rotate`, `keys show`."""

from __future__ import annotations

import click


@click.group()
def keys() -> None:
    """Look after signing keys: the root, and the keys it delegates to."""
