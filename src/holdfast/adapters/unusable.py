"""In the place of a store beside the journal that can't be opened: its routes say why, no others.

A node starts, serves and commits without the proposals that wait, and without the member lists of
long segments as long as nobody asks for one: consumers have theirs on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

from holdfast.core.errors import Damaged
from holdfast.ports import Proposal, Stored


class UnusableBlobs:
    """The `Blobs` port: every call raises the `Damaged` that opening did."""

    def __init__(self, error: Damaged) -> None:
        self._error = error

    def put(self, body: bytes) -> NoReturn:  # noqa: ARG002  the port's signature
        raise self._error

    def get(self, digest: str) -> NoReturn:  # noqa: ARG002  the port's signature
        raise self._error

    def all(self) -> Iterator[Stored]:
        raise self._error

    def delete(self, stored: Stored) -> NoReturn:  # noqa: ARG002  the port's signature
        raise self._error


class UnusableProposals:
    """The `Proposals` port: calls raise the `Damaged` that opening did; nothing is due."""

    def __init__(self, error: Damaged) -> None:
        self._error = error

    def put(self, proposal: Proposal) -> NoReturn:  # noqa: ARG002  the port's signature
        raise self._error

    def replace(self, old: Proposal, new: Proposal) -> NoReturn:  # noqa: ARG002  as above
        raise self._error

    def get(self, proposal: str) -> NoReturn:  # noqa: ARG002  as above
        raise self._error

    def all(self) -> NoReturn:
        raise self._error

    def due(self, now_s: float) -> Sequence[Proposal]:  # noqa: ARG002  as above
        return ()

    def delete(self, old: Proposal) -> NoReturn:  # noqa: ARG002  as above
        raise self._error
