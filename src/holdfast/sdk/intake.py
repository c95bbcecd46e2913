"""What a follower holds, and how an upstream's answer becomes part of it.

The calls in `ask` are the main path: fetch, admit, complete with segment tables, prove, judge
freshness.
Whatever fails ends as an event for `core.follow`, and what was held stays as it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from holdfast.core import trust
from holdfast.core.conversation import PATIENCE_S, Answered, Failed, Refused, Standing
from holdfast.core.edition import Edition
from holdfast.core.errors import Forbidden, HoldfastError, NotFound, Unavailable, Untrusted
from holdfast.core.generations import CRASH_STREAK, STREAK
from holdfast.core.generations import refusal as refusal_of
from holdfast.core.model import Contract, Subject
from holdfast.core.reports import REFUSALS_MAX, Refusal
from holdfast.core.roots import RootSet, decode_root_set, encode_root_set
from holdfast.core.snapshot import Freshness, decode_freshness
from holdfast.core.trust import Admitted, Checks, Generation
from holdfast.core.wire import Verify, decode_envelope
from holdfast.ports import Cache, Source
from holdfast.sdk.trials import Trials, now_ms

ROOT: Final = "root"
FRESHNESS_KEPT_S = 45.0
"""The newest freshness statement is written to disk at most this often; a restart looks at it."""
TURN_S: Final = 0.002
"""How long the checks of a candidate work before others get a turn, of at least `PAUSE_S`."""
PAUSE_S: Final = 0.000_05
DEFECT: Final = "defect"
"""The code for an answer on which our own code fails: refused like every other bad answer."""


_BAD_DELTA: Final = {"delta", "delta-base", "size", "digest"}


class Held(msgspec.Struct):
    """One subject. `fresh_s` is when its freshness last advanced, on the follower's clock.

    `heard`: a statement came since this process began, and what comes after it is younger.
    `floor` is the newest that agreed with what else tells the time (`trust.Times`).
    `unused` are digests of tables on disk that nothing there referred to when last looked.
    `since_ms` is when the generation was activated, in unix milliseconds; `refusals` are the last
    candidates that were not, newest last.
    """

    generation: Generation | None = None
    candidates: dict[str, Generation] = {}
    freshness: Freshness | None = None
    floor: trust.Floor | None = None
    sealed_freshness: bytes = b""
    fresh_s: float | None = None
    noted_s: float = float("-inf")
    heard: bool = False
    unused: set[str] = set()
    since_ms: int = 0
    refusals: tuple[Refusal, ...] = ()


class Intake:
    """Not thread-safe: the follower's thread owns it. `clock` is any that never goes back."""

    def __init__(  # noqa: PLR0913, PLR0917  what it reads, what it believes, what it asks for
        self,
        cache: Cache,
        root: RootSet | None,
        verify: Verify,
        clock: Callable[[], float],
        trials: Trials,
        contract: Contract | None = None,
        checks: Checks = trust.EVERY_CHECK,
    ) -> None:
        self._cache = cache
        self._trials = trials
        self._contract = contract
        self._checks = checks
        self._verify = verify
        self._clock = clock
        self.held: dict[Subject, Held] = {}
        self.edition = Edition()
        """Of all freshness statements."""
        self.pinned_by_sight = root is None
        self.pinned = root if root is not None else self._noted_root()
        self.seen_first = False
        """Whether the pinned roots were seen for the first time by this process."""
        self.gone_back: list[tuple[Subject, Refusal]] = []
        """Generations on disk that were refused at the start, to be reported."""
        self.last_error = ""
        self._failed_s: float | None = None
        self.keeping = trials.keeping

    def restore(self, subject: Subject) -> tuple[Standing, ...]:
        """What answers at a start: what is pinned, or the newest that nothing speaks against.

        Where processes died on one again and again, the last proven one comes before it. With
        nothing else on disk even that one is better than nothing.
        """
        held = self.held.setdefault(subject, Held())
        pin = self._trials.pin(subject)
        found = self.back(subject, pin.revision) if pin is not None else None
        if found is not None:
            return (found,)
        doubtful: Generation | None = None
        for generation in self._believed(subject):
            if self._is_doubtful(generation):
                doubtful = doubtful or generation
                continue
            if doubtful is not None and not self._falls_on(doubtful, generation):
                continue
            if doubtful is not None:
                self._refuse_doubtful(doubtful)
            return self._offer(held, generation)
        return self._offer(held, doubtful) if doubtful is not None else ()

    def vouched_s(self, subject: Subject, digest: str) -> float | None:
        """How long ago somebody said that this was the newest, by the wall clock; none for never.

        What this says decides how soon a start asks, and nothing else: the clock may be wrong.
        """
        held = self.held.get(subject)
        said = held.freshness if held else None
        if said is None or said.digest != digest:
            return None
        return max(0.0, (now_ms() - said.at_ms) / 1000)

    def back(self, subject: Subject, revision: int = 0) -> Standing | None:
        """Another generation on disk: the one of that revision, else the last that is proven."""
        held = self.held.setdefault(subject, Held())
        proven = self._trials.record(subject).proven
        for generation in self._believed(subject, refused=bool(revision)):
            wanted = generation.revision == revision if revision else generation.digest == proven
            if wanted:
                return self._offer(held, generation)[0]
        return None

    def kept(self, subject: Subject) -> list[Standing]:
        """Generations that can be gone back to: the one held, and those on disk."""
        held = self.held.get(subject)
        found = [standing_of(one) for one in self._believed(subject, refused=True)]
        return [standing_of(held.generation), *found] if held and held.generation else found

    def refused(self, subject: Subject, refusal: Refusal) -> None:
        """Remember what was refused and why, for whoever asks."""
        held = self.held.setdefault(subject, Held())
        held.refusals = (*held.refusals, refusal)[-REFUSALS_MAX:]

    def _believed(self, subject: Subject, *, refused: bool = False) -> Iterator[Generation]:
        """Generations on disk that can be believed, newest first; `refused` ones when asked for."""
        for bundle in self._cache.load(subject):
            try:
                admitted = trust.admit(bundle, subject, None, self.pinned, self._verify)
                if not refused:
                    self._trials.check(subject, admitted.digest)
                generation = self._equip(admitted, None)
                self._replay(generation)
            except HoldfastError as error:
                self.note_error(f"{subject} on disk: {error}")
                self._note_refused(subject, error)
                continue
            yield generation

    def _replay(self, generation: Generation) -> None:
        """Hold a generation from disk to its probes, once for each build of the evaluator."""
        subject, digest = generation.subject, generation.digest
        if not self._checks.probes or self._trials.tested(subject, digest):
            return
        from holdfast.core import proof  # late: most starts go on with what was tested

        proof.replayed(generation)
        self._trials.note_tested(subject, digest)

    def _is_doubtful(self, generation: Generation) -> bool:
        return self._trials.is_doubtful(generation.subject, generation.digest)

    def _falls_on(self, doubtful: Generation, generation: Generation) -> bool:
        """Whether `generation` is what to go back to: the proven one, if there is any."""
        proven = self._trials.record(doubtful.subject).proven
        return not proven or generation.digest == proven

    def _refuse_doubtful(self, generation: Generation) -> None:
        message = f"{STREAK} processes in a row died on it"
        refusal = refusal_of(
            generation.revision, generation.digest, CRASH_STREAK, message, now_ms()
        )
        self._trials.refuse(generation.subject, refusal)
        self.note_error(f"{generation.subject} on disk: {message}")
        self.gone_back.append((generation.subject, refusal))

    def _note_refused(self, subject: Subject, error: HoldfastError) -> None:
        """A generation on disk that this build of ours gets wrong is reported as any candidate."""
        if isinstance(error, Untrusted) and error.code == "probe":
            refusal = refusal_of(
                error.revision, error.digest, error.code, str(error), now_ms(), error.key
            )
            self.gone_back.append((subject, refusal))

    def _offer(self, held: Held, generation: Generation) -> tuple[Standing]:
        held.candidates[generation.digest] = generation
        self._restore_freshness(generation.subject, held, generation.admitted)
        return (standing_of(generation),)

    def ask(
        self, source: Source, subject: Subject, upstream: int, within_s: float = PATIENCE_S
    ) -> Answered | Refused | Failed:
        """One conditional read and all that follows from its answer. Never raises."""
        held = self.held.setdefault(subject, Held())
        try:
            source.within(within_s)
            taken, poll_s = self._take(source, subject, held)
            return Answered(subject, upstream, taken, poll_s)
        except (Untrusted, NotFound, Forbidden) as error:
            self.note_error(f"{source.name}: {error}")
            return _refused(subject, upstream, error)
        except HoldfastError as error:
            self.note_error(str(error))
            return failed(subject, upstream, error)
        except Exception as error:  # noqa: BLE001  one bad snapshot must not end the thread
            self.note_error(f"{source.name}: {error!r}")
            return Refused(subject, upstream, DEFECT, repr(error))

    def note_error(self, text: str) -> None:
        """Something went wrong now; `last_error` says what until the next time."""
        self.last_error, self._failed_s = text, self._clock()

    def last_error_age_s(self) -> float | None:
        """How long ago something last went wrong; none if nothing did."""
        failed_s = self._failed_s
        return None if failed_s is None else self._clock() - failed_s

    def activate(self, subject: Subject, digest: str) -> Generation:
        """Make a candidate the one that is held."""
        held = self.held[subject]
        generation = held.candidates.pop(digest)
        held.candidates.clear()
        held.generation = generation
        held.since_ms = now_ms()
        self._trust(generation.admitted.roots)
        self._trials.begin(subject, generation.revision, generation.digest, self._clock())
        return generation

    def keep(self, subject: Subject) -> None:
        """Write what is held to disk, now or when the disk is well again."""
        self.keeping.attempt(("generation", subject), partial(self._keep, subject))

    def _keep(self, subject: Subject) -> None:
        held = self.held[subject]
        generation = held.generation
        if generation is None:
            return
        for digest, table in generation.tables.items():
            name = _segment_name(subject, digest)
            if name not in self._cache.names(name):
                self._cache.note(name, table)
        spared = self._trials.spared(subject)
        self._cache.save(subject, generation.revision, generation.bundle, spared)
        self._note_root()
        self._note_freshness(subject, held)
        self._drop_tables(held, generation)

    def _take(self, source: Source, subject: Subject, held: Held) -> tuple[Standing | None, float]:
        """What may be activated, and how often the upstream wishes to be polled at most."""
        active = held.generation
        fetched = source.snapshot(subject, active.digest if active else None)
        if fetched.body is None and active is not None:
            self._judge_again(source, held, active, fetched.freshness)
            return None, fetched.poll_s
        sealed, poll_s, body = fetched.freshness, fetched.poll_s, fetched.body or b""
        admit = self._admit_delta if _is_delta(body) else self._admit
        if (admitted := admit(subject, held, body)) is None:
            # A delta that doesn't fit is its server's fault, perhaps; the whole may be right.
            del fetched, body  # two whole answers at a time would be too much
            admitted = self._admit(subject, held, source.snapshot(subject, None).body or b"")
        if active is not None and admitted.digest == active.digest:
            renewed = self._renew(held, active, admitted)
            self._judge(subject, held, renewed, sealed)
            return None, poll_s
        self._trials.check(subject, admitted.digest)
        candidate = self._equip(admitted, source)
        self._prove(candidate, active)
        held.candidates = {candidate.digest: candidate}
        try:
            self._judge(subject, held, candidate, sealed)
        except Untrusted as error:
            self.note_error(f"{source.name}: {error}")  # a label less; the snapshot is right
        return standing_of(candidate), poll_s

    def _prove(self, candidate: Generation, active: Generation | None) -> None:
        from holdfast.core import proof  # late: a start from disk needs none of it

        demands = proof.Demands(self._contract, self._checks, pause)
        with self._trials.proving(candidate.subject, candidate.digest):
            proof.prove(candidate, active, demands)
        if self._checks.probes:
            self._trials.note_tested(candidate.subject, candidate.digest)

    def _judge_again(self, source: Source, held: Held, active: Generation, sealed: bytes) -> None:
        """As `_judge`; when the keys were rotated since, learn the new ones first."""
        subject = active.subject
        try:
            self._judge(subject, held, active, sealed)
        except Untrusted as error:
            if error.code != "freshness-signature":
                raise
        else:
            return
        whole = source.snapshot(subject, None).body or b""
        admitted = trust.admit(whole, subject, active.admitted, self.pinned, self._verify)
        if admitted.digest == active.digest:
            self._judge(subject, held, self._renew(held, active, admitted), sealed)

    def _renew(self, held: Held, active: Generation, admitted: Admitted) -> Generation:
        """What is active, under the roots that the same snapshot came with; they may be newer."""
        if admitted.roots.version > active.admitted.roots.version:
            held.generation = active = msgspec.structs.replace(active, admitted=admitted)
            self._trust(admitted.roots)
        return active

    def _admit(self, subject: Subject, held: Held, bundle: bytes) -> Admitted:
        active = held.generation.admitted if held.generation else None
        return trust.admit(bundle, subject, active, self.pinned, self._verify, checks=self._checks)

    def _admit_delta(self, subject: Subject, held: Held, bundle: bytes) -> Admitted | None:
        """None for one that doesn't fit what is held."""
        try:
            return self._admit(subject, held, bundle)
        except Untrusted as error:
            if error.code not in _BAD_DELTA or held.generation is None:
                raise
        return None

    def _equip(self, admitted: Admitted, source: Source | None) -> Generation:
        tables: dict[str, bytes] = {}
        held = self.held[admitted.subject].generation
        for facts in admitted.snapshot.holdfast.segments.values():
            table = held.tables.get(facts.digest) if held else None
            table = table or self._cache.noted(_segment_name(admitted.subject, facts.digest))
            if table is None and source is not None:
                table = source.segment(admitted.subject, facts.digest)
            if table is not None:
                tables[facts.digest] = table
        return trust.equip(admitted, tables, time.time)

    def _judge(
        self, subject: Subject, held: Held, generation: Generation | None, sealed: bytes
    ) -> None:
        """Take in a freshness statement. Raises `Untrusted`, code `frozen` among others."""
        if generation is None:
            return
        now_s = self._clock()
        times = trust.Times(now_ms(), now_s, held.floor)
        said = known = held.freshness
        if sealed:
            said = trust.vouch(sealed, generation.admitted, known, self._verify, times)
        if said is not None and said is not known:
            held.freshness, held.sealed_freshness = said, sealed
            held.floor = times.raised(said, generation.admitted)
            self.edition.turn()
            if held.heard or _is_of_today(said, generation):
                held.fresh_s = now_s
            held.heard = True
            if now_s - held.noted_s >= FRESHNESS_KEPT_S:
                with suppress(Unavailable):
                    self._note_freshness(subject, held)
        elif generation is held.generation and is_stale(held, now_s):
            raise Untrusted("frozen", "it says that nothing is new, and can't say since when")

    def _restore_freshness(self, subject: Subject, held: Held, admitted: Admitted) -> None:
        """Remember what was last said: a replay of it is no news. It makes nothing fresh."""
        sealed = self._cache.noted(_freshness_name(subject))
        with suppress(Untrusted):
            if sealed and trust.vouch(sealed, admitted, None, self._verify):
                held.freshness = decode_freshness(decode_envelope(sealed).body())
                held.sealed_freshness = sealed
                self.edition.turn()

    def _note_freshness(self, subject: Subject, held: Held) -> None:
        if held.sealed_freshness:
            self._cache.note(_freshness_name(subject), held.sealed_freshness)
            held.noted_s = self._clock()

    def _noted_root(self) -> RootSet | None:
        body = self._cache.noted(ROOT)
        return decode_root_set(body) if body else None

    def _trust(self, roots: RootSet) -> None:
        """Go on with the newest roots; without given ones, the first seen are those from now on."""
        if self.pinned is None or roots.version > self.pinned.version:
            self.seen_first = self.pinned is None
            self.pinned = roots

    def _note_root(self) -> None:
        if self.pinned_by_sight and self.pinned is not None:
            body = encode_root_set(self.pinned)
            if self._cache.noted(ROOT) != body:
                self._cache.note(ROOT, body)

    def _drop_tables(self, held: Held, generation: Generation) -> None:
        """Forget tables that no generation on disk refers to, this time and the last.

        Another process writes a table before the generation that refers to it: the first look may
        fall in between.
        """
        prefix = _segment_name(generation.subject, "")
        extra = {name.removeprefix(prefix) for name in self._cache.names(prefix)}
        extra -= generation.tables.keys()
        for bundle in self._cache.load(generation.subject) if extra else ():
            extra -= {digest for digest in extra if digest.encode() in bundle}
        for digest in extra & held.unused:
            self._cache.forget(prefix + digest)
        held.unused = extra - held.unused


