"""What a control plane stands on: its stores and its keys, durable in a directory or in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from holdfast.adapters.memory_samples import MemorySamples
from holdfast.adapters.memory_store import MemoryStore
from holdfast.adapters.signing import CHAIN, Keys
from holdfast.adapters.spared_digests import SparedDigests
from holdfast.adapters.sqlite_samples import SqliteSamples
from holdfast.apps.observe import logger
from holdfast.apps.store_urls import url_of
from holdfast.apps.stores import check_unmarked, open_stores
from holdfast.core.errors import Damaged, HoldfastError
from holdfast.core.model import JSON
from holdfast.ports import Blobs, Digests, Journal, Leases, Proposals, Samples, Stores

KEYS = "keys"
"""The signing keys' folder in a data directory."""

_log = logger("holdfast.control")


class Parts(msgspec.Struct, frozen=True):
    """`status` tells how the store is, as `Stores` does; `close` closes the stores, once."""

    journal: Journal
    blobs: Blobs
    proposals: Proposals
    digests: Digests
    leases: Leases
    samples: Samples
    keys: Keys
    status: Callable[[], Mapping[str, JSON]]
    close: Callable[[], None]


def open_parts(
    data_dir: Path, *, development: bool, store: str = "", password_file: Path | None = None
) -> Parts:
    """The stores that the URL `store` names, else those in `data_dir`, made when they are missing.

    Keys and samples are in `data_dir` whatever the store is. Signing keys are made in `development`
    only, and labelled so. Raises `Invalid` for a URL that can't be meant, `Unavailable` without
    keys, and for a store that does not answer or that is marked, `Damaged` for a journal that is
    not what was written; what beside it is damaged costs what it holds, and no more.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = load_keys(data_dir, development=development)
    url = store or url_of(data_dir)
    with contextlib.ExitStack() as opened:
        stores = open_stores(url, password_file=password_file, told=_damaged)
        opened.callback(stores.close)
        check_unmarked(stores, url)
        samples = _samples(data_dir / "samples.db")
        opened.callback(samples.close)
        return _parts(stores, samples, keys, opened.pop_all().close)


def _parts(stores: Stores, samples: Samples, keys: Keys, close: Callable[[], None]) -> Parts:
    return Parts(
        journal=stores.journal,
        blobs=stores.blobs,
        proposals=stores.proposals,
        digests=SparedDigests(stores.digests, _without_digests),
        leases=stores.leases,
        samples=samples,
        keys=keys,
        status=stores.status,
        close=close,
    )


def _without_digests(error: Damaged) -> None:
    _log.error("digests are not compared with those of other nodes", error=str(error))


def _damaged(what: str, error: Damaged) -> None:
    _log.error(what, error=str(error))


def _samples(path: Path) -> Samples:
    """Expendable: a file that can't be used must not keep a control plane from starting."""
    try:
        return SqliteSamples(path)
    except HoldfastError as error:
        _log.error("samples are kept in memory only", code=error.code, error=str(error))
        return MemorySamples()


def memory_parts(keys: Keys) -> Parts:
    """Stores that end with the process."""
    stores = MemoryStore()
    return _parts(stores, MemorySamples(), keys, stores.close)


def load_keys(data_dir: Path, *, development: bool) -> Keys:
    """Raises `Unavailable` when there are none and none may be made."""
    folder = data_dir / KEYS
    if development and not (folder / CHAIN).exists():
        _log.warning("made development signing keys", folder=str(folder))
        return Keys.init(folder, development=True)
    return Keys.load(folder)
