"""What stands now, kept in step with the journal: one immutable `Standing`, swapped whole.

It starts from the newest usable checkpoint and the entries after it, then follows: this node's own
commits at once (`prepare`, `install`), other nodes' from a thread that watches. Readers take
`standing` and work on it as long as they like; they take no lock.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from holdfast.core.build import Fragments
from holdfast.core.errors import Damaged, HoldfastError, Invalid
from holdfast.core.lineage import (
    Standing,
    Step,
    decode_standing,
    encode_standing,
    rebuild,
    step,
)
from holdfast.core.model import Entry, Subject
from holdfast.core.reproduce import NotReproducible
from holdfast.core.state import State
from holdfast.engine.agreement import Agreement
from holdfast.ports import Checkpoint, Clock, Journal

Listener: TypeAlias = Callable[[Standing, Mapping[Subject, bytes]], None]
"""(what stands now, the bodies of the snapshots made anew); called in order, under the lock."""

CHECKPOINT_ENTRIES = 256
"""Entries between two checkpoints: at most so many are taken anew after a crash."""
REPLAY_ENTRIES = 64
"""Entries of a replay whose snapshots are compared with the record at once."""
WATCH_S = 0.25
"""The longest that one look at the journal waits, and so about the longest that `close` does."""
_RETRY_S = 1.0


class View:
    """The read model of a journal. Thread-safe.

    `current_s` is when the view last knew that it was in step, in unix seconds; `fault` is what
    keeps it from following, or none. `replayed` counts the entries that the start had to take,
    `checkpoints_failed` the checkpoints that the disk refused. Once `agreement` finds that this
    build makes other bytes than were published, the view stands still for good.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        *,
        agreement: Agreement | None = None,
        checkpoint_entries: int = CHECKPOINT_ENTRIES,
        watch_s: float = WATCH_S,
    ) -> None:
        self._journal = journal
        self.agreement = agreement or Agreement()
        self._clock = clock
        self._checkpoint_entries = checkpoint_entries
        self._watch_s = watch_s
        self._fragments = Fragments()
        self._lock = threading.RLock()
        self._listeners: list[Listener] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.fault: HoldfastError | None = None
        self.checkpoints_failed = 0
        self.standing, self._saved_revision = self._load()
        started = self.standing.state.head.revision
        self._unproven = set(self.standing.live)
        self.current_s = 0.0
        self._begin()
        self.replayed = self.standing.state.head.revision - started

    @property
    def state(self) -> State:
        return self.standing.state

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` after each entry from now on; it must be quick and must not raise."""
        with self._lock:
            self._listeners.append(listener)

    def follow(self) -> None:
        """Start the thread that follows other nodes' commits; `close` ends it."""
        self._thread = threading.Thread(target=self._follow, name="holdfast-view", daemon=True)
        self._thread.start()

    def catch_up(self) -> None:
        """Take all entries that the journal has by now. Raises `NotReproducible`."""
        with self._lock:
            asked_s = self._clock()
            steps: list[Step] = []
            try:
                for entry in self._journal.read(self.state.head.revision):
                    steps.append(self._take(steps[-1].standing if steps else self.standing, entry))
                    if len(steps) == REPLAY_ENTRIES:
                        self._install_all(steps)
                        steps = []
            finally:
                self._install_all(steps)
            self.current_s = asked_s

    def entries(self, after: int) -> Iterator[Entry]:
        """What the journal has after that revision."""
        return self._journal.read(after)

    def prepare(self, entry: Entry) -> Step:
        """All that `entry` would make, without making it.

        Raises `Invalid` for what can't be built, and `NotReproducible` once this build departed.
        The caller keeps `exclusive` from here to `install`.
        """
        self.agreement.guard()
        return step(self.standing, entry, self._fragments)

    def claim(self, *prepared: Step) -> None:
        """Put what was prepared on record: before its entry is appended, and before `install`.

        Of several steps, one after the other, the newest of each subject; the older ones are its
        ancestors by digest. A build that was not proven yet on what stands is so first: what it
        makes would be believed from then on. Raises `NotReproducible` and `Unavailable`.
        """
        try:
            for subject in sorted(self._unproven & self.standing.live):
                self.rebuild(subject, self.standing, self._fragments)
        except NotReproducible as error:
            raise self.agreement.depart(error) from None
        self._claim(prepared)

    def rebuild(self, subject: Subject, standing: Standing, fragments: Fragments) -> bytes:
        """The newest body of a live subject, and its proof that this build makes the same bytes.

        Raises `NotReproducible` when it does not; whoever calls tells `agreement`.
        """
        body = rebuild(standing, subject, fragments)
        self._unproven.discard(subject)
        return body

    def _claim(self, prepared: Sequence[Step]) -> None:
        bodies = {subject: body for one in prepared for subject, body in one.bodies.items()}
        if bodies:
            lineages = prepared[-1].standing.lineages
            self.agreement.claim({one: lineages[one] for one in bodies}, bodies)

    def exclusive(self) -> threading.RLock:
        """The lock under which this view moves."""
        return self._lock

    def install(self, prepared: Step) -> None:
        """Make what was prepared the present: its entry has been appended."""
        with self._lock:
            self.standing = prepared.standing
            self._unproven -= prepared.bodies.keys()
            for listener in self._listeners:
                listener(prepared.standing, prepared.bodies)
        if self._thread is None:  # else the thread does it, and no commit waits for it
            self._save_if_due()

    def save_checkpoint(self) -> None:
        """Keep a checkpoint of what stands now; when the disk refuses, the next one will do."""
        standing = self.standing
        revision = standing.state.head.revision
        if revision == self._saved_revision or self.agreement.departures:
            return
        self._saved_revision = revision
        try:
            self._journal.save_checkpoint(Checkpoint(revision, encode_standing(standing)))
        except HoldfastError:
            self.checkpoints_failed += 1

    def _save_if_due(self) -> None:
        if self.state.head.revision - self._saved_revision >= self._checkpoint_entries:
            self.save_checkpoint()

    def close(self) -> None:
        """Stop following and keep a checkpoint; the journal stays open, it is the caller's."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(self._watch_s + _RETRY_S)
        self.save_checkpoint()

    def _load(self) -> tuple[Standing, int]:
        checkpoint = self._journal.checkpoint()
        if checkpoint is None:
            return Standing(), 0
        try:
            standing = decode_standing(checkpoint.body)
            self._check_on_chain(standing)
        except Damaged:
            return Standing(), 0  # expendable: all of it is in the journal
        return standing, checkpoint.revision

    def _check_on_chain(self, standing: Standing) -> None:
        head = standing.state.head
        for entry in self._journal.read(head.revision - 1, 1):
            if (entry.revision, entry.hash) == (head.revision, head.hash):
                return
        raise Damaged(f"the checkpoint at revision {head.revision} is not of this journal")

    def _begin(self) -> None:
        """Compare what the checkpoint says with the record, then take what came after it.

        A build that departs is no reason not to start: whoever asks is told why nothing comes.
        """
        with contextlib.suppress(NotReproducible):
            self.agreement.claim(self.standing.lineages, {})
            self.catch_up()

    def _install_all(self, steps: list[Step]) -> None:
        if steps:
            self._claim(steps)
        for one in steps:
            self.install(one)

    def _take(self, standing: Standing, entry: Entry) -> Step:
        self.agreement.guard()
        try:
            return step(standing, entry, self._fragments)
        except NotReproducible as error:
            raise self.agreement.depart(error) from None
        except Invalid as error:
            raise Damaged(
                f"entry {entry.revision} was committed, and this version of Holdfast can't build "
                f"its snapshots: run the version that committed it. {error}"
            ) from error

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                asked_s = self._clock()
                if self._journal.watch(self.state.head.revision, self._watch_s):
                    self.catch_up()
                else:
                    self.current_s = asked_s  # a clock that was set back is right from then on
                self.fault = None
                self._save_if_due()
            except HoldfastError as error:
                self.fault = error
                self._stop.wait(_RETRY_S)
            except Exception as error:  # noqa: BLE001  a node that stops following must say so
                self.fault = Damaged(f"entries after {self.state.head.revision}: {error!r}")
                self._stop.wait(_RETRY_S)
