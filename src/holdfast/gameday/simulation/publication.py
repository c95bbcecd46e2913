"""What the simulated fleet follows: a journal in memory, real snapshots, really signed and checked.

Each change goes through the builder, and what consumers make of it is what `core.trust.admit` says.
Consumers that have the same and are sent the same are answered alike, so each such pair is looked
at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Final

import msgspec

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.signing import Keys
from holdfast.core import history, trust
from holdfast.core.build import Fragments, build
from holdfast.core.bundle import Bundle, encode_bundle
from holdfast.core.conversation import Standing
from holdfast.core.delta import make_delta
from holdfast.core.errors import Untrusted
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
from holdfast.core.roots import RootSet
from holdfast.core.snapshot import STATEMENT_TYPE, Pacing, Previous, encode, statement
from holdfast.core.state import EMPTY
from holdfast.core.subjects import affected
from holdfast.core.trust import Admitted
from holdfast.core.wire import Envelope, decode_envelope, digest

ENVIRONMENT: Final = "production"
BEGAN_MS: Final = 1_790_000_000_000
OLDER_MAX: Final = 3
"""Older snapshots that servers make deltas from, as the edge's shelf does."""


class Issue(msgspec.Struct, frozen=True):
    """A snapshot as it was published; `number` counts those of its subject from 0."""

    subject: Subject
    number: int
    standing: Standing
    body: bytes
    signature: Envelope
    bundle: bytes


class Judged(msgspec.Struct, frozen=True):
    """What a consumer makes of an answer; `sent_bytes` is its body."""

    verdict: Standing | Untrusted
    sent_bytes: int


class Publication:
    """All issues of all subjects, oldest first; `by_digest` finds one."""

    def __init__(self, services: int, settings: int, pace: Pacing) -> None:
        self.subjects = tuple(Subject(ENVIRONMENT, f"s-{n:03d}") for n in range(services))
        self.issues: dict[Subject, list[Issue]] = {}
        self.by_digest: dict[str, Issue] = {}
        self._fragments = Fragments()
        self._admitted: dict[str, Admitted] = {}
        self._judged: dict[tuple[str | None, str, bool], Judged] = {}
        self._roots: RootSet | None = None
        self._state = EMPTY
        self._value = 0
        # The same keys in every run: a signature's length, and so every figure, hangs on nothing.
        with tempfile.TemporaryDirectory(prefix="holdfast-simulate-") as folder:
            chance = _counted()
            self._keys = Keys.init(Path(folder), development=True, chance=chance)
            self._sign = self._keys.signer(ENVIRONMENT)
        signed = Pace(
            poll_interval_s=pace.poll_interval_s,
            poll_interval_max_s=pace.poll_interval_max_s,
            retry_after_max_s=pace.retry_after_max_s,
            stale_after_s=pace.stale_after_s,
            streams=pace.streams,
        )
        first: list[Edit] = [PutEnvironment(ENVIRONMENT, Environment(pacing=signed))]
        for subject in self.subjects:
            first.append(PutService(subject.service, Service(owners=("ann",))))
            first += [
                PutSetting(subject.service, f"text-{n:04d}", _text(n)) for n in range(settings)
            ]
        self._commit([*first, *self._edits(self.subjects)])

    @property
    def revision(self) -> int:
        """Of the journal."""
        return self._state.head.revision

    def newest(self, subject: Subject) -> Issue:
        return self.issues[subject][-1]

    def change(self, subjects: Sequence[Subject]) -> list[Issue]:
        """A setting of each gets another value; what was issued."""
        return self._commit(self._edits(subjects))

    def judge(self, have: str | None, issue: Issue, *, forged: bool) -> Judged:
        """What a consumer that has `have` makes of this issue: its standing, or why it is refused.

        `forged`: its sender changed it.
        """
        known = self._judged.get((have, issue.standing.digest, forged))
        if known is None:
            known = self._judged[have, issue.standing.digest, forged] = self._judge(
                have, issue, forged=forged
            )
        return known

    def _judge(self, have: str | None, issue: Issue, *, forged: bool) -> Judged:
        sent = _forged(issue.bundle) if forged else self._sent(have, issue)
        active = self._admitted.get(have) if have else None
        try:
            admitted = trust.admit(sent, issue.subject, active, self._roots, verify)
        except Untrusted as error:
            return Judged(error, len(sent))
        self._roots = admitted.roots
        self._admitted[admitted.digest] = admitted
        return Judged(issue.standing, len(sent))

    def _sent(self, have: str | None, issue: Issue) -> bytes:
        """A delta from what its reader has, where it has one of the last few; else all of it."""
        old = self.by_digest.get(have) if have else None
        if old is None or not 0 < issue.number - old.number <= OLDER_MAX:
            return issue.bundle
        delta = make_delta(old.body, issue.body)
        if delta is None:
            return issue.bundle
        return encode_bundle(Bundle(self._keys.chain, issue.signature, delta=delta))

    def _commit(self, edits: Sequence[Edit]) -> list[Issue]:
        at_ms = BEGAN_MS + self._value * 1_000
        entry = history.seal(self._state.head, at_ms, "ann", "simulated", edits)
        before, self._state = self._state, fold(self._state, entry)
        return [self._issue(one) for one in sorted(affected(before, self._state))]

    def _issue(self, subject: Subject) -> Issue:
        kept = self.issues.setdefault(subject, [])
        last = kept[-1].standing if kept else None
        previous = Previous(last.revision, last.digest) if last else None
        made = build(self._state, subject, previous, fragments=self._fragments)
        body, facts = encode(made), made.holdfast
        signature = decode_envelope(self._sign(STATEMENT_TYPE, statement(made, body)))
        issue = Issue(
            subject=subject,
            number=len(kept),
            standing=Standing(facts.revision, digest(body), facts.pacing),
            body=body,
            signature=signature,
            bundle=encode_bundle(Bundle(self._keys.chain, signature, snapshot=body)),
        )
        kept.append(issue)
        self.by_digest[issue.standing.digest] = issue
        return issue

    def _edits(self, subjects: Sequence[Subject]) -> list[Edit]:
        self._value += 1
        there = {ENVIRONMENT: Targeting(default="now")}
        made = Setting(type="integer", variants={"now": self._value}, environments=there)
        return [PutSetting(subject.service, "counter", made) for subject in subjects]


def _text(number: int) -> Setting:
    there = {ENVIRONMENT: Targeting(default="on")}
    variants = {"on": f"text {number} " * 4, "off": ""}
    return Setting(type="string", variants=variants, environments=there)


def _forged(bundle: bytes) -> bytes:
    """With another value in it than was signed for."""
    return bundle.replace(b'"now":', b'"now":9', 1)


def _counted() -> Callable[[int], bytes]:
    """Bytes for keys that protect nothing, the same each time."""
    numbers = count(1)
    return lambda size: next(numbers).to_bytes(1) * size
