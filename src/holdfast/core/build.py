"""State -> Snapshot: a pure function of the journal up to the revision that touched the subject.

Per setting, `revision` is the newest one that may have moved an answer of it: of its own edits in
the environment, the segments that its rules refer to, the includes on its way here, the removal of
what shadowed it, and the environment's bucketing. Names resolve as their authors saw them: a
shared setting finds the segments of its own service, never those of the service that includes it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from typing import Final

import msgspec

from holdfast.core import limits
from holdfast.core.access import ACCESS
from holdfast.core.errors import Invalid, Problem
from holdfast.core.lower import Lowered, References, lower, segment_logic, uses
from holdfast.core.model import JSON, Audience, Head, Setting, Subject, Targeting
from holdfast.core.needs import contract_facts
from holdfast.core.snapshot import (
    ACCESS_KEY,
    Facts,
    Previous,
    SegmentFacts,
    Semantics,
    SettingFacts,
    Snapshot,
)
from holdfast.core.state import SegmentState, SettingState, State
from holdfast.core.subjects import environment_of, known_services, reach, subject_revision
from holdfast.core.targeting.check import check_flag
from holdfast.core.targeting.prepare import measure
from holdfast.core.wire import canonical, digest

FRAGMENT_SUBJECTS_MAX: Final = 256


class Fragments:
    """What the last builds of some subjects lowered, so that the next ones do only what changed.

    Owned by one caller at a time. Bounded: the subjects built longest ago are forgotten.
    """

    def __init__(self, subjects_max: int = FRAGMENT_SUBJECTS_MAX) -> None:
        self._kept: OrderedDict[Subject, _Kept] = OrderedDict()
        self._subjects_max = subjects_max

    def take(self, subject: Subject) -> _Kept:
        return self._kept.get(subject) or _Kept()

    def keep(self, subject: Subject, kept: _Kept) -> None:
        self._kept[subject] = kept
        self._kept.move_to_end(subject)
        while len(self._kept) > self._subjects_max:
            self._kept.popitem(last=False)


def build(
    state: State,
    subject: Subject,
    previous: Previous | None,
    *,
    head: Head | None = None,
    fragments: Fragments | None = None,
) -> Snapshot:
    """The snapshot of `subject` in `state`.

    `previous` names the subject's snapshot before this one; none when this is its first. Bytes are
    reproducible when every revision that touched the subject gets its snapshot, one after the
    other. `head` is the journal's head at the subject's revision; it is needed when `state` is
    later than that. Raises `NotFound` when there is no such subject, and `Invalid` with all
    problems when a rule refers to a segment that isn't there or a bound is passed.
    """
    revision = subject_revision(state, subject)
    at = head or state.head
    if at.revision != revision:
        raise ValueError(f"{subject} is at revision {revision}, the head given at {at.revision}")
    parts = _access(state, subject, revision) if subject.service == ACCESS else None
    if parts is None:
        builder = _Builder(state, subject, fragments.take(subject) if fragments else _Kept())
        parts = builder.parts()
        if fragments:
            fragments.keep(subject, builder.kept)
    return Snapshot(
        evaluators=parts.evaluators,
        flags=parts.flags,
        holdfast=Facts(
            service=subject.service,
            environment=subject.environment,
            revision=revision,
            journal_head=at.hash,
            previous=previous,
            semantics=_semantics(state, subject),
            settings=parts.settings,
            schemas=parts.schemas,
            removed=parts.removed,
            removed_since=parts.removed_since,
            segments=parts.segments,
            contracts=contract_facts(state, subject),
        ),
        metadata={"flagSetId": subject.service, "version": str(revision)},
    )


class _Parts(msgspec.Struct):
    """The sections of a snapshot that grow with its settings."""

    flags: dict[str, msgspec.Raw] = {}
    settings: dict[str, msgspec.Raw] = {}
    schemas: dict[str, msgspec.Raw] = {}
    evaluators: dict[str, msgspec.Raw] = {}
    segments: dict[str, SegmentFacts] = {}
    removed: dict[str, int] = {}
    removed_since: int = 0


class _Fragment(msgspec.Struct, frozen=True):
    """One setting as built, and all that it was built from.

    `floor` is the newest revision apart from the setting's own and its segments'.
    """

    owner: str
    state: SettingState
    floor: int
    semantics: Semantics
    used: dict[str, Lowered]
    flag: msgspec.Raw
    facts: msgspec.Raw
    schema: msgspec.Raw | None


class _Kept(msgspec.Struct, frozen=True):
    """`segments`: (service whose rules refer, name in them) -> what it was lowered from and to."""

    settings: dict[str, _Fragment] = {}
    segments: dict[tuple[str, str], tuple[SegmentState, Lowered]] = {}


class _Builder:
    """One build. What is the very same object as in the build before is not lowered again."""

    def __init__(self, state: State, subject: Subject, before: _Kept) -> None:
        self.kept = _Kept()
        self._before = before
        self._subject = subject
        self._services = known_services(state)
        self._semantics = _semantics(state, subject)
        self._environment_revision = environment_of(state, subject.environment).revision
        self._problems: list[Problem] = []

    def parts(self) -> _Parts:
        """Raises `Invalid` with the problems of all settings."""
        parts = _Parts()
        tombs: dict[str, int] = {}
        used: dict[str, Lowered] = {}
        for service, included_at in reach(self._services, self._subject.service):
            _bury(tombs, self._services[service].removed.get(self._subject.environment, {}))
            for key, fragment in self._settings_of(service, included_at, tombs):
                self._add(parts, key, fragment)
                for one in fragment.used.values():
                    used[one.name] = one
        parts.evaluators, parts.segments = uses(used.values())
        parts.removed, parts.removed_since = _newest(tombs, parts.flags)
        if len(parts.flags) > limits.SETTINGS_MAX:
            self._problems.append(_too_many(self._subject, len(parts.flags)))
        if self._problems:
            raise Invalid(self._problems)
        return parts

    def _add(self, parts: _Parts, key: str, fragment: _Fragment) -> None:
        parts.flags[key] = fragment.flag
        parts.settings[key] = fragment.facts
        if fragment.schema is not None:
            parts.schemas[key] = fragment.schema
        self.kept.settings[key] = fragment

    def _settings_of(
        self, service: str, included_at: int, tombs: Mapping[str, int]
    ) -> Iterator[tuple[str, _Fragment]]:
        """The service's settings in this environment but for those that an earlier one shadows."""
        least = max(self._environment_revision, included_at)
        environment, before = self._subject.environment, self._before.settings
        for key, setting in self._services[service].settings.items():
            if key in self.kept.settings or environment not in setting.setting.environments:
                continue
            floor = max(least, tombs[key]) if key in tombs else least
            old = before.get(key)
            if old and old.state is setting and self._holds(old, service, floor):
                yield key, old
            else:
                yield key, self._fragment(service, key, setting, floor)

    def _holds(self, old: _Fragment, owner: str, floor: int) -> bool:
        if old.floor != floor or old.owner != owner or old.semantics != self._semantics:
            return False
        for name, one in old.used.items():  # noqa: SIM110  # once per setting: all() costs double
            if self._segment(owner, name) is not one:
                return False
        return True

    def _fragment(self, owner: str, key: str, state: SettingState, floor: int) -> _Fragment:
        setting = state.setting
        targeting = setting.environments[self._subject.environment]
        references = References(resolve=lambda name: self._segment(owner, name))
        logic = lower(targeting, references)
        used = references.used
        references.problems.extend(_past_bounds(logic))
        flag = msgspec.Raw(canonical(_flag(setting, targeting, logic)))
        references.problems.extend(_multiplied(key, flag, logic, used.values()))
        path = f"/services/{owner}/settings/{key}/environments/{self._subject.environment}"
        for problem in references.problems:
            self._problems.append(msgspec.structs.replace(problem, path=path))
        facts = SettingFacts(
            type=setting.type,
            revision=max(
                floor,
                state.revisions.get(self._subject.environment, 0),
                *(one.revision for one in used.values()),
            ),
            digest=digest(canonical([flag, *uses(used.values()), self._semantics])),
            service=owner if owner != self._subject.service else "",
        )
        return _Fragment(
            owner=owner,
            state=state,
            floor=floor,
            semantics=self._semantics,
            used=used,
            flag=flag,
            facts=msgspec.Raw(canonical(facts)),
            schema=None if setting.schema is None else msgspec.Raw(canonical(setting.schema)),
        )

    def _segment(self, owner: str, name: str) -> Lowered | None:
        """The segment that `name` means in the rules of `owner`."""
        if (known := self.kept.segments.get((owner, name))) is not None:
            return known[1]
        removed_at = 0
        for service, included_at in reach(self._services, owner):
            found = self._services[service]
            removed_at = max(removed_at, found.segments_removed.get(name, 0))
            if (state := found.segments.get(name)) is not None:
                own = state.revisions.get(self._subject.environment, 0)
                revision = max(own, included_at, removed_at)
                old = self._before.segments.get((owner, name))
                if old is None or old[0] is not state or old[1].revision != revision:
                    old = (state, self._lowered(service, name, state, revision))
                self.kept.segments[owner, name] = old
                return old[1]
        return None

    def _lowered(self, service: str, name: str, state: SegmentState, revision: int) -> Lowered:
        own = service == self._subject.service
        audience = state.segment.environments.get(self._subject.environment, state.segment.audience)
        return Lowered(
            name=name if own else f"{service}/{name}",
            revision=revision,
            body=b"" if audience.members_digest else canonical(segment_logic(audience)),
            table=_table(audience) if audience.members_digest else None,
        )


