"""What the inside asks of the outside. Each port has one contract suite that all adapters pass.

Adapters raise `core.errors` only: `Unavailable` when the other side does not answer, `Damaged` when
stored bytes are not what was written, `Fenced` for a write in the name of a lease that is not the
newest any more. Nothing here blocks without a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

from holdfast.core.model import JSON, Entry, Head, Subject
from holdfast.core.policies import Approval

if TYPE_CHECKING:  # not loaded by clients that tell nothing
    from holdfast.core.reports import ConsumerReport, Sample

Clock: TypeAlias = Callable[[], float]
"""Unix seconds."""
Sign: TypeAlias = Callable[[str, bytes], bytes]
"""(payload type, payload) -> DSSE envelope as canonical JSON bytes; the key is the signer's."""


class Checkpoint(msgspec.Struct, frozen=True):
    """A folded state at a revision, opaque to the journal; `body` is checked by its digest."""

    revision: int
    body: bytes


class Journal(Protocol):
    """The append-only record of committed changes. Thread-safe; many readers, many writers."""

    def head(self) -> Head: ...

    def append(self, entry: Entry, fence: int = 0) -> None:
        """Append durably: when this returns, the entry survives a crash.

        Raises `Conflict` unless `entry.revision == head.revision + 1` and
        `entry.previous == head.hash`; `Unavailable` when the store can't write (then nothing was
        appended, or the entry shows up whole: the caller reads the head again).

        A `fence` that is not 0 is the token of the lease in whose name this is written: raises
        `Fenced` unless it is that of the newest lease ever given in this store. Checked at one
        moment with the head. Where both are wrong, either error is raised.
        """

    def append_all(self, entries: Sequence[Entry]) -> None:
        """Append one after the other, for who moves a whole journal: as `append` with no fence.

        As many in one transaction as the store takes (hundreds, or some MiB), so that 100,000 take
        minutes at most. When this returns, all of them are durable; when it raises, the first ones
        may be, in order. It alone writes to a store that is marked (`Stores.mark`).
        """

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        """Entries with a revision above `after`, in order, each with its link and hash checked."""

    def watch(self, after: int, timeout_s: float) -> Sequence[Entry]:
        """Entries above `after` as soon as there is one; empty after `timeout_s`."""

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint; older ones but the last two are dropped."""

    def checkpoint(self) -> Checkpoint | None:
        """The newest undamaged checkpoint, or none."""

    def close(self) -> None: ...


class Lease(msgspec.Struct, frozen=True):
    """Who may act for all nodes, for a while. `token` is above that of every holder before.

    `holder` names one process, `url` is where the other nodes reach it.
    """

    token: int
    holder: str
    url: str = ""


class Leases(Protocol):
    """One lease to a store: at most one holder at a time, by the store's own clock. Thread-safe.

    It keeps two nodes from working at the same thing; that none writes who has lost it without
    knowing is the fence's work (`Journal.append`). Every call raises `Unavailable` when the store
    does not answer; a lease may have been given all the same, and then runs out.
    """

    def take(self, holder: str, url: str, ttl_s: float) -> Lease | None:
        """Take the lease, or extend it, for `ttl_s` from now on; none while another one holds it.

        Who holds it keeps its token, and does so after it ran out too, as long as nobody else had
        it since. Anybody else gets a new token: higher than any before, restarts included.
        """

    def current(self) -> Lease | None:
        """The lease that is held now; none when it ran out or was given up, or before the first."""

    def give_up(self, lease: Lease) -> None:
        """Let the next one have it at once. Nothing happens when it is not held any more."""


class Stored(msgspec.Struct, frozen=True):
    """One blob as it lies there. `stamp` is another one after each `put` of it, never reused."""

    digest: str
    bytes: int
    stamp: int


class Blobs(Protocol):
    """Large, immutable bytes under their SHA-256 digest (lower-case hex)."""

    def put(self, body: bytes) -> str:
        """Keep them durably. What is there already is put again, and gets another stamp."""

    def get(self, digest: str) -> bytes | None:
        """The bytes, their digest checked; none when not there."""

    def all(self) -> Iterator[Stored]:
        """Every blob that is there, by digest; bodies are not read."""

    def delete(self, stored: Stored) -> bool:
        """Delete it unless it was put again since `stored` was read; whether it was deleted.

        The stamp is checked in the transaction that deletes: whoever puts a blob keeps it, whatever
        somebody decides who looked before.
        """


class Imprint(msgspec.Struct, frozen=True):
    """What a build made of one subject at one revision.

    `entry` is the hash of that revision's entry, `outline` tells the body's parts apart
    (`core.reproduce`); empty where it is not kept any more.
    """

    subject: Subject
    revision: int
    entry: str
    digest: str
    build: str = ""
    format: int = 1
    outline: bytes = b""


class Digests(Protocol):
    """The first imprint of each snapshot: put if absent, never replaced. Thread-safe.

    A snapshot is named by subject, revision, entry and format. Of each subject the newest few are
    kept, and the outline of the newest alone: older digests stand in the journal.
    """

    def put(self, made: Sequence[Imprint]) -> Sequence[Imprint]:
        """Keep those that are not there, durably and all at once; what stands for each, in order.

        Raises `Unavailable` when the store can't write; then none was kept.
        """

    def all(self) -> Sequence[Imprint]:
        """Every imprint that is kept, by subject and revision."""


class Rejection(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody's no: a rejected change can't be committed."""

    actor: str
    at_ms: int
    reason: str = ""


