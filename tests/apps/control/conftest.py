"""A control plane in memory for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from a_control_plane import Clock, Plane
from litestar.testing import TestClient

from holdfast.adapters.signing import Keys
from holdfast.apps.control.app import create_app
from holdfast.apps.control.parts import memory_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.settings import ControlSettings


@pytest.fixture
def settings() -> ControlSettings:
    return ControlSettings(development=True, requests_per_s_max=100_000, log_level="error")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def plane(tmp_path: Path, settings: ControlSettings, clock: Clock) -> Iterator[Plane]:
    keys = Keys.init(tmp_path, development=True)
    control = Control(settings, memory_parts(keys), clock)
    app = create_app(control)
    with TestClient(app) as client:
        yield Plane(control, app, client)