def _past_bounds(logic: JSON) -> Iterator[Problem]:
    """Lowering adds a few levels to what the author wrote: consumers count them all."""
    depth, nodes = measure(logic)
    for code, count, count_max in (
        ("logic-depth", depth, limits.LOGIC_DEPTH_MAX),
        ("logic-size", nodes, limits.LOGIC_NODES_MAX),
    ):
        if count > count_max:
            message = f"its targeting has a {code.replace('-', ' ')} of {count}, above {count_max}"
            yield Problem(code=code, message=message, hint="name parts of it as segments")


def _multiplied(
    key: str, flag: msgspec.Raw, logic: JSON, used: Collection[Lowered]
) -> Iterator[Problem]:
    """What loading would refuse: segments count as often as the rule refers to them.

    A reference is two values and stands for no more operators than its segment has objects. Only
    where that could pass the bound the flag is prepared as consumers do it.
    """
    _, nodes = measure(logic)
    most = max((one.body.count(b"{") for one in used), default=0)
    if nodes + nodes // 2 * most <= limits.LOGIC_CALLS_MAX:
        return
    evaluators, _ = uses(used)
    for problem in check_flag(key, flag, evaluators):
        if problem.severity == "error":
            hint = "join conditions that refer to one segment, or make the segment smaller"
            yield msgspec.structs.replace(problem, hint=problem.hint or hint)


