"""One control plane as a process: uvicorn around the application, drained when told to stop."""

from __future__ import annotations

import math
import socket
import time
from types import FrameType

import uvicorn

from holdfast.apps.control.app import create_app
from holdfast.apps.control.parts import open_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.observe import start_logs
from holdfast.apps.settings import ControlSettings
from holdfast.core.errors import Unavailable

BACKLOG = 1024
KEEP_ALIVE_S = 75


class _Server(uvicorn.Server):
    """Ends the streams as soon as the signal comes: uvicorn would wait for them in vain."""

    def __init__(self, config: uvicorn.Config, control: Control) -> None:
        super().__init__(config)
        self._control = control

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._control.drain()
        super().handle_exit(sig, frame)


def serve(settings: ControlSettings) -> None:
    """Run until SIGTERM or SIGINT; a second signal ends it at once."""
    start_logs(settings.log_level, "control")
    listener = _bind(settings.host, settings.port)
    parts = open_parts(settings.data_dir, development=settings.development)
    control = Control(settings, parts, time.time)
    config = uvicorn.Config(
        create_app(control),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_s),
    )
    _Server(config, control).run(sockets=[listener])


def _bind(host: str, port: int) -> socket.socket:
    """The socket to listen on, before anything is opened or made. Raises `Unavailable`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise Unavailable(f"{host}:{port} can't be used: {error.strerror}") from None
