"""What conditions say about one another, as far as constants prove it: for lint, never for answers.

    formula({"===": [{"var": "tenant"}, "contoso"]}) -> OneOf("tenant", {"contoso"}, holds=True)
    is_contradiction(f)      no context makes it hold
    implies(f, g)            every context that makes f hold makes g hold

Both say yes only when it is certain, and no when they do not know; their work is bounded. Values of
one attribute are told apart as Python's `==` does it, which is what `===` and `in` evaluate to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec

from holdfast.core.model import JSON, Audience
from holdfast.core.targeting.interpret import Run
from holdfast.core.targeting.prepare import BadRule, Rules
from holdfast.core.targeting.values import NOT_NUMBERS, truth

STEPS_MAX: Final = 20_000
"""Comparisons in one question; beyond them the answer is "not known"."""
DEPTH_MAX: Final = 64
_CONTEXT: Final = frozenset({"var", "missing", "missing_some", "$ref", "in_segment", "fractional"})
_AS_TEXT: Final = "\0"
"""After an attribute's name: its text, which is all that `==` sees; that of ["a"] is "a", too."""
_TURNED: Final = {">": "<", ">=": "<=", "<": ">", "<=": ">="}

Segment: TypeAlias = Callable[[str], Audience | None]
"""A segment's name as the rule has it -> who is in it; none where that isn't known."""


class OneOf(msgspec.Struct, frozen=True):
    """The attribute is one of `values`, or (`holds` false) none of them."""

    attribute: str
    values: frozenset[JSON]
    holds: bool = True


class Range(msgspec.Struct, frozen=True):
    """The attribute's number is above `low` and below `high`, which count in where they say so."""

    attribute: str
    low: float = float("-inf")
    high: float = float("inf")
    low_counts: bool = False
    high_counts: bool = False


class Opaque(msgspec.Struct, frozen=True):
    """Something that is only known to be itself, by its JSON."""

    text: bytes
    holds: bool = True


class All(msgspec.Struct, frozen=True):
    parts: tuple[Formula, ...]


class Any(msgspec.Struct, frozen=True):
    parts: tuple[Formula, ...]


Literal: TypeAlias = OneOf | Range | Opaque
Formula: TypeAlias = Literal | All | Any
TRUE: Final = All(())
FALSE: Final = Any(())


def formula(logic: JSON, segment: Segment = lambda _: None, *, holds: bool = True) -> Formula:
    """The condition as a formula; with `holds` false, its opposite. The depth is bounded before."""
    if not isinstance(logic, dict) or len(logic) != 1:
        return _constant(truth(logic), holds)
    ((operator, given),) = logic.items()
    arguments = given if isinstance(given, list) else [given]
    if operator in {"and", "or"} and arguments:
        parts = tuple(formula(one, segment, holds=holds) for one in arguments)
        return _joined(All if (operator == "and") == holds else Any, parts)
    if operator in {"!", "!!"} and len(arguments) == 1:
        return formula(arguments[0], segment, holds=holds == (operator == "!!"))
    if operator == "$ref" and isinstance(given, str):
        return _reference(given, segment, holds)
    if not _reads_context(logic):
        known = _evaluated(logic)
        if known is not None:
            return _constant(known, holds)
    return _literal(operator, arguments, holds) or Opaque(_text(logic), holds)


class Work:
    """What many questions may cost together, in comparisons; with none left nothing is certain."""

    def __init__(self, steps: int) -> None:
        self.left = steps


def implies(one: Formula, other: Formula, work: Work | None = None) -> bool:
    """Whether `other` holds wherever `one` does; false where that isn't certain."""
    return _asked(one, other, work)


def is_contradiction(one: Formula, work: Work | None = None) -> bool:
    """Whether no context makes it hold; false where that isn't certain."""
    return _asked(one, FALSE, work)


def _asked(one: Formula, other: Formula, work: Work | None) -> bool:
    steps = STEPS_MAX if work is None else min(STEPS_MAX, max(0, work.left))
    question = _Question(steps)
    answer = question.implies(one, other)
    if work is not None:
        work.left -= steps - question.left
    return answer


