"""The options of `holdfast dev`, and the settings of its two processes that follow from them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from holdfast.apps.settings import ControlSettings, EdgeSettings


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """As given; the ports are those that were chosen once it runs."""

    data_dir: Path
    store: str = ""
    store_password_file: Path | None = None
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
            store=self.store,
            store_password_file=self.store_password_file,
            host=self.host,
            port=self.control_port,
            open_reads=self.open_reads,
            development=True,
            log_level=self.log_level,
        )

    def edge_settings(self, token: str) -> EdgeSettings:
        return EdgeSettings(
            upstreams=(self.control_url,),
            token=token,
            cache_dir=self.data_dir / "edge",
            host=self.host,
            port=self.edge_port,
            open_reads=self.open_reads,
            log_level=self.log_level,
        )

    @property
    def control_url(self) -> str:
        return _url(self.host, self.control_port)

    @property
    def edge_url(self) -> str:
        return _url(self.host, self.edge_port)


def _url(host: str, port: int) -> str:
    """How this machine reaches a server that listens on `host`."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared, not listened on
    reached = everywhere.get(host, host)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
