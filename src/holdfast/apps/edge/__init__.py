"""The edge: a follower with an HTTP face. It serves configurations when all else is dead."""

from __future__ import annotations

from holdfast.apps.settings import EdgeSettings


def serve(settings: EdgeSettings) -> None:
    """Run an edge until SIGTERM or SIGINT.

    Raises `Invalid` for settings that can't be meant, `Unavailable` for an address that is taken.
    """
    # The command line reads this module; uvicorn and the metrics load when they are needed.
    from holdfast.apps.edge.life import run

    run(settings)