def any_of(parts: Iterable[Formula]) -> Formula:
    return _joined(Any, tuple(parts))


def all_of(parts: Iterable[Formula]) -> Formula:
    return _joined(All, tuple(parts))


def _constant(value: bool, holds: bool) -> Formula:
    return TRUE if value == holds else FALSE


def _joined(kind: type[All | Any], parts: tuple[Formula, ...]) -> Formula:
    """Parts of the same kind are taken in; what decides the whole is the whole."""
    flat: list[Formula] = []
    for part in parts:
        if isinstance(part, kind):
            flat += part.parts
        else:
            flat.append(part)
    decided = FALSE if kind is All else TRUE
    if decided in flat:
        return decided
    return flat[0] if len(flat) == 1 else kind(tuple(dict.fromkeys(flat)))


def _reference(name: str, segment: Segment, holds: bool) -> Formula:
    audience = segment(name)
    if audience is not None and audience.logic is not None:
        return formula(audience.logic, holds=holds)
    if audience is not None and audience.by and not audience.members_digest:
        return OneOf(audience.by, frozenset(audience.members), holds)
    return Opaque(_text({"$ref": name}), holds)


def _literal(  # noqa: PLR0911 - one return for each kind of literal
    operator: str, arguments: list[JSON], holds: bool
) -> Literal | None:
    if len(arguments) != 2:
        return None
    left, right = arguments
    if operator == "in":
        name = _attribute(left)
        if name is not None and isinstance(right, list) and all(map(_is_scalar, right)):
            return OneOf(name, frozenset(right), holds)
        return None
    if _attribute(left) is None:
        left, right, operator = right, left, _TURNED.get(operator, operator)
    name = _attribute(left)
    if name is None or not _is_scalar(right):
        return None
    if operator in {"===", "!=="}:
        return OneOf(name, frozenset((right,)), holds == (operator == "==="))
    if operator in {"==", "!="} and isinstance(right, str) and not _is_numeric(right):
        return OneOf(name + _AS_TEXT, frozenset((right,)), holds == (operator == "=="))
    if holds and operator in _TURNED and type(right) in (int, float):
        return _range(name, operator, right)
    return None


def _range(name: str, operator: str, bound: float) -> Range:
    counts = operator.endswith("=")
    if operator.startswith(">"):
        return Range(name, low=bound, low_counts=counts)
    return Range(name, high=bound, high_counts=counts)


def _attribute(logic: JSON) -> str | None:
    """The attribute that `{"var": name}` reads; a default or an index makes it something else."""
    if not isinstance(logic, dict) or len(logic) != 1:
        return None
    name = logic.get("var")
    if isinstance(name, list) and len(name) == 1:
        name = name[0]
    return name if isinstance(name, str) and name else None


def _is_scalar(value: JSON) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _is_numeric(text: str) -> bool:
    """Whether `==` would meet this text as a number."""
    if text.strip().lower() in NOT_NUMBERS:
        return False
    try:
        float(text)
    except ValueError:
        return not text.strip()
    return True


def _reads_context(logic: JSON) -> bool:
    waiting = [logic]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if not _CONTEXT.isdisjoint(item):
                return True
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return False


def _evaluated(logic: JSON) -> bool | None:
    """The truth of what reads no context; none when it can't be evaluated."""
    try:
        node = Rules({}, lambda _: None).prepare({"!!": [logic]})
        return None if node is None else bool(Run("v3", {}).apply(node, {}))
    except (BadRule, ArithmeticError, TypeError, ValueError):
        return None
    except Exception:  # noqa: BLE001 - unknown operators and exhausted work: not known, then
        return None


def _text(logic: JSON) -> bytes:
    return msgspec.json.encode(logic, order="deterministic")


