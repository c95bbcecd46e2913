"""What a follower hears and what it is told to do: the events and commands of `core.follow`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

from holdfast.core.model import Subject
from holdfast.core.snapshot import Pacing

PATIENCE_S: Final = 6.0
"""For one question while another upstream may have the answer: the rest of a failover is short."""


class Standing(msgspec.Struct, frozen=True):
    """What the machine needs to know of a generation; `pacing` is the contract signed with it."""

    revision: int
    digest: str
    pacing: Pacing = Pacing()


class Restored(msgspec.Struct, frozen=True):
    """Generations found on disk and admitted, any order.

    `vouched_s`: so long ago somebody said that what is kept was the newest; none for never.
    """

    subject: Subject
    standings: tuple[Standing, ...]
    vouched_s: float | None = None


class Tick(msgspec.Struct, frozen=True):
    """Time passed; nothing else happened."""


class Answered(msgspec.Struct, frozen=True):
    """An upstream answered: an admitted candidate, or none when nothing is newer.

    `poll_s`: it wishes to be polled no oftener, 0 for no wish.
    """

    subject: Subject
    upstream: int
    candidate: Standing | None
    poll_s: float = 0.0


class Catalogued(msgspec.Struct, frozen=True):
    """An upstream named all subjects, with the digest of each one's newest snapshot."""

    upstream: int
    digests: Mapping[Subject, str]


class Refused(msgspec.Struct, frozen=True):
    """An upstream answered, but what it said about this subject can't be used.

    `key` names the setting that it failed on, `revision` and `digest` the snapshot, where known.
    """

    subject: Subject
    upstream: int
    code: str
    message: str
    key: str = ""
    revision: int = 0
    digest: str = ""


class Returned(msgspec.Struct, frozen=True):
    """What answers from now on, older than before perhaps: somebody or something went back to it.

    `pinned`: and nothing else until it is `Released`.
    """

    subject: Subject
    standing: Standing
    pinned: bool = False


class Released(msgspec.Struct, frozen=True):
    """The subject is pinned no more."""

    subject: Subject


class Failed(msgspec.Struct, frozen=True):
    """An upstream gave no answer; without a subject, it was asked for its catalogue.

    `retry_after_s`: it wishes to be left alone for so long, `poll_s`: and to be polled no oftener
    afterwards; 0 for no wish.
    """

    subject: Subject | None
    upstream: int
    retry_after_s: float = 0.0
    poll_s: float = 0.0


class Hinted(msgspec.Struct, frozen=True):
    """A stream said that subjects changed, with their new digests."""

    digests: Mapping[Subject, str]


class StreamOpened(msgspec.Struct, frozen=True):
    upstream: int


class StreamClosed(msgspec.Struct, frozen=True):
    """A stream ended, or could not be opened.

    `cut`: it was open and ended without a farewell, so that its upstream may be gone, and with it
    the streams of thousands of others.
    """

    upstream: int
    retry_after_s: float = 0.0
    cut: bool = False


class StreamSilent(msgspec.Struct, frozen=True):
    """A stream is open and says nothing, no heartbeat either."""

    upstream: int


Event: TypeAlias = (
    Restored
    | Tick
    | Answered
    | Catalogued
    | Refused
    | Returned
    | Released
    | Failed
    | Hinted
    | StreamOpened
    | StreamClosed
    | StreamSilent
)


class Fetch(msgspec.Struct, frozen=True):
    """Ask an upstream for a subject's newest bundle. Answer with Answered, Refused or Failed.

    All of it must be over after `patience_s`: that is short while somebody else could be asked.
    """

    subject: Subject
    upstream: int
    have: str | None
    patience_s: float = PATIENCE_S


class FetchCatalogue(msgspec.Struct, frozen=True):
    """Ask an upstream for its catalogue, as `Fetch` does. Answer with Catalogued or Failed."""

    upstream: int
    patience_s: float = PATIENCE_S


class Activate(msgspec.Struct, frozen=True):
    """Let a generation answer from now on."""

    subject: Subject
    standing: Standing


class Keep(msgspec.Struct, frozen=True):
    """Write the active generation to disk."""

    subject: Subject
    standing: Standing


class Report(msgspec.Struct, frozen=True):
    """Tell whoever watches that an answer was refused (NACK). Once per upstream, code and text."""

    subject: Subject
    upstream: int
    code: str
    message: str
    key: str = ""
    revision: int = 0
    digest: str = ""


class OpenStream(msgspec.Struct, frozen=True):
    """Open a stream; answer with StreamOpened when it is, and StreamClosed when it ends."""

    upstream: int


class CloseStream(msgspec.Struct, frozen=True):
    """Close the stream; nobody waits for its end, and no StreamClosed has to come."""


class WakeAt(msgspec.Struct, frozen=True):
    """Send a Tick at this time, unless an event comes before it."""

    at_s: float


Command: TypeAlias = (
    Fetch | FetchCatalogue | Activate | Keep | Report | OpenStream | CloseStream | WakeAt
)
