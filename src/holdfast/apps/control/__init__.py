"""The control plane: the HTTP API of the write door, and an upstream for edges.

    serve(settings)            one process, until it is told to stop
    create_app(control)        the ASGI application, for tests and for other servers
    Control(settings, parts, clock)

`routes` has the API by noun; `schemas` its bodies; `desk` and `reading` what they do, on threads.
"""

from __future__ import annotations

from holdfast.apps.settings import ControlSettings

__all__ = ["serve"]


def serve(settings: ControlSettings) -> None:
    """Run a control plane in this process until SIGTERM, SIGINT or SIGHUP.

    Raises `Unavailable` without signing keys and `Damaged` for stores that are not what was
    written, both before anything listens.
    """
    # The API's framework takes long to import, and whoever wants a schema does not need it.
    from holdfast.apps.control.server import serve as serve_until_stopped

    serve_until_stopped(settings)
