"""What the write door asks of plans and rollouts: that they can be obeyed, and don't cross."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from typing import Final

import msgspec

from holdfast.core import limits
from holdfast.core.covered import (
    Services,
    differ,
    overlay,
    rollouts_in,
    segment_at,
    segments_differ,
    segments_of,
    services_of,
    setting_at,
    settings_of,
)
from holdfast.core.errors import Problem
from holdfast.core.fold import after
from holdfast.core.model import (
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    Edit,
    Environment,
    MoveRollout,
    PutEnvironment,
    PutSegment,
    PutService,
    PutSetting,
    StartRollout,
)
from holdfast.core.pointer import near, pointer
from holdfast.core.policies import PERCENT_PARTS, Plan
from holdfast.core.rollback import all_rolled_back, ended, referred, rolled_back
from holdfast.core.state import Before, RolloutState, State, closure

STAGES_MAX: Final = 32
RINGS_MAX: Final = 64
BAKE_S_MAX: Final = 30 * 24 * 3_600
ROLLOUTS_MAX: Final = 100
"""Rollouts that run in one environment at a time."""
SERVICES_AT_ONCE: Final = 10
"""One in so many services of an environment may go over to another bucketing at a time."""
_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_ATTRIBUTE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}")


def check_rollouts(old: State, edits: Sequence[Edit], new: State) -> Iterator[Problem]:
    """All problems of the edits that concern rollouts; `new` is the state after them."""
    over = ended(edits)
    for edit in edits:
        match edit:
            case PutEnvironment():
                yield from _environment(old, edit)
            case MoveRollout():
                yield from _move(old, edit, edits, new)
    yield from _starts(edits, new)
    running = {name: one for name, one in old.rollouts.items() if name not in over}
    if running:
        yield from _busy(old, edits, new, running)
    for name, rollout in new.rollouts.items():
        if name not in old.rollouts:
            yield from _retyped(rollout, new)


# Plans --------------------------------------------------------------------------------------------


def check_plan(plan: Plan, path: str) -> Iterator[Problem]:
    """Stages that only widen, up to everybody, and gates that can be asked."""
    if not 1 <= len(plan.stages) <= STAGES_MAX:
        message = f"{len(plan.stages)} stages; 1 to {STAGES_MAX} are possible"
        yield _plan("stages", message, f"{path}/stages", "name each step of the way to everybody")
        return
    yield from _stages(plan, path)
    for field, name in (("unit", plan.unit), ("ring", plan.ring)):
        if not _ATTRIBUTE.fullmatch(name):
            message = f"`{name[:60]}` can't name an attribute"
            yield _plan("wrong-name", message, f"{path}/{field}", "name one of the context")
    gates = plan.gates
    if not 0 < gates.alpha < 1:
        hint = "0.0005 halts one harmless rollout in 2,000"
        yield _plan("alpha", f"{gates.alpha:g} is not in (0, 1)", f"{path}/gates/alpha", hint)
    for field in ("objective_ms", "silence_s"):
        value = getattr(gates, field)
        if not isfinite(value) or value < 0:
            yield _plan("wrong-value", f"{value} is below 0", f"{path}/gates/{field}", "0 is off")
    if not isfinite(gates.query_max):
        yield _plan("wrong-value", "no number", f"{path}/gates/query_max", "give the bound")
    if bool(gates.query) != bool(gates.query_url):
        hint = "give the PromQL and the server's address"
        yield _plan("query", "`query` and `query_url` go together", f"{path}/gates/query", hint)
    for field in ("query", "query_url"):
        if len(getattr(gates, field)) > limits.SOURCE_CHARS_MAX:
            message = f"more than {limits.SOURCE_CHARS_MAX} characters"
            yield _plan("too-long", message, f"{path}/gates/{field}", "shorten it")


def _stages(plan: Plan, path: str) -> Iterator[Problem]:
    least = 0.0
    for number, stage in enumerate(plan.stages):
        where = f"{path}/stages/{number}"
        if not 0 <= stage.percent <= 100 or 0 < stage.percent < 1 / PERCENT_PARTS:
            hint = f"0, or {1 / PERCENT_PARTS} to 100"
            message = f"{stage.percent} is no share in percent"
            yield _plan("percent", message, f"{where}/percent", hint)
        elif stage.percent < least and not (stage.percent == 0 and stage.rings):
            hint = "whoever has a change keeps it: shares only grow"
            message = f"{stage.percent:g} % comes after {least:g} %"
            yield _plan("percent", message, f"{where}/percent", hint)
        else:
            least = max(least, stage.percent)
        if not 0 <= stage.bake_s <= BAKE_S_MAX:
            hint = f"0 to {BAKE_S_MAX} seconds"
            yield _plan("wrong-value", f"{stage.bake_s} s", f"{where}/bake_s", hint)
        if len(stage.name) > limits.NAME_CHARS_MAX:
            yield _plan("too-long", "a name like a sentence", f"{where}/name", "shorten it")
        if len(stage.rings) > RINGS_MAX or not all(
            0 < len(one) <= limits.NAME_CHARS_MAX for one in stage.rings
        ):
            message = f"rings are at most {RINGS_MAX} names"
            yield _plan("rings", message, f"{where}/rings", "name those that come new")
    if plan.stages[-1].percent != 100:
        hint = "let the last stage have `percent: 100`"
        where = f"{path}/stages/{len(plan.stages) - 1}/percent"
        yield _plan("percent", "the last stage leaves some out", where, hint)


def _plan(code: str, message: str, path: str, hint: str) -> Problem:
    return Problem(code=code, message=message, path=path, hint=hint)


def _environment(old: State, edit: PutEnvironment) -> Iterator[Problem]:
    path = pointer(("environments", edit.environment))
    policy = edit.to.policy
    for field, plan in (("rollout", policy.rollout), ("fast", policy.fast)):
        if plan is not None:
            yield from check_plan(plan, f"{path}/policy/{field}")
    known = old.environments.get(edit.environment)
    if known is not None:
        yield from _bucketing(old, known.environment, edit, path)


def _bucketing(old: State, was: Environment, edit: PutEnvironment, path: str) -> Iterator[Problem]:
    """Another bucketing deals a service's splits anew: so that goes by few services at a time.

    Both sides of one snapshot are dealt alike, so that no rollout can stage it within a service. A
    rollout's old side is one of them, of what is being deleted too.
    """
    here = rollouts_in(old, edit.environment)
    covered = {name for one in here.values() for name in services_of(one.before)}
    there = covered | {
        name
        for name in old.services
        for each in closure(old.services, name)
        if each in covered
        or any(
            edit.environment in one.setting.environments
            for one in old.services[each].settings.values()
        )
    }
    moved = {name for name in there if was.bucketing_of(name) != edit.to.bucketing_of(name)}
    if moved and here:
        message = "a rollout is on its way here, and another bucketing would deal its splits anew"
        hint = "let it end, or roll it back: holdfast rollout list"
        yield _plan("bucketing-change", message, path, hint)
    most = max(1, len(there) // SERVICES_AT_ONCE)
    if was.policy.rollout is not None and len(moved) > most:
        message = (
            f"another bucketing deals all splits of {len(moved)} services anew, for everybody at "
            f"once; changes are staged here, so at most {most} of {len(there)} go at a time"
        )
        hint = f"holdfast env move {edit.environment} --bucketing … SERVICE, one after the other"
        yield _plan("bucketing-change", message, path, hint)


# Edits --------------------------------------------------------------------------------------------


def _starts(edits: Iterable[Edit], new: State) -> Iterator[Problem]:
    seen: set[str] = set()
    for edit in edits:
        if not isinstance(edit, StartRollout):
            continue
        name, path = edit.environment, pointer(("rollouts", edit.environment))
        if name not in new.environments:
            hint = near(name, new.environments) or "create it first"
            message = f"there is no environment `{name[:80]}`"
            yield _plan("unknown-environment", message, path, hint)
        if name in seen:
            hint = "one change goes out by one plan in an environment"
            yield _plan("rollout", f"two rollouts in `{name[:80]}`", path, hint)
        seen.add(name)
        yield from check_plan(edit.plan, f"{path}/plan")
    for name in seen:
        count = sum(one.environment == name for one in new.rollouts.values())
        if count > ROLLOUTS_MAX:
            message = f"{count} rollouts in `{name}`; {ROLLOUTS_MAX} are the most"
            hint = "wait until one has ended"
            yield _plan("too-many", message, pointer(("rollouts", name)), hint)


def _move(old: State, edit: MoveRollout, edits: Sequence[Edit], new: State) -> Iterator[Problem]:
    path = pointer(("rollouts", edit.rollout))
    rollout = old.rollouts.get(edit.rollout)
    if rollout is None:
        hint = near(edit.rollout, old.rollouts) or "it has ended, or never was"
        message = f"no rollout `{edit.rollout[:80]}` is on its way"
        yield _plan("unknown-rollout", message, path, hint)
        return
    stages = len(rollout.plan.stages)
    if not rollout.stage <= edit.stage < stages:
        message = f"stage {edit.stage} after stage {rollout.stage} of {stages}"
        hint = "stages only go on; to take the change away, roll back"
        yield _plan("rollout-stage", message, f"{path}/stage", hint)
    if edit.status == "rolled-back" and not _is_put_back(old, edit.rollout, edits, new):
        message = "the edits don't put back all that the change found"
        hint = f"take the edits that `holdfast rollout roll-back {edit.rollout}` makes"
        yield _plan("rollout-edits", message, path, hint)


def _is_put_back(old: State, name: str, edits: Sequence[Edit], new: State) -> bool:
    """Or edited on top, and so under way in a rollout that the same change begins, or meant for
    everybody at once where nothing asks for one.
    """
    environment, before = old.rollouts[name].environment, old.rollouts[name].before
    back = after(old, rolled_back(old, name))
    begun = new.rollouts.get(f"{environment}.{new.head.revision}")
    edited: set[tuple[str, str]] = set()
    free = environment in old.environments and (
        old.environments[environment].environment.policy.rollout is None
    )
    if begun is not None or free:
        edited = {(e.service, e.key) for e in edits if isinstance(e, PutSetting | DeleteSetting)}
    for service, key, was in settings_of(before):
        wanted, now = (setting_at(one.services, service, key) for one in (back, new))
        differs = all(differ(environment, one, now) for one in (was, wanted))
        if differs and (service, key) not in edited:
            return False
    return not any(
        had is not None
        and segments_differ(environment, had, segment_at(new.services, service, name))
        for service, name, had in segments_of(before)
    )


def _retyped(rollout: RolloutState, new: State) -> Iterator[Problem]:
    for service, key, old in settings_of(rollout.before):
        now = setting_at(new.services, service, key)
        if old is not None and now is not None and old.type != now.type:
            message = f"its type would be {old.type} for some and {now.type} for others"
            hint = "make a setting of another name, move its readers there, then delete this one"
            path = pointer(("services", service, "settings", key, "type"))
            yield _plan("type-change", message, path, hint)


# One at a time ------------------------------------------------------------------------------------


def _busy(
    old: State, edits: Sequence[Edit], new: State, running: dict[str, RolloutState]
) -> Iterator[Problem]:
    """Edits of what a rollout covers, or of what decides how it is reached.

    What takes a rollout back is in no other one's way: nothing keeps it from going.
    """
    back = _going_back(old, edits)
    for edit in edits:
        if not isinstance(
            edit,
            PutSetting | DeleteSetting | PutSegment | DeleteSegment | PutService | DeleteService,
        ):
            continue
        if _encode(edit) in back:
            continue
        for name, rollout in running.items():
            if crosses(old, new, edit, rollout):
                yield _is_busy(edit, name, rollout)


def _going_back(old: State, edits: Sequence[Edit]) -> set[bytes]:
    """The edits that take back what this change does, as bytes."""
    names = [name for name, move in ended(edits).items() if move.status == "rolled-back"]
    return {_encode(edit) for edit in all_rolled_back(old, names)}


def _is_busy(edit: Edit, name: str, rollout: RolloutState) -> Problem:
    message = f"rollout {name} is on its way in {rollout.environment} with this"
    hint = f"let it finish, or end it: holdfast rollout roll-back {name}"
    match edit:
        case PutSetting() | DeleteSetting():
            path = pointer(("services", edit.service, "settings", edit.key))
        case PutSegment() | DeleteSegment():
            path = pointer(("services", edit.service, "segments", edit.segment))
        case PutService() | DeleteService():
            path = pointer(("services", edit.service))
        case _:
            path = ""
    return _plan("rollout-busy", message, path, hint)


def crosses(old: State, new: State, edit: Edit, rollout: RolloutState) -> bool:
    """Whether the edit is of what the rollout covers, or of what decides how that is reached."""
    environment, before = rollout.environment, rollout.before
    match edit:
        case PutSetting() | DeleteSetting():
            was, now = (setting_at(s.services, edit.service, edit.key) for s in (old, new))
            differs = differ(environment, was, now)
            covering = {name for name, keys in before.settings.items() if edit.key in keys}
            came_or_went = was is None or now is None
        case PutSegment() | DeleteSegment():
            had, has = (segment_at(s.services, edit.service, edit.segment) for s in (old, new))
            differs = segments_differ(environment, had, has)
            covering = {name for name, names in before.segments.items() if edit.segment in names}
            came_or_went = had is None or has is None
            if has is None and _is_named(old, edit.service, edit.segment, before):
                return differs
        case PutService():
            was_info, info = (one.services.get(edit.service) for one in (old, new))
            if was_info and info and was_info.info.includes == info.info.includes:
                return False
            return _regroups(old, new, edit.service, rollout)
        case DeleteService():  # made again by the same change, it has lost what it had all the same
            return _regroups(old, new, edit.service, rollout)
        case _:
            return False
    return differs and (
        edit.service in covering
        or (came_or_went and bool(covering) and _meets(old, new, edit.service, covering))
        or _is_near(new, edit.service, before)
    )


def _is_named(state: State, service: str, segment: str, before: Before) -> bool:
    """Whether a rule that a rollback would put back, be it switched off, names the segment."""
    return any(
        segment in referred(was) and service in closure(state.services, owner)
        for owner, _, was in settings_of(before)
    )


def _is_near(new: State, service: str, before: Before) -> bool:
    """Whether the service is reached through includes that are on their way."""
    views: tuple[Services, ...] = (new.services, overlay(new.services, before))
    return any(service in _region(view, name) for view in views for name in before.services)


def _meets(old: State, new: State, service: str, others: set[str]) -> bool:
    """Whether a snapshot has anything of the service and of one of the others."""
    return any(not others.isdisjoint(_region(one.services, service)) for one in (old, new))


def _regroups(old: State, new: State, service: str, rollout: RolloutState) -> bool:
    """Whether the service is in reach of the rollout, as it is or as the rollout found it."""
    covered = services_of(rollout.before)
    views: tuple[Services, ...] = (
        old.services,
        new.services,
        overlay(old.services, rollout.before),
        overlay(new.services, rollout.before),
    )
    return any(not covered.isdisjoint(_region(view, service)) for view in views)


def _region(services: Services, service: str) -> set[str]:
    """All that the service reaches, and those that reach it."""
    reached = set(closure(services, service)) | {service}
    return reached | {name for name in services if service in closure(services, name)}