def _table(audience: Audience) -> SegmentFacts:
    return SegmentFacts(
        by=audience.by,
        digest=audience.table_digest,
        members=audience.member_count,
        bytes=audience.table_bytes,
    )


def _flag(setting: Setting, targeting: Targeting, logic: JSON) -> dict[str, JSON]:
    """The flagd flag definition."""
    flag: dict[str, JSON] = {
        "state": "ENABLED" if targeting.enabled else "DISABLED",
        "variants": setting.variants,
    }
    if targeting.default is not None:
        flag["defaultVariant"] = targeting.default
    if logic is not None:
        flag["targeting"] = logic
    if setting.metadata:
        flag["metadata"] = setting.metadata
    return flag


def _semantics(state: State, subject: Subject) -> Semantics:
    environment = environment_of(state, subject.environment).environment
    return Semantics(bucketing=environment.bucketing)


def _bury(tombs: dict[str, int], removed: Mapping[str, int]) -> None:
    for key, revision in removed.items():
        tombs[key] = max(revision, tombs.get(key, 0))


def _newest(tombs: Mapping[str, int], there: Mapping[str, object]) -> tuple[dict[str, int], int]:
    """Newest removals up to their bound, and the newest revision that was left out."""
    gone = sorted((-revision, key) for key, revision in tombs.items() if key not in there)
    named, left_out = gone[: limits.REMOVED_MAX], gone[limits.REMOVED_MAX :]
    return {key: -at for at, key in named}, -left_out[0][0] if left_out else 0


def _too_many(subject: Subject, count: int) -> Problem:
    return Problem(
        code="settings-count",
        message=f"{subject} would have {count} settings, at most {limits.SETTINGS_MAX} are allowed",
        path=f"/services/{subject.service}",
        hint="split the service, or include less",
    )


def _too_many_tokens(subject: Subject, count: int, size: int) -> Problem:
    return Problem(
        code="tokens-size",
        message=f"the {count} tokens of {subject.environment} take {size} bytes, "
        f"at most {limits.VALUE_BYTES_MAX} are allowed",
        path="/tokens",
        hint="revoke tokens that nobody uses, or scope each to one environment",
    )


def _access(state: State, subject: Subject, revision: int) -> _Parts:
    """One object setting with the tokens that may do anything in the environment.

    It is held to the bound of every value: an edge that refused it would let nobody in.
    """
    tokens = {}
    for name, kept in state.tokens.items():
        here = tuple(s for s in kept.token.scopes if s.environment in (subject.environment, "*"))
        if here:
            tokens[name] = msgspec.structs.replace(kept.token, scopes=here)
    value = canonical(tokens)
    if len(value) > limits.VALUE_BYTES_MAX:
        raise Invalid([_too_many_tokens(subject, len(tokens), len(value))])
    variants = {ACCESS_KEY: msgspec.Raw(value)}
    flag = canonical({"state": "ENABLED", "variants": variants, "defaultVariant": ACCESS_KEY})
    source = canonical([msgspec.Raw(flag), {}, {}, _semantics(state, subject)])
    facts = SettingFacts(type="object", revision=revision, digest=digest(source))
    return _Parts(
        flags={ACCESS_KEY: msgspec.Raw(flag)},
        settings={ACCESS_KEY: msgspec.Raw(canonical(facts))},
    )
