"""For every test: no property depends on how fast the machine is, and no log outlives its test."""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:  # loaded by those who ask for a server
    from holdfast.gameday.etcd import EtcdCluster
    from holdfast.gameday.postgres import Postgres

settings.register_profile("holdfast", deadline=None)
settings.load_profile("holdfast")

_schemas = itertools.count()
_prefixes = itertools.count()


@pytest.fixture(autouse=True)
def _the_logs_as_they_were() -> Iterator[None]:
    """A command that runs in the test's process sends all logs to that test's stderr, which is
    closed when a thread of a later one has something to say."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One PostgreSQL for all tests of a process. Who breaks things starts one of its own."""
    from holdfast.gameday.postgres import Postgres

    with Postgres(settings={"fsync": "off"}) as server:
        yield server


@pytest.fixture(scope="session")
def etcd_cluster() -> Iterator[EtcdCluster]:
    """One etcd for all tests of a process. Who breaks things starts one of its own."""
    from holdfast.gameday.etcd import EtcdCluster

    memory = Path("/dev/shm")  # noqa: S108 - in the place of a disk that all tests wait for
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory,
        EtcdCluster(Path(directory) / "etcd") as cluster,
    ):
        yield cluster


@pytest.fixture
def etcd_url(etcd_cluster: EtcdCluster) -> str:
    """A store that is nobody else's."""
    return f"{etcd_cluster.url}/test-{next(_prefixes)}?timeout_s=20"


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> str:
    """A store that is nobody else's."""
    return f"{postgres_server.url}?schema=test_{next(_schemas)}&timeout_s=20"
