"""Running services for the end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.processes import CONTOSO, DEMO_SHOP, Dev


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    """Start `holdfast dev` with these arguments; all are stopped at the end."""
    started: list[Dev] = []

    def one(*arguments: str, data_dir: Path = tmp_path / "data", **options: Any) -> Dev:
        started.append(Dev(data_dir, *arguments, **options))
        return started[-1]

    yield one
    for each in started:
        each.stop()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """The demo shop and Contoso, open for reads; shared by the tests of a module."""
    running = Dev(
        tmp_path_factory.mktemp("shop") / "data",
        *("--open", "--import", str(DEMO_SHOP), "--service", "demo-shop", str(CONTOSO)),
    )
    yield running
    running.stop()
