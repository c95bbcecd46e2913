"""What an edge answers from: the active generation of each subject, one reference each.

An activation swaps one entry; who is in the middle of an answer finishes it on the old one. The
entries are written by the follower's thread and read by the event loop, without a lock: a
dictionary's single assignments and look-ups are atomic in CPython.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from holdfast.apps.edge.bulk import Bulk
from holdfast.core.evaluate import Evaluator
from holdfast.core.model import Subject
from holdfast.core.sampling import Sampler
from holdfast.core.snapshot import Snapshot, pushed_keys
from holdfast.sdk.follower import draw


class Active:
    """One subject's active generation.

    `name` is "environment/service", as in paths. `activated_s` is in unix seconds. `stale_age_s`
    is the age of the newest proof that this is the newest revision, set only while that is older
    than the snapshot's pacing allows, none else; it is renewed every second.
    """

    __slots__ = (
        "activated_s",
        "bulk",
        "digest",
        "evaluator",
        "name",
        "pushed",
        "revision",
        "revision_header",
        "sampler",
        "snapshot",
        "stale_age_s",
        "subject",
    )

    def __init__(
        self, snapshot: Snapshot, digest: str, evaluator: Evaluator, activated_s: float
    ) -> None:
        self.subject = snapshot.subject
        self.name = str(self.subject)
        self.pushed = tuple(pushed_keys(snapshot))
        self.snapshot = snapshot
        self.digest = digest
        self.evaluator = evaluator
        self.bulk = Bulk(snapshot, evaluator)
        self.revision = snapshot.holdfast.revision
        self.revision_header = (b"holdfast-revision", b"%d" % self.revision)
        self.activated_s = activated_s
        self.stale_age_s: int | None = None
        self.sampler = Sampler(self.subject, draw)

    def stale_header(self) -> tuple[bytes, bytes]:
        return (b"holdfast-stale", b"true; age=%d" % (self.stale_age_s or 0))


class Table:
    """All active generations, one for each subject."""

    def __init__(
        self, sampler: Callable[[Subject], Sampler] = lambda subject: Sampler(subject, draw)
    ) -> None:
        """`sampler` makes the sampler of a subject that is here for the first time."""
        self._sampler = sampler
        self._active: dict[Subject, Active] = {}
        self.epoch = 0
        """Counts activations: whatever was derived from an older table is void."""
        self.closed = False

    def put(self, active: Active) -> None:
        if not self.closed:
            before = self._active.get(active.subject)
            # One that was only rehearsed until now has seen nobody.
            active.sampler = before.sampler if before else self._sampler(active.subject)
            active.sampler.allow(active.snapshot.holdfast.attributes)
            self._active[active.subject] = active
            self.epoch += 1

    def drop(self, subject: Subject) -> Active | None:
        """Answer the subject no more, until it is put again; what was there."""
        dropped = self._active.pop(subject, None)
        self.epoch += 1
        return dropped

    def close(self) -> None:
        """Hold nothing from now on, for good."""
        self.closed = True
        self._active = {}
        self.epoch += 1

    def get(self, subject: Subject) -> Active | None:
        return self._active.get(subject)

    def __iter__(self) -> Iterator[Active]:
        return iter(tuple(self._active.values()))

    def __len__(self) -> int:
        return len(self._active)