def _is_delta(bundle: bytes) -> bool:
    """As bundles are written: members in order."""
    return bundle.startswith(b'{"delta":')


def failed(subject: Subject | None, upstream: int, error: HoldfastError | None = None) -> Failed:
    """What the machine hears of a question that got no answer."""
    if isinstance(error, Unavailable):
        return Failed(subject, upstream, error.retry_after_s, error.poll_s)
    return Failed(subject, upstream)


def _refused(subject: Subject, upstream: int, error: HoldfastError) -> Refused:
    if not isinstance(error, Untrusted):
        return Refused(subject, upstream, error.code, str(error))
    return Refused(
        subject=subject,
        upstream=upstream,
        code=error.code,
        message=str(error),
        key=error.key,
        revision=error.revision,
        digest=error.digest,
    )


class Pause:
    """Let other threads go first: whoever evaluates must not feel an activation.

    To let go of the interpreter is not enough: who goes on at once has it again before any other
    thread is awake, and those then wait for 5 ms each time, more on a busy machine.
    """

    def __init__(self) -> None:
        self._last_s = 0.0

    def __call__(self) -> None:
        now_s = time.perf_counter()
        if now_s - self._last_s >= TURN_S:
            time.sleep(PAUSE_S)
            self._last_s = time.perf_counter()


pause: Final = Pause()


def is_stale(held: Held, now_s: float) -> bool:
    """Whether nobody could say for `stale_after_s` that what is held is the newest."""
    if held.generation is None or held.fresh_s is None:
        return True
    return now_s - held.fresh_s > held.generation.snapshot.holdfast.pacing.stale_after_s


def _is_of_today(said: Freshness | None, generation: Generation) -> bool:
    """Whether a first statement may count: a cache on the way may have kept it for a month.

    Where clocks differ by more than that, the next one counts, which is younger than the first.
    """
    stale_after_s = generation.snapshot.holdfast.pacing.stale_after_s
    return said is not None and now_ms() - said.at_ms <= 1000 * stale_after_s


def standing_of(generation: Generation) -> Standing:
    """What the machine needs to know of it."""
    pacing = generation.snapshot.holdfast.pacing
    return Standing(generation.revision, generation.digest, pacing)


def _segment_name(subject: Subject, digest: str) -> str:
    return f"segment.{subject.environment}.{subject.service}.{digest}"


def _freshness_name(subject: Subject) -> str:
    return f"freshness.{subject.environment}.{subject.service}"
