"""Which contexts a client saw between two reports, without a word on its fast path.

A read of the fast path is one look-up in one table, and nothing may be added to it. So after each
report the table is taken away for a moment: the next reads come the long way, at some microseconds
each, where their contexts are seen. Once enough were seen the table is put back. Contexts of
`report`, `evaluate` and `evaluate_all` are seen all the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from holdfast.core.model import Subject
from holdfast.sdk.follower import Follower, draw

if TYPE_CHECKING:
    from holdfast.core.reports import Sample
    from holdfast.core.sampling import Sampler

WINDOW: Final[dict[str, Any]] = {}
"""Stands for the table while reads are looked at; always empty."""
SEEN_MAX: Final = 32
"""Contexts of one window."""
READS_MAX: Final = 2_000
"""Reads of one window, many of which may be of one context."""


class Sampled:
    """The contexts of one client. Thread-safe; it never raises into a read.

    `open_window` is called in the reporter's thread, after each report.
    """

    def __init__(
        self, follower: Follower, subject: Subject, open_window: Callable[[], None]
    ) -> None:
        self._follower = follower
        self._subject = subject
        self._open_window = open_window
        self._sampler: Sampler | None = None
        self._last: Mapping[str, Any] | None = None
        self._seen = self._reads = 0

    def offer(self, context: Mapping[str, Any]) -> None:
        """A request came with this context."""
        if self._sampler is not None:
            self._sampler.offer(context)

    def read(self, context: Mapping[str, Any]) -> bool:
        """A read of the window came with this context; whether the window has seen enough.

        Reads one after the other with the very same mapping are one request.
        """
        self._reads += 1
        if context is not self._last:
            self._last = context
            self._seen += 1
            self.offer(context)
        return self._seen >= SEEN_MAX or self._reads >= READS_MAX

    def take(self) -> Sequence[Sample]:
        """What was seen since the last time, as it may be told; then a new window is opened."""
        taken = self._sampler.take() if self._sampler is not None else ()
        generation = self._follower.generation(self._subject)
        if generation is not None:
            if self._sampler is None:
                from holdfast.core.sampling import Sampler  # late: no start waits for it

                self._sampler = Sampler(self._subject, draw)
            self._sampler.allow(generation.snapshot.holdfast.attributes)
            self._last, self._seen, self._reads = None, 0, 0
            self._open_window()
        return taken
