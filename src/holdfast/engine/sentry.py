"""A running node's eye on its own journal: what was seen of it must still be there, as it was.

Consumers report the journal heads that signed statements named (`engine.fleet`), and the node
itself remembers heads that it stood at. Each look reads those entries again from the store: one
that is gone, or another one, means that somebody rewrote the store beneath us.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from holdfast.core.audit import Finding, Seen, against_seen
from holdfast.core.errors import Damaged
from holdfast.core.model import Head
from holdfast.ports import Journal

OWN_MAX: Final = 256
"""Heads of its own that a node remembers."""
SETTLE_LOOKS: Final = 2
"""Looks at which a head above ours must be missing before it counts: other nodes may be ahead."""


class Sentry:
    """Thread-safe. `witnessed()` gives heads with how many consumers saw each, `own()` our head.

    `findings` are those of the last look.
    """

    def __init__(
        self,
        journal: Journal,
        witnessed: Callable[[], Mapping[Head, int]],
        own: Callable[[], Head],
    ) -> None:
        self._journal = journal
        self._witnessed = witnessed
        self._own = own
        self._lock = threading.Lock()
        self._remembered: OrderedDict[Head, None] = OrderedDict()
        self._ahead: dict[Head, int] = {}
        self.findings: tuple[Finding, ...] = ()
        self.looks = 0

    def look(self) -> tuple[Finding, ...]:
        """Read all that was seen again; the findings that the last look had not.

        Raises `Unavailable` when the store does not answer.
        """
        with self._lock:
            known = {(one.code, one.revision) for one in self.findings}
            self.findings = tuple(self._look())
            self.looks += 1
            return tuple(one for one in self.findings if (one.code, one.revision) not in known)

    def _look(self) -> Iterator[Finding]:
        seen = [Seen(head.revision, head.hash, "this node", False) for head in self._own_heads()]
        for head, count in self._witnessed().items():
            consumers = f"{count} consumer" + ("" if count == 1 else "s")
            seen.append(Seen(head.revision, head.hash, consumers, False))
        last = self._journal.head()
        hashes = {last.revision: last.hash}
        settled = []
        for one in seen:
            if one.revision <= last.revision:
                if one.revision not in hashes and (found := self._hash_at(one.revision)):
                    hashes[one.revision] = found
                settled.append(one)
            elif self._stays_ahead(Head(one.revision, one.hash)):
                settled.append(one)
        self._ahead = {
            head: looks for head, looks in self._ahead.items() if head.revision > last.revision
        }
        yield from against_seen(hashes, settled)

    def _own_heads(self) -> list[Head]:
        self._remembered[self._own()] = None
        while len(self._remembered) > OWN_MAX:
            self._remembered.popitem(last=False)
        return [head for head in self._remembered if head.revision]

    def _hash_at(self, revision: int) -> str:
        try:
            for entry in self._journal.read(revision - 1, 1):
                return entry.hash if entry.revision == revision else ""
        except Damaged:
            return ""
        return ""

    def _stays_ahead(self, head: Head) -> bool:
        looks = self._ahead[head] = self._ahead.get(head, 0) + 1
        return looks >= SETTLE_LOOKS
