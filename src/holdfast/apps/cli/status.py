"""`holdfast status`: how the control plane and the edges are, and how old what they have is."""

from __future__ import annotations

import click


@click.command()
def status() -> None:
    """Show the control plane, the edges, and how fresh each service is.

    \b
    Examples:
      holdfast status
    """
