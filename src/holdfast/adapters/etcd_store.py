"""All that the nodes of one Holdfast share, in etcd, under one prefix: several can share a cluster.

PREFIX/head, entries/, checkpoints/     the journal (`etcd_journal`)
PREFIX/blobs/, digests/, proposals/     what lies beside it
PREFIX/lease/                           who leads (`etcd_leases`)
PREFIX/mark                             what is under way in the whole store
PREFIX/parts/                           bodies too large for one request (`etcd_records`)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from holdfast.adapters.etcd_address import parse_address
from holdfast.adapters.etcd_blobs import EtcdBlobs
from holdfast.adapters.etcd_digests import EtcdDigests
from holdfast.adapters.etcd_journal import MARK, EtcdJournal
from holdfast.adapters.etcd_leases import EtcdLeases
from holdfast.adapters.etcd_line import EtcdLine
from holdfast.adapters.etcd_proposals import EtcdProposals
from holdfast.adapters.etcd_status import status_of
from holdfast.adapters.etcd_sweep import give_back
from holdfast.adapters.etcd_wire import KeyValue, absent, delete, first, get, holds, put
from holdfast.core.errors import TooLarge
from holdfast.core.model import JSON

MARK_BYTES_MAX: Final = 4096


class EtcdStore:
    """The `Stores` port. `password` stands in for one that the URL (`etcd_address`) does not have.

    Raises `Damaged` for a journal that is not what was written, and `Unavailable`.
    """

    def __init__(self, url: str, password: str = "") -> None:
        self._line = EtcdLine(parse_address(url, password))
        try:
            self.journal = EtcdJournal(self._line)
        except BaseException:
            self._line.close()
            raise
        self.blobs = EtcdBlobs(self._line)
        self.digests = EtcdDigests(self._line)
        self.proposals = EtcdProposals(self._line)
        self.leases = EtcdLeases(self._line)

    @property
    def failures(self) -> int:
        """How often a member did not answer."""
        return self._line.failures

    def mark(self, text: str, was: str) -> bool:
        if len(text.encode()) > MARK_BYTES_MAX:
            raise TooLarge(f"a mark of {len(text.encode())} bytes, at most {MARK_BYTES_MAX}")
        key = self._line.key(MARK)
        stands = holds(key, was.encode()) if was else absent(key)
        write = put(key, text.encode()) if text else delete(key)
        done = self._line.change((stands,), (write,), (get(key),))
        # One that was sent twice, since its answer was lost, finds what it put the first time.
        return done.succeeded or _text(first(done.found[0])) == text

    def marked(self) -> str:
        return _text(self._line.get(MARK)[0])

    def status(self) -> Mapping[str, JSON]:
        return status_of(self._line)

    def compact(self) -> Mapping[str, int]:
        return give_back(self._line)

    def close(self) -> None:
        self.journal.close()
        self._line.close()


def _text(found: KeyValue | None) -> str:
    return found.value.decode(errors="replace") if found else ""
