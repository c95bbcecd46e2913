"""One node for each test that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.engine.a_node import Node


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.view.close()
