"""Addresses of host names, found within a time: `getaddrinfo` itself knows no bound.

A resolver whose servers are gone takes as long as its own settings say, half a minute and more, and
no call of the operating system ends it. So a name is looked up in a thread of its own, and who asks
waits no longer than he says. What was found last serves when the resolver fails or takes too long:
an address that no longer holds shows when somebody connects to it.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

LOOKUPS_MAX: Final = 8
"""Names that are looked up at the same time, a thread each."""
NAMES_MAX: Final = 1_000
"""Names of which the addresses are kept; the oldest go first."""
ADDRESSES_MAX: Final = 8
"""Of one name; the rest is left out."""

Lookup: TypeAlias = Callable[[str], Iterable[str]]
"""Addresses of a name, best first. Raises `OSError`, or never returns."""


class _Asked:
    """One look-up: `done` is set when it has found something, or failed."""

    __slots__ = ("done", "failure", "found")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.found: tuple[str, ...] = ()
        self.failure = "timed out"

    def end(self, failure: str) -> None:
        self.failure = failure
        self.done.set()


class Names:
    """Thread-safe, and good after a fork: what the parent was looking up, a child looks up anew."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._known: dict[str, tuple[str, ...]] = {}
        self._asked: dict[tuple[int, str], _Asked] = {}

    def addresses(self, host: str, within_s: float) -> tuple[str, ...]:
        """Where the host is, best first. Raises `OSError`.

        With addresses of an earlier look-up, half the time is waited for new ones, and none at all
        while the one before has no end.
        """
        if _is_address(host):
            return (host,)
        known = self._known.get(host, ())
        asked, begun = self._ask(host)
        patience_s = within_s if not known else within_s / 2 if begun else 0.0
        asked.done.wait(patience_s)
        if found := asked.found or known:
            return found
        raise OSError(f"no address of {host}: {asked.failure}")

    def _ask(self, host: str) -> tuple[_Asked, bool]:
        """The look-up that is under way, and whether it began now."""
        mine, process = _Asked(), os.getpid()
        asked = self._asked.setdefault((process, host), mine)
        if asked is not mine:
            return asked, False
        if sum(owner == process for owner, _ in tuple(self._asked)) > LOOKUPS_MAX:
            self._asked.pop((process, host), None)
            asked.end(f"{LOOKUPS_MAX} other names are being looked up")
            return asked, True
        thread = threading.Thread(
            target=self._run, args=(process, host, asked), name="holdfast-names", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # the host has no thread left
            self._asked.pop((process, host), None)
            asked.end(str(error))
        return asked, True

    def _run(self, process: int, host: str, asked: _Asked) -> None:
        failure = "the name has none"
        try:
            asked.found = tuple(self._lookup(host))[:ADDRESSES_MAX]
            if asked.found:
                self._keep(host, asked.found)
        except (OSError, UnicodeError) as error:
            failure = str(error)
        finally:
            self._asked.pop((process, host), None)
            asked.end(failure)

    def _keep(self, host: str, found: tuple[str, ...]) -> None:
        self._known.pop(host, None)
        self._known[host] = found
        for oldest in tuple(self._known)[:-NAMES_MAX]:
            self._known.pop(oldest, None)


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return True
    return False


def _by_the_system(host: str) -> Iterable[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return dict.fromkeys(str(place[0]) for *_, place in found)


NAMES: Final = Names(_by_the_system)
"""Of this process: its threads are bounded together."""
