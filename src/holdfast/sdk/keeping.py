"""What a follower wants on its disk, and trying again until it is there.

A disk that refuses (full, read-only, faulty) costs the next start, and nothing now: what answers is
in memory. So nobody waits for it. It is told once, it stands in the status until all is written,
and then it is told that it is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Final

from holdfast.core.errors import Unavailable

RETRY_S: Final = 3.0
"""Between two tries; what is refused is at most one write each time."""

_log: Final = logging.getLogger("holdfast")


class Keeping:
    """Owned by the follower's thread; `error`, `failed` and `healed` may be read from any.

    `error` says why the disk does not take what is held, empty while it does. `failed` counts
    refused writes, `healed` how often all was written after one.
    """

    def __init__(self) -> None:
        self.error = ""
        self.failed = 0
        self.healed = 0
        self._waiting: dict[Hashable, Callable[[], None]] = {}
        self._tried_s = float("-inf")

    def attempt(self, what: Hashable, write: Callable[[], None]) -> bool:
        """Write, or have it tried again later in place of what waits under the same name.

        `write` raises `Unavailable` when the disk refuses, and writes what is right by then.
        """
        try:
            write()
        except Unavailable as error:
            self._waiting[what] = write
            self._refused(str(error))
            return False
        self._waiting.pop(what, None)
        if self.error and not self._waiting:
            self._over()
        return True

    def waits(self, what: Hashable) -> bool:
        """Whether that is not on disk as it should be."""
        return what in self._waiting

    def again(self, now_s: float) -> bool:
        """Try what waits, if it is time; whether the disk took all of it after it had refused."""
        if not self._waiting or now_s - self._tried_s < RETRY_S:
            return False
        self._tried_s = now_s
        for what, write in list(self._waiting.items()):
            if not self.attempt(what, write):
                # What is too large for the disk must not keep all others from it.
                self._waiting[what] = self._waiting.pop(what)
                return False
        return True

    def _refused(self, error: str) -> None:
        self.failed += 1
        if not self.error:
            _log.warning("the disk refuses, going on in memory: %s", error)
        self.error = error

    def _over(self) -> None:
        self.error = ""
        self.healed += 1
        _log.warning("the disk takes again what is held")
