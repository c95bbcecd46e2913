"""What a control plane looks at again and again: no error of a look is the last one."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from litestar.testing import TestClient
from test_control_plane import eventually

from holdfast.adapters.signing import Keys
from holdfast.apps.control import plane
from holdfast.apps.control.app import create_app
from holdfast.apps.control.parts import memory_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.settings import ControlSettings
from holdfast.core.errors import Unavailable


@pytest.mark.parametrize("error", [Unavailable("nobody answers"), KeyError("a fault of ours")])
def test_a_look_that_fails_is_not_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Else nobody saw that the journal is rewritten, or that the store is sick, from then on."""
    looks: list[str] = []

    def status() -> dict[str, object]:
        looks.append("store")
        raise error

    def look() -> tuple[()]:
        looks.append("journal")
        raise error

    monkeypatch.setattr(plane, "AUDIT_S", 0.01)
    monkeypatch.setattr(plane, "LOOK_S", 0.01)
    parts = memory_parts(Keys.init(tmp_path, development=True))
    parts = msgspec.structs.replace(parts, status=status)
    control = Control(ControlSettings(development=True), parts, time.time)
    monkeypatch.setattr(control.sentry, "look", look)
    with TestClient(create_app(control)) as client:
        eventually(lambda: looks.count("store") > 1 and looks.count("journal") > 1)
        assert "holdfast_store_healthy 0.0" in client.get("/metrics").text
