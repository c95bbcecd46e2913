"""One URL chooses the store: `open_stores`. What the engines need is imported when it is chosen."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypeAlias

from holdfast.apps.store_urls import JOURNAL, completed, directory_of, problems_of_store, shown
from holdfast.core.errors import Damaged, Invalid, Unavailable
from holdfast.ports import Stores

Told: TypeAlias = Callable[[str, Damaged], None]
"""(what can't be had, why): damage that is lived with."""

_DRIVER: Final = "psycopg"
"""What PostgreSQL is spoken to with; the extra `postgres` brings it."""


def open_stores(
    url: str,
    *,
    password_file: Path | None = None,
    told: Told = lambda *_: None,
    there: bool = False,
) -> Stores:
    """The stores at `url` (`apps.store_urls`), made when they are missing.

    With `there`, files and tables that are missing are not made. Raises `Invalid` with all that is
    wrong with the URL, `Unavailable` when nobody answers or a package is missing, `Damaged` for a
    journal that is not what was written.
    """
    if problems := problems_of_store(url, password_file):
        raise Invalid(problems)
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        from holdfast.adapters.sqlite_store import SqliteStore

        directory = directory_of(url)
        if there and not (directory / JOURNAL).exists():
            raise Unavailable(f"{directory} holds no {JOURNAL}: name the directory of one")
        return SqliteStore(directory, told)
    if scheme == "memory":
        from holdfast.adapters.memory_store import MemoryStore

        return MemoryStore()
    whole = completed(url, password_file)
    if scheme == "postgresql":
        _check_driver(url)
        from holdfast.adapters.postgres_store import PostgresStore

        return PostgresStore(whole, there=there)
    from holdfast.adapters.etcd_store import EtcdStore

    return EtcdStore(whole)


def check_unmarked(stores: Stores, url: str) -> None:
    """Raise `Unavailable` for a store that something is under way in: no node may serve from it."""
    if text := stores.marked():
        raise Unavailable(f"{shown(url)} must not be served from: {text}")


def _check_driver(url: str) -> None:
    if find_spec(_DRIVER) is None:
        raise Unavailable(
            f"{shown(url)} needs the package {_DRIVER}: pip install 'holdfast[postgres]'"
        )
