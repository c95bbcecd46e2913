"""Probation as a follower lives it: records beside the generations, marks of who may die, pins.

`core.generations` has the rules; this reads and writes what they need. What the disk refuses waits
in `keeping`: until then trust is what this process saw.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from typing import Any, Final

import msgspec

from holdfast.core import generations as rules
from holdfast.core.errors import Untrusted
from holdfast.core.generations import Pin, Record, Trial
from holdfast.core.model import Subject
from holdfast.core.reports import Refusal, Trust
from holdfast.ports import Cache
from holdfast.sdk.keeping import Keeping

_EVALUATING: Final = (
    "holdfast.core.evaluate", "holdfast.core.targeting", "holdfast.core.limits",
    "holdfast.core.wire", "mmh3", "cbor2", "_cbor2", "msgspec._core",
)  # fmt: skip
"""Modules whose code decides answers, and those below them; all are there when a client is."""
PROBE: Final = "probe"
"""The document of the cache that says nothing but that one could be written."""
CONDEMNED_MAX: Final = 1_000
"""Generations to be put away that nobody looked at yet."""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What a follower asks of the process that it lives in.

    - `health`: false, or an exception, sends a generation on probation back. It is called on the
      follower's thread about once a second while there is one, and should return soon.
    - `used`: whether the subject's active generation gave an answer yet.
    """

    probation_s: float = rules.PROBATION_S
    health: Callable[[], Any] | None = None
    used: Callable[[Subject], bool] = lambda _: True


