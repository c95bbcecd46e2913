"""Which probes a snapshot carries: those that people wrote, and then as many as there is room for.

Authored ones and the examples of contracts come first, whatever else is left out; then those of
settings that the newest entry touched; then the rest, settings with rules before those without,
in an order of their own (the hash of the key) that a change of one setting doesn't shuffle. No
setting takes more than its share while others wait.

What was made for a setting is kept with the digest of its source: an unchanged one costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias
from zlib import crc32

import msgspec

from holdfast.core.errors import Invalid, Problem
from holdfast.core.model import JSON, Bucketing, Setting, Subject
from holdfast.core.pointer import pointer
from holdfast.core.probes import PROBES_MAX, Carried, Origin, carried, write
from holdfast.core.probing import Probed, fits
from holdfast.core.snapshot import SettingFacts
from holdfast.core.state import ContractState
from holdfast.core.targeting.prepare import Rules, decoded_rule
from holdfast.core.wire import canonical

SHARE_MIN: Final = 4
"""Probes that a setting may have in any case, while there is room at all."""
WRITTEN_MAX: Final = PROBES_MAX // 2
"""Probes that people may write for one snapshot; more would leave the rules untried."""

Contexts: TypeAlias = tuple[dict[str, JSON], ...]


class Meant(msgspec.Struct, frozen=True):
    """One setting as its author means it, without the rollouts that still decide who gets it."""

    owner: str
    setting: Setting
    flag: msgspec.Raw


class Made(msgspec.Struct, frozen=True):
    """Probes made for one setting, and what they were made from. `body`: all of them, written."""

    digest: str
    contexts: Contexts
    probes: tuple[Carried, ...]
    body: msgspec.Raw


class Chosen(msgspec.Struct):
    """Probes by key, as a snapshot carries them; what is wrong with those that people wrote."""

    probes: dict[str, msgspec.Raw] = {}
    problems: list[Problem] = []
    made: dict[str, Made] = {}


class Given(msgspec.Struct, frozen=True):
    """All that is chosen from.

    `flags`, `facts` and `evaluators` are the snapshot's; `meant` and `meant_evaluators` are what it
    would have without rollouts. `known` is what was made for the snapshot before. What people wrote
    of settings that revision `held` touched has to come out.
    """

    subject: Subject
    revision: int
    bucketing: Bucketing
    flags: Mapping[str, msgspec.Raw]
    facts: Mapping[str, msgspec.Raw]
    evaluators: Mapping[str, msgspec.Raw]
    meant: Mapping[str, Meant]
    meant_evaluators: Mapping[str, msgspec.Raw]
    contracts: Mapping[str, ContractState]
    contexts: Contexts
    known: Mapping[str, Made]
    held: int | None = None


class _Written(msgspec.Struct, frozen=True):
    """A probe that somebody wrote, and where."""

    key: str
    context: dict[str, JSON]
    expected: JSON
    origin: Origin
    path: str


def choose(given: Given) -> Chosen:
    """See the module. Problems are of severity error: the change must not be committed."""
    return _Choice(given).chosen()


class _Choice:
    def __init__(self, given: Given) -> None:
        self._given = given
        self._result = Chosen()
        self._picked: dict[str, list[Carried]] = {}
        self._through: set[str] = set()
        """Keys of which all that was made is picked."""
        self._bodies: dict[str, msgspec.Raw] = {}
        """Of those with nothing beside it."""
        self._left = PROBES_MAX
        self._rules = _rules(given.evaluators)
        self._meant_rules = _rules(given.meant_evaluators)
        self._decode = msgspec.json.Decoder(SettingFacts).decode

    def chosen(self) -> Chosen:
        written = [*self._authored(), *self._examples()]
        if len(written) > WRITTEN_MAX and any(self._is_held(one.key) for one in written):
            self._result.problems.append(_too_many(self._given.subject, len(written)))
            return self._result
        for one in written[:WRITTEN_MAX]:
            self._write(one)
        order = self._order()
        share = max(SHARE_MIN, self._left // max(1, len(order)))
        for most in (share, PROBES_MAX):
            for key in order:
                if self._left <= 0:
                    break
                self._take(key, most)
        bodies = self._bodies
        self._result.probes = {
            key: bodies[key] if key in bodies else write(probes)
            for key, probes in self._picked.items()
        }
        return self._result

    def _authored(self) -> Iterator[_Written]:
        environment = self._given.subject.environment
        for key, one in self._given.meant.items():
            if not one.setting.probes:
                continue
            base = pointer(("services", one.owner, "settings", key, "probes"))
            for number, probe in enumerate(one.setting.probes):
                if not probe.environments or environment in probe.environments:
                    path = f"{base}/{number}"
                    yield _Written(key, probe.context, probe.expected, "authored", path)

    def _examples(self) -> Iterator[_Written]:
        given = self._given
        for consumer, kept in sorted(given.contracts.items()):
            contract = kept.contract
            if contract.environments and given.subject.environment not in contract.environments:
                continue
            base = pointer(("contracts", given.subject.service, consumer, "examples"))
            for number, example in enumerate(contract.examples):
                for key, expected in sorted(example.expected.items()):
                    path = f"{base}/{number}"
                    yield _Written(key, example.context, expected, "contract", path)

    def _write(self, one: _Written) -> None:
        """Hold it against what is meant, and carry what comes out of what goes out.

        Whether there is what a contract needs, `core.contracts` asks: a rollout that brought it can
        be taken back. What is switched off is held to nothing: the caller's code default applies.
        """
        given = self._given
        meant = given.meant.get(one.key)
        if meant is None:
            return
        kind = meant.setting.type
        plain = Probed(one.key, meant.flag, self._meant_rules, given.bucketing, kind)
        if not plain.testable or not fits(one.context):
            hint = "take it out: it would depend on the time, on a large segment, or be too large"
            self._refuse(one, f"`{one.key}` can't be probed with this context", hint)
            return
        got = plain.answer(one.context)
        if got != _canonical(one.expected):
            if not meant.setting.environments[given.subject.environment].enabled:
                return
            self._refuse(one, f"`{one.key}` gives {_shown(got)}, not {_shown(one.expected)}")
            return
        # While a rollout is on its way, what is replaced answers too, and it may read the time.
        probed = self._probed(one.key)
        final = probed.answer(one.context) if probed.testable else None
        if final is not None:
            self._pick(one.key, [carried(one.context, final, one.origin)])

    def _is_held(self, key: str) -> bool:
        facts = self._given.facts.get(key)
        return facts is not None and self._decode(facts).revision == self._given.held

    def _refuse(self, one: _Written, message: str, hint: str = "") -> None:
        """What the newest entry did not touch failed before it: a rollout was taken back."""
        if not self._is_held(one.key):
            return
        hint = hint or "mend the setting, or the probe if the new answer is meant"
        where = self._given.subject.environment
        self._result.problems.append(
            Problem(code="probe", message=f"in {where}, {message}", path=one.path, hint=hint)
        )

    def _order(self) -> list[str]:
        """Keys: touched last, with rules, the others; shuffled within each, always alike.

        Nothing is decoded for it: canonical facts say the revision in one place and one way.
        """
        touched = b'"revision":%d,' % self._given.revision
        facts, flags = self._given.facts, self._given.flags

        def rank(key: str) -> tuple[int, int, str]:
            if b'"targeting":' not in memoryview(flags[key]).tobytes():
                return 2, crc32(key.encode()), key
            newest = touched in memoryview(facts[key]).tobytes()
            return (0 if newest else 1), crc32(key.encode()), key

        return sorted(flags, key=rank)

    def _take(self, key: str, most: int) -> None:
        if key in self._through:
            return
        made = self._result.made.get(key) or self._made(key)
        self._result.made[key] = made
        there = self._picked.get(key, ())
        fresh = [probe for probe in made.probes if probe not in there] if there else made.probes
        room = max(0, min(most - len(there), self._left))
        if len(fresh) <= room:
            self._through.add(key)
            if not there:
                self._bodies[key] = made.body
        self._pick(key, fresh[:room])

    def _pick(self, key: str, probes: Sequence[Carried]) -> None:
        if probes:
            self._picked.setdefault(key, []).extend(probes)
            self._left -= len(probes)

    def _made(self, key: str) -> Made:
        contexts = self._given.contexts
        source = self._decode(self._given.facts[key]).digest
        known = self._given.known.get(key)
        if known is not None and known.digest == source and known.contexts is contexts:
            return known
        probes = tuple(self._probed(key).reach(contexts))
        return Made(source, contexts, probes, write(probes))

    def _probed(self, key: str) -> Probed:
        kind = self._decode(self._given.facts[key]).type
        return Probed(key, self._given.flags[key], self._rules, self._given.bucketing, kind)


def _rules(bodies: Mapping[str, msgspec.Raw]) -> Rules:
    return Rules(bodies, lambda name: decoded_rule(bodies[name]))


def _too_many(subject: Subject, count: int) -> Problem:
    return Problem(
        code="too-many",
        message=f"{subject} would carry {count} written probes; {WRITTEN_MAX} are the most",
        path=pointer(("services", subject.service)),
        hint="keep those that matter most",
    )


def _canonical(value: JSON) -> bytes | None:
    try:
        return canonical(value)
    except Invalid:
        return None


def _shown(value: JSON) -> str:
    body = value if isinstance(value, bytes) else _canonical(value)
    text = "an error" if body is None else body.decode()
    return text if len(text) <= 80 else text[:80] + "…"
