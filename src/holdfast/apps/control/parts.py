"""What a control plane stands on: its stores and its keys, durable in a directory or in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from holdfast.adapters.memory import (
    MemoryBlobs,
    MemoryDigests,
    MemoryJournal,
    MemoryProposals,
)
from holdfast.adapters.memory_samples import MemorySamples
from holdfast.adapters.mending_digests import MendingDigests
from holdfast.adapters.signing import CHAIN, Keys
from holdfast.adapters.sqlite_blobs import SqliteBlobs
from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.adapters.sqlite_proposals import SqliteProposals
from holdfast.adapters.sqlite_samples import SqliteSamples
from holdfast.apps.control.unusable import UnusableBlobs, UnusableProposals
from holdfast.apps.observe import logger
from holdfast.core.errors import Damaged, HoldfastError
from holdfast.ports import Blobs, Digests, Journal, Proposals, Samples

KEYS = "keys"
"""The signing keys' folder in a data directory."""

_log = logger("holdfast.control")


class Parts(msgspec.Struct, frozen=True):
    """`close` closes the stores, once."""

    journal: Journal
    blobs: Blobs
    proposals: Proposals
    digests: Digests
    samples: Samples
    keys: Keys
    close: Callable[[], None]


def open_parts(data_dir: Path, *, development: bool) -> Parts:
    """The stores in `data_dir`, made when they are missing.

    Signing keys are made in `development` only, and labelled so. Raises `Unavailable` without
    keys, `Damaged` for a journal that is not what was written; stores beside it that are damaged
    cost what they hold, and no more.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = load_keys(data_dir, development=development)
    with contextlib.ExitStack() as opened:
        journal = SqliteJournal(data_dir / "journal.db")
        opened.callback(journal.close)
        blobs = _blobs(data_dir / "blobs.db", opened)
        proposals = _proposals(data_dir / "proposals.db", opened)
        digests = MendingDigests(data_dir / "digests.db", _begun_anew)
        opened.callback(digests.close)
        samples = _samples(data_dir / "samples.db")
        opened.callback(samples.close)
        return Parts(journal, blobs, proposals, digests, samples, keys, opened.pop_all().close)


def _blobs(path: Path, opened: contextlib.ExitStack) -> Blobs:
    try:
        blobs = SqliteBlobs(path)
    except Damaged as error:
        _log.error("member lists of long segments can't be read", error=str(error))
        return UnusableBlobs(error)
    opened.callback(blobs.close)
    return blobs


def _proposals(path: Path, opened: contextlib.ExitStack) -> Proposals:
    try:
        proposals = SqliteProposals(path)
    except Damaged as error:
        _log.error("changes that wait can't be read", error=str(error))
        return UnusableProposals(error)
    opened.callback(proposals.close)
    return proposals


def _begun_anew(error: Damaged) -> None:
    _log.error("the record of first digests is begun anew, the rotten one kept", error=str(error))


def _samples(path: Path) -> Samples:
    """Expendable: a file that can't be used must not keep a control plane from starting."""
    try:
        return SqliteSamples(path)
    except HoldfastError as error:
        _log.error("samples are kept in memory only", code=error.code, error=str(error))
        return MemorySamples()


def memory_parts(keys: Keys) -> Parts:
    """Stores that end with the process."""
    journal = MemoryJournal()
    return Parts(
        journal=journal,
        blobs=MemoryBlobs(),
        proposals=MemoryProposals(),
        digests=MemoryDigests(),
        samples=MemorySamples(),
        keys=keys,
        close=journal.close,
    )


def load_keys(data_dir: Path, *, development: bool) -> Keys:
    """Raises `Unavailable` when there are none and none may be made."""
    folder = data_dir / KEYS
    if development and not (folder / CHAIN).exists():
        _log.warning("made development signing keys", folder=str(folder))
        return Keys.init(folder, development=True)
    return Keys.load(folder)
