"""What a publisher really signed, for those who lie about it: three revisions of two services.

Built in memory from a journal of a few entries, by the builder that the control plane uses, and
signed with keys of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from holdfast.adapters.signing import Keys
from holdfast.core import history
from holdfast.core.build import build
from holdfast.core.bundle import Bundle, encode_bundle
from holdfast.core.delta import make_delta
from holdfast.core.fold import fold
from holdfast.core.model import (
    Edit,
    Environment,
    PutEnvironment,
    PutService,
    PutSetting,
    Service,
    Setting,
    Subject,
    Targeting,
)
from holdfast.core.policies import Pace
from holdfast.core.snapshot import (
    FRESHNESS_TYPE,
    STATEMENT_TYPE,
    Freshness,
    Previous,
    Snapshot,
    encode,
    freshness,
    statement,
)
from holdfast.core.state import EMPTY
from holdfast.core.subjects import affected
from holdfast.core.wire import Envelope, decode_envelope, digest

SHOP: Final = Subject("production", "shop")
MAIL: Final = Subject("production", "mail")
STAGED: Final = Subject("staging", "shop")
SETTINGS: Final = 40
BEGAN_MS: Final = 1_790_000_000_000
PACE: Final = Pace(poll_interval_s=30, stale_after_s=90)


class Issue(msgspec.Struct, frozen=True):
    """One snapshot as it was published. `delta` is the bundle against the one before it."""

    subject: Subject
    revision: int
    digest: str
    body: bytes
    signature: Envelope
    bundle: bytes
    delta: bytes
    journal_head: str


class Truth:
    """All issues of each subject, oldest first, and who signed them."""

    def __init__(self, keys: Keys, *, tiles: int = 9) -> None:
        self.keys = keys
        self.issues: dict[Subject, list[Issue]] = {}
        state = EMPTY
        for number, edits in enumerate(_changes(tiles)):
            at_ms = BEGAN_MS + number * 1_000
            entry = history.seal(state.head, at_ms, "ann", f"change {number}", edits)
            before, state = state, fold(state, entry)
            for subject in sorted(affected(before, state)):
                kept = self.issues.setdefault(subject, [])
                previous = Previous(kept[-1].revision, kept[-1].digest) if kept else None
                made = build(state, subject, previous)
                self._issue(kept, made, subject)

    @classmethod
    def make(cls, folder: Path, *, tiles: int = 9) -> Truth:
        """With new keys in a folder that has none."""
        return cls(Keys.init(folder, development=True), tiles=tiles)

    def fresh(self, issue: Issue, at_ms: int) -> bytes:
        """The signed statement that this was the newest at that time."""
        said = Freshness(
            service=issue.subject.service,
            environment=issue.subject.environment,
            revision=issue.revision,
            digest=issue.digest,
            journal_revision=issue.revision,
            journal_head=issue.journal_head,
            at_ms=at_ms,
        )
        return self.keys.signer(issue.subject.environment)(FRESHNESS_TYPE, freshness(said))

    def _issue(self, kept: list[Issue], made: Snapshot, subject: Subject) -> None:
        body, block = encode(made), made.holdfast
        sign = self.keys.signer(subject.environment)
        signed = decode_envelope(sign(STATEMENT_TYPE, statement(made, body)))
        delta = make_delta(kept[-1].body, body) if kept else None
        kept.append(
            Issue(
                subject=subject,
                revision=block.revision,
                digest=digest(body),
                body=body,
                signature=signed,
                bundle=encode_bundle(Bundle(self.keys.chain, signed, snapshot=body)),
                delta=encode_bundle(Bundle(self.keys.chain, signed, delta=delta)) if delta else b"",
                journal_head=block.journal_head,
            )
        )


def _changes(tiles: int) -> Sequence[Sequence[Edit]]:
    first: list[Edit] = [
        PutEnvironment("production", Environment(pacing=PACE)),
        PutEnvironment("staging", Environment(pacing=PACE)),
        PutService("shop", Service(owners=("ann",))),
        PutService("mail", Service(owners=("ann",))),
    ]
    first += [PutSetting("shop", f"text-{n:02d}", _text(n)) for n in range(SETTINGS)]
    first.append(PutSetting("mail", "tiles", _tiles(tiles)))
    return (
        [*first, PutSetting("shop", "tiles", _tiles(tiles))],
        [PutSetting("shop", "tiles", _tiles(tiles + 1)), PutSetting("mail", "tiles", _tiles(1))],
        [PutSetting("shop", "tiles", _tiles(tiles + 2)), PutSetting("mail", "tiles", _tiles(2))],
    )


def _tiles(value: int) -> Setting:
    there = {name: Targeting(default="now") for name in ("production", "staging")}
    return Setting(type="integer", variants={"now": value}, environments=there)


def _text(number: int) -> Setting:
    there = {name: Targeting(default="on") for name in ("production", "staging")}
    variants = {"on": f"text {number} " * 8, "off": ""}
    return Setting(type="string", variants=variants, environments=there)