class Schedule(msgspec.Struct, frozen=True, omit_defaults=True):
    """When to commit, and in whose name: by the rights that the token has by then."""

    at_s: int
    token: str
    actor: str


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why the change was not committed when its time had come."""

    at_ms: int
    code: str
    message: str


class Proposal(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change that waits: its canonical bytes under the digest that approvals are bound to.

    `author` is who wrote it, for people; `token` and `name` are those of the author's token.
    """

    proposal: str
    digest: str
    change: bytes
    author: str
    at_ms: int
    token: str = ""
    name: str = ""
    approvals: tuple[Approval, ...] = ()
    rejection: Rejection | None = None
    schedule: Schedule | None = None
    failure: Failure | None = None


class Proposals(Protocol):
    """Changes proposed and not yet committed; bounded, the oldest goes first. Thread-safe."""

    def put(self, proposal: Proposal) -> None: ...

    def replace(self, old: Proposal, new: Proposal) -> bool:
        """Put `new` in the place of `old`, whose id it has; false when that is not there so."""

    def get(self, proposal: str) -> Proposal | None: ...

    def all(self) -> Sequence[Proposal]:
        """Oldest first."""

    def due(self, now_s: float) -> Sequence[Proposal]:
        """Those scheduled for a time that has come, the earliest first."""

    def delete(self, old: Proposal) -> bool:
        """Take `old` away; false when that is not there so."""


class Stores(Protocol):
    """All that the nodes of one Holdfast share, on one engine. Thread-safe.

    A mark says that something is under way in the whole store: it is being filled by a copy or a
    restore, or frozen because it was moved. Any text but the empty one is a mark. It is kept
    durably, for all nodes, and checked in the transaction of each `Journal.append`: while there is
    one, that raises `Marked`. Everything else works.
    """

    @property
    def journal(self) -> Journal: ...

    @property
    def blobs(self) -> Blobs: ...

    @property
    def digests(self) -> Digests: ...

    @property
    def proposals(self) -> Proposals: ...

    @property
    def leases(self) -> Leases: ...

    def mark(self, text: str, was: str) -> bool:
        """Put a mark of at most 4 KiB in the place of the mark `was`; the empty text is none.

        Compared and put at one moment: of several who begin from the same mark, with a text of
        their own each, one does. True when `text` stands then, by this call or before it. When this
        returns true, no append is under way any more that did not see it.
        """

    def marked(self) -> str:
        """The mark, or the empty text."""

    def status(self) -> Mapping[str, JSON]:
        """`engine`, `version`, `healthy`, `members`, `leader`, `bytes` and `round_trip_ms`.

        `members` is a list of objects with `name`, `url`, `healthy`, and more that the engine tells
        of each; `leader` is the name of one, or empty. Raises `Unavailable` when none answers.
        """

    def compact(self) -> Mapping[str, int]:
        """Give back what space is free to give back; what was freed, units last in the names."""

    def close(self) -> None: ...


