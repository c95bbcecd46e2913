"""Living through `fork`: what has threads and connections is renewed in the child.

No HTTP client survives a fork with a warm pool: parent and child would read each other's answers.
And no lock is safe that another thread may hold at that moment, an import's lock least of all: so
the slow import of the HTTP stack, which a thread does after the start, keeps a fork waiting.

`logging` is imported first: it holds its own lock over a fork, and the import that is waited for
needs that one. Hooks before a fork run last one first, so that this module's wait comes earlier.
"""

from __future__ import annotations

import logging as _  # noqa: F401  before the hooks: see above
import os
import threading
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol
from weakref import WeakSet

FORK_WAIT_S: Final = 5.0


class Renewed(Protocol):
    def renew(self) -> None:
        """Called in the child, in its only thread."""


class _Forks:
    def __init__(self) -> None:
        self.members: WeakSet[Any] = WeakSet()
        self.importing = threading.Lock()
        self._waited = False
        os.register_at_fork(
            before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child
        )

    def _before(self) -> None:
        self._waited = self.importing.acquire(timeout=FORK_WAIT_S)

    def _in_parent(self) -> None:
        if self._waited:
            self.importing.release()

    def _in_child(self) -> None:
        self.importing = threading.Lock()
        for member in list(self.members):
            member.renew()


_forks: Final = _Forks()


def making() -> AbstractContextManager[bool]:
    """Held while something is made that threads must not make at the same time; no fork then."""
    return _forks.importing


def survive(member: Renewed) -> None:
    """Renew `member` in every child, as long as it lives."""
    _forks.members.add(member)


def import_http() -> Any:
    """The HTTP adapter's module, imported while no fork can happen."""
    with _forks.importing:
        from holdfast.adapters import http_source  # late: urllib3 takes longer than all else

        return http_source


def import_reports() -> Any:
    """The same for the adapter that sends reports."""
    with _forks.importing:
        from holdfast.adapters import http_reports  # late: as above

        return http_reports
