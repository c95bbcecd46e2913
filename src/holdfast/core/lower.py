"""Rules -> the one JsonLogic `targeting` of a flagd flag, and segments -> what `$ref` stands for.

    {"if": [condition, serve, condition, {"fractional": …}, …, serve always]}

When no rule decides, JsonLogic's `if` gives null, which to flagd is the default variant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

import msgspec

from holdfast.core.errors import Problem
from holdfast.core.model import JSON, TARGETING_KEY, Audience, Rule, Split, Targeting
from holdfast.core.snapshot import SegmentFacts

FLAG_KEY: JSON = {"var": "$flagd.flagKey"}


class Lowered(msgspec.Struct, frozen=True):
    """A segment as a snapshot of one environment carries it, under `name`.

    Either `body`, the canonical JsonLogic that `{"$ref": name}` stands for, or `table`. `revision`
    is the newest one that changed who is in it. `choice` is there while a rollout changes it.
    """

    name: str
    revision: int
    body: bytes = b""
    table: SegmentFacts | None = None
    choice: Choice | None = None


class Choice(msgspec.Struct, frozen=True):
    """A segment on its way: `exposure` decides between what it will be and what it was."""

    exposure: Lowered
    new: Lowered
    old: Lowered


Resolve: TypeAlias = Callable[[str], Lowered | None]
"""A segment's name, as the rule's service sees it -> the segment; none when there is none."""


class References(msgspec.Struct):
    """What `lower` met on its way: segments by the name in the rule, and what is wrong.

    `old` says that what is lowered is on its way out: only what segments were counts for it.
    """

    resolve: Resolve
    used: dict[str, Lowered] = {}
    problems: list[Problem] = []
    old: bool = False

    def segment(self, name: str) -> Lowered | None:
        found = self.used.get(name) or self.resolve(name)
        if found is None:
            self.refuse(
                "segment-unknown", f"there is no segment {name!r}", "declare it, or drop the rule"
            )
        else:
            self.used[name] = found
        return found

    def refuse(self, code: str, message: str, hint: str) -> None:
        self.problems.append(Problem(code=code, message=message, hint=hint))


def lower(targeting: Targeting, references: References) -> JSON:
    """The JsonLogic of a setting's targeting; none when its default always decides."""
    if targeting.logic is not None:
        return _refer(targeting.logic, references)
    branches: list[JSON] = []
    for left, rule in enumerate(targeting.rules, 1 - len(targeting.rules)):
        condition = _condition(rule, references, last=left == 0)
        if condition is not None:
            branches.append(condition)
        branches.append(rule.serve if rule.split is None else fractional(rule.split))
        if condition is None:
            break  # whatever follows a rule that always holds is never asked
    if len(branches) == 1 and isinstance(branches[0], dict):
        return branches[0]
    if len(branches) == 1:
        branches.insert(0, True)  # flagd's schema wants an object, so no bare variant
    return {"if": branches} if branches else None


def _condition(rule: Rule, references: References, *, last: bool) -> JSON:
    """None when the rule decides whatever comes."""
    conditions = []
    if rule.logic is not None:
        conditions.append(_refer(rule.logic, references))
    if rule.split is not None and not (last and _is_shorthand(rule.split)):
        conditions.append(_guard(rule.split))
    if len(conditions) == 2:
        return {"and": conditions}
    return conditions[0] if conditions else None


def _guard(split: Split) -> JSON:
    """Who lacks the attribute is in no share of it, and falls through to the next rule.

    The shorthand gives null for no key and for an empty one, which is all that the last rule needs.
    The strict comparison is the one on whose null all of flagd's evaluators agree.
    """
    if _is_shorthand(split):
        return {"!!": [{"var": TARGETING_KEY}]}
    return {"!==": [{"var": split.by}, None]}


def _is_shorthand(split: Split) -> bool:
    return split.by == TARGETING_KEY and not split.seed


def fractional(split: Split) -> JSON:
    """Shares in the order of the variants' names: a mapping of weights has no order of its own."""
    arms: list[JSON] = [[variant, weight] for variant, weight in sorted(split.weights.items())]
    if _is_shorthand(split):
        return {"fractional": arms}
    return {"fractional": [{"cat": [split.seed or FLAG_KEY, {"var": split.by}]}, *arms]}


def segment_logic(audience: Audience) -> JSON:
    """What `{"$ref": …}` stands for; not looked into, because flagd doesn't nest references."""
    if audience.logic is not None:
        return audience.logic
    return {"in": [{"var": audience.by}, list(audience.members)]}


def _refer(logic: JSON, references: References) -> JSON:
    """The logic with references to segments as the snapshot names and carries them.

    Recursive: the write door holds logic to `limits.LOGIC_DEPTH_MAX`.
    """
    if isinstance(logic, list):
        return [_refer(item, references) for item in logic]
    if not isinstance(logic, dict):
        return logic
    match logic:
        case {"$ref": str(name), **rest} if not rest:
            return _reference(name, references)
        case {"in_segment": [value, str(name)], **rest} if not rest:
            return _look_up(_refer(value, references), name, references)
    return {key: _refer(value, references) for key, value in logic.items()}


def _reference(name: str, references: References) -> JSON:
    found = references.segment(name)
    if found is None:
        return None
    if found.table is not None:
        return {"in_segment": [{"var": found.table.by}, found.name]}
    return {"$ref": found.name}


def _look_up(value: JSON, name: str, references: References) -> JSON:
    found = references.segment(name)
    if found is None:
        return None
    counts = found
    if found.choice is not None:
        counts = found.choice.old if references.old else found.choice.new
    if counts.table is None:
        references.refuse(
            "segment-inline",
            f"in_segment looks into tables, and {name!r} is none",
            'write {"$ref": …} with its name: that works for every segment',
        )
    if found.choice is None:
        return {"in_segment": [value, found.name]}
    exposure, new, old = found.choice.exposure, found.choice.new, found.choice.old
    references.used[exposure.name] = exposure
    sides = [{"in_segment": [value, one.name]} if one.table else False for one in (new, old)]
    return {"if": [{"$ref": exposure.name}, *sides]}


def uses(found: Collection[Lowered]) -> tuple[dict[str, msgspec.Raw], dict[str, SegmentFacts]]:
    """The `$evaluators` and the `segments` of a snapshot in which these are referred to."""
    evaluators = {one.name: msgspec.Raw(one.body) for one in found if one.table is None}
    sides = [one for each in found if each.choice for one in (each.choice.new, each.choice.old)]
    return evaluators, {one.name: one.table for one in (*found, *sides) if one.table is not None}
