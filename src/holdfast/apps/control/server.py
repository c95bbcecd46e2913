"""One control plane as a process: a listener around the application, drained when told to stop."""

from __future__ import annotations

import time

import msgspec

from holdfast.apps.address import Address, bind
from holdfast.apps.control.app import create_app
from holdfast.apps.control.parts import open_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.listen import Connection, Listener
from holdfast.apps.observe import start_logs
from holdfast.apps.open_files import room_for
from holdfast.apps.settings import ControlSettings
from holdfast.apps.sole_user import sole_user


class HeadsOnly(Connection):
    """Times the arrival of heads only: bodies have the deadlines of `traffic`, by their route."""

    def arriving(self) -> bool:
        return self.in_head


def serve(settings: ControlSettings) -> None:
    """Run until SIGTERM, SIGINT or SIGHUP; a second signal ends it at once.

    Raises `Unavailable` for an address or a data directory that is taken, before anything is opened
    or made.
    """
    start_logs(settings.log_level, "control")
    address = Address(settings.host, settings.port, shutdown_s=settings.shutdown_s)
    address = msgspec.structs.replace(address, connections_max=room_for(address.connections_max))
    with (
        bind(settings.host, settings.port) as socket,
        sole_user(settings.data_dir, "control"),
    ):
        parts = open_parts(
            settings.data_dir,
            development=settings.development,
            store=settings.store,
            password_file=settings.store_password_file,
        )
        listening = msgspec.structs.replace(settings, port=socket.getsockname()[1])
        control = Control(listening, parts, time.time)
        listener = Listener(
            create_app(control), address, control.drain, HeadsOnly, lifespan=True, bound=socket
        )
        control.metrics.limits(listener.bounds)
        listener.run()
