"""State -> Snapshot: a pure function of the journal up to the revision that touched the subject.

Per setting, `revision` is the newest one that may have moved an answer of it: of its own edits in
the environment, the segments that its rules refer to, the includes on its way here, the removal of
what shadowed it, and the environment's bucketing. Names resolve as their authors saw them: a
shared setting finds the segments of its own service, never those of the service that includes it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Final

import msgspec

from holdfast.core import limits
from holdfast.core.access import ACCESS
from holdfast.core.access_setting import access_setting
from holdfast.core.errors import Invalid, Problem
from holdfast.core.exposure import facts_of
from holdfast.core.lower import Lowered, References, lower, uses
from holdfast.core.model import JSON, Head, Setting, Subject, Targeting
from holdfast.core.needs import contract_facts
from holdfast.core.overrides import overlaid
from holdfast.core.probe_choice import Given, Made, Meant, choose
from holdfast.core.snapshot import (
    ACCESS_KEY,
    Budgets,
    Facts,
    Pacing,
    Previous,
    SegmentFacts,
    Semantics,
    SettingFacts,
    Snapshot,
)
from holdfast.core.staging import (
    Place,
    Side,
    Staging,
    Two,
    alike,
    merge,
    schema_of,
    stagings,
    two_sided,
)
from holdfast.core.state import SettingState, State, declared
from holdfast.core.subjects import (
    environment_of,
    known_services,
    reach,
    subject_revision,
    written_revision,
)
from holdfast.core.targeting.check import check_flag
from holdfast.core.targeting.prepare import measure
from holdfast.core.visible_segments import Kept, VisibleSegments
from holdfast.core.wire import canonical, digest

FRAGMENT_SUBJECTS_MAX: Final = 256
KEYS_MAX: Final = 100
"""Keys that a snapshot names as changed by one rollout, the first ones by name."""


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


def build(  # noqa: PLR0913 - a memo, and how strict it is
    state: State,
    subject: Subject,
    previous: Previous | None,
    *,
    head: Head | None = None,
    fragments: Fragments | None = None,
    held: bool = False,
) -> Snapshot:
    """The snapshot of `subject` in `state`.

    `previous` names the subject's snapshot before this one; none when this is its first. Bytes are
    reproducible when every revision that touched the subject gets its snapshot, one after the
    other. `head` is the journal's head at the subject's revision; it is needed when `state` is
    later than that. With `held` all probes that people wrote of what this revision touched have to
    come out; else those that don't are left out. Raises `NotFound` when there is no such subject,
    and `Invalid` with all problems: of that, of segments that aren't there, of bounds passed.
    """
    revision = subject_revision(state, subject)
    known, at = environment_of(state, subject.environment).environment, head or state.head
    if at.revision != revision:
        raise ValueError(f"{subject} is at revision {revision}, the head given at {at.revision}")
    if subject.service == ACCESS:
        flag, facts = access_setting(state, subject, revision, _semantics(state, subject))
        parts = _Parts(flags={ACCESS_KEY: flag}, settings={ACCESS_KEY: facts})
    else:
        builder = _Builder(state, subject, fragments.take(subject) if fragments else _Kept())
        parts = builder.parts(revision if held else None)
        if fragments:
            fragments.keep(subject, builder.kept)
    written = Snapshot(
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
            rollouts=parts.rollouts,
            probes=parts.probes,
            pacing=Pacing(**msgspec.structs.asdict(known.pacing)),
            shape=_budgets(state, subject),
            attributes=declared(state.services, subject.service),
        ),
        metadata={"flagSetId": subject.service, "version": str(revision)},
    )
    over = state.overrides.get(str(subject))
    return overlaid(written, over) if over else written


class _Parts(msgspec.Struct):
    """The sections of a snapshot that grow with its settings."""

    flags: dict[str, msgspec.Raw] = {}
    settings: dict[str, msgspec.Raw] = {}
    schemas: dict[str, msgspec.Raw] = {}
    evaluators: dict[str, msgspec.Raw] = {}
    segments: dict[str, SegmentFacts] = {}
    removed: dict[str, int] = {}
    removed_since: int = 0
    rollouts: dict[str, msgspec.Raw] = {}
    probes: dict[str, msgspec.Raw] = {}


class _Fragment(msgspec.Struct, frozen=True):
    """One setting as built, and all that it was built from.

    `floor` is the newest revision apart from the setting's own and its segments'. `rollout` is the
    one that gives it two sides; `state` is then the new one, or the old one of what goes away, and
    `was` the old side.
    """

    owner: str
    state: SettingState
    floor: int
    semantics: Semantics
    used: dict[str, Lowered]
    flag: msgspec.Raw
    facts: msgspec.Raw
    schema: msgspec.Raw | None
    rollout: str = ""
    was: Setting | None = None


class _Kept(msgspec.Struct, frozen=True):
    """What one build made, for the next one. `exposures` are those of rollouts, by name."""

    settings: dict[str, _Fragment] = {}
    segments: Kept = {}
    exposures: dict[str, Lowered] = {}
    probes: dict[str, Made] = {}


class _Builder:
    """One build. What is the very same object as in the build before is not lowered again."""

    def __init__(self, state: State, subject: Subject, before: _Kept) -> None:
        self._before = before
        self._state = state
        self._subject = subject
        self._services = known_services(state)
        self._semantics = _semantics(state, subject)
        here = environment_of(state, subject.environment)
        self._environment_revision = here.dealt(subject.service)
        self._problems: list[Problem] = []
        known = before.exposures
        self._stagings = stagings(state, subject, self._services, known)
        self._two_sided = two_sided(subject, self._services, self._stagings)
        self._segments = VisibleSegments(subject, self._services, self._stagings, before.segments)
        self.kept = _Kept(
            segments=self._segments.kept,
            exposures={one.exposure.name: one.exposure for one in self._stagings},
        )

    def parts(self, held: int | None) -> _Parts:
        """Raises `Invalid` with the problems of all settings."""
        parts = self.sections()
        parts.probes = self._probes(parts, held)
        return parts

    def sections(self) -> _Parts:
        """All but the probes. Raises as `parts`."""
        parts = _Parts()
        tombs: dict[str, int] = {}
        used: dict[str, Lowered] = {}
        for service, included_at in reach(self._services, self._subject.service):
            _bury(tombs, self._services[service].removed.get(self._subject.environment, {}))
            for key, fragment in self._settings_of(service, included_at, tombs):
                self._add(parts, used, key, fragment)
        for key, fragment in self._leaving(tombs):
            self._add(parts, used, key, fragment)
        used |= self.kept.exposures
        parts.evaluators, parts.segments = uses(used.values())
        parts.rollouts = {one.rollout: self._rollout(one) for one in self._stagings}
        parts.removed, parts.removed_since = _newest(tombs, parts.flags)
        if len(parts.flags) > limits.SETTINGS_MAX:
            self._problems.append(_too_many(self._subject, len(parts.flags)))
        if self._problems:
            raise Invalid(self._problems)
        return parts

    def _probes(self, parts: _Parts, held: int | None) -> dict[str, msgspec.Raw]:
        """Made from what consumers get. Raises `Invalid` where a written one doesn't come out."""
        state, subject = self._state, self._subject
        plain, evaluators = self.kept.settings, parts.evaluators
        if self._stagings:  # what people wrote is of the settings as they are meant to be
            meant = _Builder(msgspec.structs.replace(state, rollouts={}), subject, self.kept)
            evaluators = meant.sections().evaluators
            plain = meant.kept.settings
        chosen = choose(
            Given(
                subject=subject,
                revision=written_revision(state, subject),
                held=held,
                bucketing=self._semantics.bucketing,
                flags=parts.flags,
                facts=parts.settings,
                evaluators=parts.evaluators,
                meant={k: Meant(f.owner, f.state.setting, f.flag) for k, f in plain.items()},
                meant_evaluators=evaluators,
                contracts=state.contracts.get(subject.service, {}),
                contexts=state.contexts.get(str(subject), ()),
                known=self._before.probes,
            )
        )
        self.kept.probes.update(chosen.made)
        if chosen.problems:
            raise Invalid(chosen.problems)
        return chosen.probes

    def _rollout(self, staging: Staging) -> msgspec.Raw:
        """What the snapshot says of a rollout, with the keys that it gives two sides."""
        name = staging.exposure.name
        keys = [
            key
            for key, one in self.kept.settings.items()
            if any(part.name == name or _chosen_by(part, name) for part in one.used.values())
        ]
        return msgspec.Raw(canonical(facts_of(staging.state, sorted(keys)[:KEYS_MAX])))

    def _add(self, parts: _Parts, used: dict[str, Lowered], key: str, fragment: _Fragment) -> None:
        for one in fragment.used.values():
            used[one.name] = one
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
        environment, before, two_sided = (
            self._subject.environment,
            self._before.settings,
            self._two_sided,
        )
        for key, setting in self._services[service].settings.items():
            if key in self.kept.settings or environment not in setting.setting.environments:
                continue
            floor = max(least, tombs[key]) if key in tombs else least
            old = before.get(key)
            if key in two_sided:
                yield key, self._two_sided_fragment(key, two_sided[key], floor)
            elif old and old.state is setting and self._holds(old, service, floor):
                yield key, old
            else:
                yield key, self._fragment(service, key, setting, floor)

    def _leaving(self, tombs: Mapping[str, int]) -> Iterator[tuple[str, _Fragment]]:
        """Settings that a rollout takes away: whoever is not exposed still has them."""
        for key, two in self._two_sided.items():
            if two.new is None:
                floor = max(self._environment_revision, tombs.get(key, 0))
                yield key, self._two_sided_fragment(key, two, floor)

    def _holds(self, old: _Fragment, owner: str, floor: int, rollout: str = "") -> bool:
        if old.floor != floor or old.owner != owner or old.semantics != self._semantics:
            return False
        if old.rollout != rollout:
            return False
        for name, one in old.used.items():  # noqa: SIM110  # once per setting: all() costs double
            if self._segment(owner, name) is not one:
                return False
        return True

    def _segment(self, owner: str, name: str) -> Lowered | None:
        return self.kept.exposures.get(name) or self._segments.get(owner, name)

    def _fragment(self, owner: str, key: str, state: SettingState, floor: int) -> _Fragment:
        references = References(resolve=lambda name: self._segments.get(owner, name))
        side = self._side(state, references)
        flag = _flag(side.setting, side.targeting, side.logic)
        return self._made(key, Place(owner, state), floor, flag, references)

    def _side(self, state: SettingState, references: References) -> Side:
        targeting = state.setting.environments[self._subject.environment]
        return Side(state.setting, targeting, lower(targeting, references))

    def _two_sided_fragment(self, key: str, two: Two, floor: int) -> _Fragment:
        place, rollout, old = (
            two.new or two.old,
            two.staging.rollout,
            self._before.settings.get(key),
        )
        assert place is not None  # noqa: S101 - a side there is
        was = two.old.state.setting if two.old else None
        same = old and old.was is was and (two.new is None or old.state is place.state)
        if old and same and self._holds(old, place.owner, floor, rollout):
            return old
        references = References(resolve=partial(self._segment, place.owner))
        new_side, old_side = self._sides(two, references)
        if new_side and old_side and alike(new_side, old_side):
            flag = _flag(new_side.setting, new_side.targeting, new_side.logic)
        else:
            exposure = two.staging.exposure
            references.used[exposure.name] = exposure
            merged = merge(two.staging, new_side, old_side)
            shown = Targeting(default=merged.default)
            flag = _flag(place.state.setting, shown, merged.logic) | {"variants": merged.variants}
        made = self._made(key, place, floor, flag, references)
        nouns = [one.setting if one else None for one in (new_side, old_side)]
        schema = _schema(schema_of(*nouns))
        return msgspec.structs.replace(made, schema=schema, rollout=rollout, was=was)

    def _sides(self, two: Two, references: References) -> tuple[Side | None, Side | None]:
        """Both sides lowered, each with the segments that its own service sees."""
        sides: list[Side | None] = []
        for place, is_old in ((two.new, False), (two.old, True)):
            if place is None:
                sides.append(None)
                continue
            owner = place.owner
            met = References(resolve=partial(self._segments.get, owner), old=is_old)
            sides.append(self._side(place.state, met))
            references.problems.extend(met.problems)
            apart = is_old and two.new is not None and two.new.owner != owner
            references.used.update(
                {f"{owner}/{name}" if apart else name: one for name, one in met.used.items()}
            )
        return sides[0], sides[1]

    def _made(
        self, key: str, place: Place, floor: int, source: dict[str, JSON], references: References
    ) -> _Fragment:
        setting, used, logic = place.state.setting, references.used, source.get("targeting")
        references.problems.extend(_past_bounds(source))
        flag = msgspec.Raw(canonical(source))
        references.problems.extend(_multiplied(key, flag, logic, used.values()))
        where = f"environments/{self._subject.environment}"
        path = f"/services/{place.owner}/settings/{key}/{where}"
        for problem in references.problems:
            self._problems.append(msgspec.structs.replace(problem, path=path))
        facts = SettingFacts(
            type=setting.type,
            revision=max(
                floor,
                place.state.revisions.get(self._subject.environment, 0),
                *(one.revision for one in used.values()),
            ),
            digest=digest(canonical([flag, *uses(used.values()), self._semantics])),
            service=place.owner if place.owner != self._subject.service else "",
        )
        return _Fragment(
            owner=place.owner,
            state=place.state,
            floor=floor,
            semantics=self._semantics,
            used=used,
            flag=flag,
            facts=msgspec.Raw(canonical(facts)),
            schema=_schema(setting.schema),
        )