class Trials:
    """Owned by the follower's thread. `now_s` is on the follower's clock, `at_ms` unix time."""

    def __init__(self, cache: Cache, host: Host, *, streak: bool) -> None:
        self._cache = cache
        self._host = host
        self._streak = streak
        self._records: dict[Subject, Record] = {}
        self._entered: set[str] = set()
        self.keeping = Keeping()
        self._probed = False
        self.running: dict[Subject, Trial] = {}
        self.condemned: deque[tuple[Subject, Refusal]] = deque(maxlen=CONDEMNED_MAX)
        self.pins: Mapping[str, Pin] = {}
        evaluator_mark()  # of the files that were loaded, not of those of an upgrade in place

    def probe(self) -> None:
        """See, once, whether the disk takes writes: it is told before a write is needed."""
        if not self._probed:
            self._probed = True
            self.keeping.attempt("probe", partial(self._cache.note, PROBE, b""))

    def record(self, subject: Subject) -> Record:
        """What is known; read once, and again whenever it is written."""
        if subject not in self._records:
            self._records[subject] = self._read(subject)
        return self._records[subject]

    def check(self, subject: Subject, digest: str) -> None:
        """Raises `Untrusted` for a generation that failed here before."""
        refusal = self.record(subject).refusal_of(digest)
        if refusal is not None and self.pin(subject) is None:
            error = Untrusted(refusal.code, f"refused before: {refusal.message}")
            error.revision, error.digest = refusal.revision, digest
            raise error

    def is_doubtful(self, subject: Subject, digest: str) -> bool:
        """Whether so many processes died on it in a row that it should go back."""
        if not self._streak or self.record(subject).proven == digest:
            return False
        return self._cache.deaths(rules.mark_of(subject, digest)) >= rules.STREAK

    @contextmanager
    def proving(self, subject: Subject, digest: str) -> Iterator[None]:
        """A candidate is evaluated for the first time: who dies of it is counted as its victim.

        Raises `Untrusted` code `crash-streak` when so many did.
        """
        mark = rules.mark_of(subject, digest)
        if self.is_doubtful(subject, digest):
            message = f"{rules.STREAK} processes in a row died while they proved it"
            self.refuse(subject, rules.refusal(0, digest, rules.CRASH_STREAK, message, now_ms()))
            raise Untrusted(rules.CRASH_STREAK, message)
        self._cache.enter(mark)
        try:
            yield
        finally:
            if mark not in self._entered:
                self._cache.leave(mark)

    def condemn(self, subject: Subject, digest: str, code: str, message: str) -> None:
        """The host wants this generation put away; from any thread."""
        self.condemned.append((subject, rules.refusal(0, digest, code, message, now_ms())))

    def begin(self, subject: Subject, revision: int, digest: str, now_s: float) -> None:
        """It answers from now on: on probation, unless it is proven."""
        self._leave(subject)
        if self.record(subject).proven == digest:
            self.running.pop(subject, None)
            return
        self.running[subject] = Trial(revision, digest, now_s)
        mark = rules.mark_of(subject, digest)
        self._cache.enter(mark)
        self._entered.add(mark)

    def renew(self) -> None:
        """In a child after a fork: its death counts for itself."""
        for subject, trial in self.running.items():
            self._cache.enter(rules.mark_of(subject, trial.digest))

    def verdicts(self, now_s: float) -> Iterator[tuple[Subject, Trial]]:
        """Generations to send back now; those that are proven are noted on the way."""
        due = [subject for subject, trial in self.running.items() if trial.asks(now_s)]
        if not due:
            return
        healthy = self._is_healthy()
        for subject in due:
            trial = self.running[subject]
            used = self._host.used(subject)
            verdict = trial.verdict(now_s, self._host.probation_s, healthy=healthy, used=used)
            if verdict == "proven":
                self._prove(subject, trial)
            elif verdict == "back":
                yield subject, trial

    def refuse(self, subject: Subject, refusal: Refusal) -> None:
        """It must not come back, in no process of this cache."""
        self._write(subject, rules.refused(self._read(subject), refusal))
        self._cache.forgive(rules.mark_of(subject, refusal.digest))

    def tested(self, subject: Subject, digest: str) -> bool:
        """Whether its probes came out with this very evaluator before."""
        return self.record(subject).tested == f"{digest} {evaluator_mark()}"

    def note_tested(self, subject: Subject, digest: str) -> None:
        mark = f"{digest} {evaluator_mark()}"
        self._write(subject, msgspec.structs.replace(self._read(subject), tested=mark))

    def trust(self, subject: Subject, digest: str) -> Trust:
        if self.pin(subject) is not None:
            return "pinned"
        return "proven" if self.record(subject).proven == digest else "probation"

    def spared(self, subject: Subject) -> list[int]:
        """Revisions that the cache must keep however old they are.

        Those that another process of the cache has proven since are among them.
        """
        pin, proven = self.pin(subject), self.record(subject).revision
        theirs = self._read(subject).revision
        return [each for each in (proven, theirs, pin.revision if pin else 0) if each]

    # Pins

    def pin(self, subject: Subject) -> Pin | None:
        return self.pins.get(str(subject))

    def read_pins(self) -> set[str]:
        """Look at what is pinned now; names of the subjects for which that is another revision."""
        before, self.pins = self.pins, rules.decode_pins(self._cache.noted(rules.PINS_NAME))
        names = before.keys() | self.pins.keys()
        return {name for name in names if before.get(name) != self.pins.get(name)}

    def put_pin(self, subject: Subject, pin: Pin | None) -> None:
        """For every process of the cache. Raises `Unavailable` when the disk refuses."""
        pins = rules.decode_pins(self._cache.noted(rules.PINS_NAME))
        wanted = rules.unpinned(pins, subject) if pin is None else rules.pinned(pins, subject, pin)
        self._cache.note(rules.PINS_NAME, rules.encode(wanted))

    def tell_once(self, trial: Trial) -> bool:
        """Whether nobody was told yet that this generation's host fails."""
        told, trial.told = trial.told, True
        return not told

    def pardon(self, subject: Subject) -> None:
        """Who unpins lets everything that was refused here have another chance."""
        self._write(subject, msgspec.structs.replace(self._read(subject), refused=()))

    # What happens inside

    def _prove(self, subject: Subject, trial: Trial) -> None:
        self._write(subject, rules.proven(self._read(subject), trial))
        self.running.pop(subject, None)
        self._leave(subject)
        self._cache.forgive(f"{subject.environment}.{subject.service}.")

    def _leave(self, subject: Subject) -> None:
        prefix = rules.mark_of(subject, "")
        for mark in [mark for mark in self._entered if mark.startswith(prefix)]:
            self._entered.discard(mark)
            self._cache.leave(mark)

    def _is_healthy(self) -> bool:
        health = self._host.health
        if health is None:
            return True
        try:
            return health() is not False
        except (Exception, SystemExit):  # noqa: BLE001  that is what an unhealthy host does
            return False

    def _read(self, subject: Subject) -> Record:
        """As it is on disk now: another process may have written it."""
        known = self._records.get(subject)
        if known is not None and self.keeping.waits(("record", subject)):
            return known  # newer than what the disk has, and refused by it
        body = self._cache.noted(rules.record_name(subject))
        return rules.decode_record(body) if body or known is None else known

    def _write(self, subject: Subject, record: Record) -> None:
        self._records[subject] = record
        self.keeping.attempt(("record", subject), partial(self._put, subject))

    def _put(self, subject: Subject) -> None:
        self._cache.note(rules.record_name(subject), rules.encode(self._records[subject]))

    def close(self) -> None:
        """The process goes on, or ends well: nothing that happens later is this follower's."""
        for mark in self._entered:
            self._cache.leave(mark)
        self._entered.clear()


_mark: list[str] = []


def evaluator_mark() -> str:
    """Tells one build of the evaluator from another, by its bytes: images may all have one date."""
    if not _mark:
        files = sorted(
            str(module.__file__)
            for name, module in list(sys.modules.items())
            if name.startswith(_EVALUATING) and getattr(module, "__file__", None)
        )
        told = sha256(sys.version.encode())
        for file in files:
            with open(file, "rb", 0) as module:  # noqa: PTH123  pathlib lengthens every start
                told.update(module.read())
        _mark.append(told.hexdigest()[:16])
    return _mark[0]


def now_ms() -> int:
    return int(time.time() * 1000)