class Fetched(msgspec.Struct, frozen=True):
    """What an upstream answered to a conditional read of one snapshot.

    `body` is a bundle, or a delta bundle against the digest that was sent (`core.snapshot`), or
    none when the digest sent is still the newest; `freshness` is the DSSE envelope of the
    statement that came along, as bytes (empty when none came). `poll_s`: the upstream wishes to be
    polled no oftener than that; 0 for no wish.
    """

    body: bytes | None
    freshness: bytes = b""
    poll_s: float = 0.0


class Hints(Protocol):
    """Subjects that changed, as they change, with their new digests. Iterated by one thread.

    The iteration ends, or raises as a `Source` does, when the stream ends, was silent for too
    long, or was closed. `on_silence` is called in it when nothing came for a while, not even a
    heartbeat.
    """

    on_silence: Callable[[], None]

    def __iter__(self) -> Iterator[Mapping[Subject, str]]: ...

    def close(self) -> None:
        """End the iteration soon; may be called from any thread."""


class Source(Protocol):
    """One upstream, a control plane or an edge, as a follower sees it. Every call is bounded.

    All calls raise `Unavailable` (no answer, 5xx, too slow), `Unauthenticated`, `Forbidden`,
    `NotFound`, or `Untrusted` for an answer past a bound.
    """

    name: str

    def within(self, total_s: float) -> None:
        """All calls from now on, to the next `within`, must be over by then, tables included."""

    def catalogue(self) -> Mapping[Subject, str]:
        """Every subject the token may follow, with the digest of its newest snapshot."""

    def snapshot(self, subject: Subject, have: str | None) -> Fetched:
        """The newest bundle, conditional on the digest `have`."""

    def segment(self, subject: Subject, digest: str) -> bytes:
        """A segment's table."""

    def hints(self) -> Hints:
        """Open the stream of change hints; returns when it is open."""

    def close(self) -> None: ...


class Cache(Protocol):
    """Generations and small documents on disk. What comes back was checked against its checksum.

    Names of documents are of letters, digits, `_`, `-` and `.`. Several processes may share one.
    Writing raises `Unavailable` when the disk refuses: the caller goes on in memory and says so.
    Reading never raises: what can't be read, or is damaged, is left out and counted.
    """

    damaged: int
    """How many damaged files were found and set aside."""

    def load(self, subject: Subject) -> Iterator[bytes]:
        """Bodies of the generations kept, newest first, each read when it is asked for."""

    def save(
        self, subject: Subject, revision: int, body: bytes, spared: Collection[int] = ()
    ) -> None:
        """Keep a generation durably (write aside, fsync, rename); the oldest ones go.

        Those of revisions `spared` stay, however old they are.
        """

    def note(self, name: str, body: bytes) -> None:
        """Keep one document the same way (pinned root, freshness, segment tables)."""

    def noted(self, name: str) -> bytes | None: ...

    def names(self, prefix: str) -> Sequence[str]:
        """Names of the documents kept that begin so."""

    def forget(self, name: str) -> None: ...

    def subjects(self) -> Sequence[Subject]: ...

    def enter(self, name: str) -> None:
        """This process is in the middle of `name` until it leaves, ends well, or dies."""

    def leave(self, name: str) -> None: ...

    def deaths(self, name: str) -> int:
        """How many processes died in the middle of `name`, as far as can be known."""

    def forgive(self, prefix: str) -> None:
        """Count those who died in the middle of a name that begins so no more."""


class Reports(Protocol):
    """Where consumers' reports go: one upstream, an edge or a control plane."""

    def send(self, reports: Sequence[ConsumerReport]) -> None:
        """Hand them up, in as many calls as their bounds ask for. Raises `Unavailable`."""

    def close(self) -> None: ...


class Samples(Protocol):
    """Contexts really seen, per subject: bounded, fading (`core.reservoir`). Thread-safe.

    Expendable: what is damaged or can't be written is as if it had not come.
    """

    def add(self, subject: Subject, samples: Sequence[Sample], now_s: float) -> None: ...

    def samples(self, subject: Subject, now_s: float, most: int | None = None) -> Sequence[Sample]:
        """What stands for the subject's traffic now, the heaviest first, at most so many."""

    def subjects(self) -> Sequence[Subject]:
        """All of which anything was seen, in order."""

    def close(self) -> None: ...