def _chosen_by(segment: Lowered, exposure: str) -> bool:
    return segment.choice is not None and segment.choice.exposure.name == exposure


def _schema(schema: JSON) -> msgspec.Raw | None:
    return None if schema is None else msgspec.Raw(canonical(schema))


def _past_bounds(flag: dict[str, JSON]) -> Iterator[Problem]:
    """Lowering adds a few levels to what the author wrote, and a rollout another side."""
    found = measure(flag.get("targeting"))
    bounds = (limits.LOGIC_DEPTH_MAX, limits.LOGIC_NODES_MAX)
    for code, count, count_max in zip(("logic-depth", "logic-size"), found, bounds, strict=True):
        if count > count_max:
            message = f"its targeting has a {code.replace('-', ' ')} of {count}, above {count_max}"
            yield Problem(code=code, message=message, hint="name parts of it as segments")
    count = len(flag["variants"])
    if count > limits.VARIANTS_MAX:
        message = f"with both sides of its rollout it has {count} variants"
        hint = f"{limits.VARIANTS_MAX} are the most: change fewer of them at once"
        yield Problem(code="variants", message=message, hint=hint)


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
    return Semantics(bucketing=environment.bucketing_of(subject.service))


def _budgets(state: State, subject: Subject) -> Budgets:
    """Whole numbers as integers: one float that JSON writes so has all of the bytes rewritten."""
    shape = environment_of(state, subject.environment).environment.policy.shape
    fields = msgspec.structs.asdict(shape).items()
    return Budgets(**{name: int(each) if each == int(each) else each for name, each in fields})


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
