"""A control plane in memory for each test."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from a_control_plane import Clock, Plane
from litestar.testing import TestClient

from holdfast.adapters.signing import Keys
from holdfast.apps.control import plane as plane_module
from holdfast.apps.control.app import create_app
from holdfast.apps.control.parts import memory_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.control.stalls import Stalls
from holdfast.apps.settings import ControlSettings

PATIENT_S = 60.0


@pytest.fixture(autouse=True)
def _a_busy_machine_is_no_store_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever writes here is refused when a thread, or the disk, is held up for a second."""
    monkeypatch.setattr(plane_module, "Stalls", partial(Stalls, patience_s=PATIENT_S))


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
