"""`holdfast dev`: what it starts, what it makes when it is missing, and what it says.

A first start makes keys, tokens, the environment, and takes the given files over. A later start
finds all that and leaves every service as it is.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from holdfast.apps.settings import ControlSettings, EdgeSettings

READY_S = 60.0
"""A first start on a slow, busy machine; a warm one takes a second."""
CONTROL = "control plane"
EDGE = "edge"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `holdfast dev`."""

    data_dir: Path
    control_port: int
    edge_port: int
    host: str
    imports: Path | None
    service: str
    environment: str
    open_reads: bool
    log_level: str
    paths: tuple[Path, ...]

    def control_settings(self) -> ControlSettings:
        return ControlSettings(
            data_dir=self.data_dir,
            host=self.host,
            port=self.control_port,
            open_reads=self.open_reads,
            development=True,
            log_level=self.log_level,
        )

    def edge_settings(self, token: str) -> EdgeSettings:
        return EdgeSettings(
            upstreams=(url_of(self.host, self.control_port),),
            token=token,
            cache_dir=self.data_dir / "edge",
            host=self.host,
            port=self.edge_port,
            open_reads=self.open_reads,
            log_level=self.log_level,
        )


def url_of(host: str, port: int) -> str:
    """How this machine reaches a server that listens on `host`."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  listened to, not by us
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