class _Facts:
    """What a conjunction of literals says of each attribute; `broken` when it can't hold."""

    def __init__(self, literals: Iterable[Literal]) -> None:
        self.allowed: dict[str, frozenset[JSON]] = {}
        self.excluded: dict[str, frozenset[JSON]] = {}
        self.ranges: dict[str, Range] = {}
        self.opaque: dict[bytes, bool] = {}
        self.broken = False
        for literal in literals:
            self._learn(literal)
        for name, values in self.allowed.items():
            kept = values - self.excluded.get(name, frozenset())
            around = self.ranges.get(name)
            if around is not None:
                kept = frozenset(value for value in kept if _within(value, around) is not False)
            self.allowed[name] = kept
            self.broken = self.broken or not kept

    def _learn(self, literal: Literal) -> None:
        if isinstance(literal, Opaque):
            known = self.opaque.setdefault(literal.text, literal.holds)
            self.broken = self.broken or known != literal.holds
        elif isinstance(literal, Range):
            narrowed = _narrowed(self.ranges.get(literal.attribute), literal)
            self.ranges[literal.attribute] = narrowed
            self.broken = self.broken or _is_empty(narrowed)
        elif literal.holds:
            known_values = self.allowed.get(literal.attribute)
            both = literal.values if known_values is None else known_values & literal.values
            self.allowed[literal.attribute] = both
        else:
            out = self.excluded.get(literal.attribute, frozenset())
            self.excluded[literal.attribute] = out | literal.values

    def prove(self, literal: Literal) -> bool:
        if isinstance(literal, Opaque):
            return self.opaque.get(literal.text) is literal.holds
        allowed = self.allowed.get(literal.attribute)
        if isinstance(literal, Range):
            if allowed is not None and all(_within(one, literal) for one in allowed):
                return True
            around = self.ranges.get(literal.attribute)
            return around is not None and _narrowed(around, literal) == around
        if literal.holds:
            return allowed is not None and allowed <= literal.values
        if allowed is not None:
            return allowed.isdisjoint(literal.values)
        return literal.values <= self.excluded.get(literal.attribute, frozenset())


def _within(value: JSON, around: Range) -> bool | None:
    """Whether a constant is in a range; none for one whose number isn't its own."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    above = value > around.low or (around.low_counts and value == around.low)
    return above and (value < around.high or (around.high_counts and value == around.high))


def _narrowed(one: Range | None, other: Range) -> Range:
    if one is None:
        return other
    low = max((one.low, not one.low_counts), (other.low, not other.low_counts))
    high = min((one.high, one.high_counts), (other.high, other.high_counts))
    return Range(one.attribute, low[0], high[0], not low[1], high[1])


def _is_empty(one: Range) -> bool:
    if one.low == one.high:
        return not (one.low_counts and one.high_counts)
    return one.low > one.high


class _Question:
    """One question with its budget of work."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def implies(  # noqa: PLR0911 - one return for each kind of formula
        self, one: Formula, other: Formula, depth: int = 0
    ) -> bool:
        self.left -= 1
        if self.left < 0 or depth > DEPTH_MAX:
            return False
        if isinstance(one, Any):
            return all(self.implies(part, other, depth + 1) for part in one.parts)
        if isinstance(other, All):
            return all(self.implies(one, part, depth + 1) for part in other.parts)
        parts = one.parts if isinstance(one, All) else (one,)
        literals = [part for part in parts if not isinstance(part, All | Any)]
        self.left -= len(literals)
        facts = _Facts(literals)
        if facts.broken:
            return True
        if not isinstance(other, Any):
            if facts.prove(other):
                return True
        elif any(self.implies(one, part, depth + 1) for part in other.parts):
            return True
        return self._by_cases(parts, other, depth)

    def _by_cases(self, parts: tuple[Formula, ...], other: Formula, depth: int) -> bool:
        """The first alternative in a conjunction, case by case."""
        for number, part in enumerate(parts):
            if isinstance(part, Any):
                rest = (*parts[:number], *parts[number + 1 :])
                return all(
                    self.implies(_joined(All, (*rest, case)), other, depth + 1)
                    for case in part.parts
                )
        return False
