"""From a checked CEL tree to JsonLogic with flagd's operators.

CEL has three outcomes: true, false, and an error, which is what a missing attribute gives. `a || b`
is true if either is, whatever the other; `!error` is an error; and a rule whose condition is an
error does not match. JsonLogic has two outcomes. So nothing is lowered as such: `holds(node, True)`
is the logic for "is true", `holds(node, False)` the logic for "is false", and an error is neither.
Negation swaps the two and so never turns a missing attribute into a match.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from holdfast.core import limits
from holdfast.core.cel import literals
from holdfast.core.cel.checked import (
    Call,
    Constant,
    Ident,
    Node,
    Quantifier,
    Select,
)
from holdfast.core.cel.environment import compile_tree, near
from holdfast.core.cel.logic import all_of, any_of, negated, present
from holdfast.core.cel.operands import NUMBERS, Operands, TooLargeError, Value
from holdfast.core.cel.scope import Scope
from holdfast.core.errors import Invalid, Problem
from holdfast.core.model import JSON

_INVERSE = {"===": "!==", "!==": "===", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_COMPARISONS = {
    "_==_": "===", "_!=_": "!==", "_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">=",
}  # fmt: skip
_VERSION_OPERATORS = {"===": "=", "!==": "!="}


class Lowered(msgspec.Struct, frozen=True):
    """`logic` is JsonLogic (a literal true or false too), None when there are problems.

    The problems' lines and columns count from 1 in the source.
    """

    logic: JSON = None
    problems: tuple[Problem, ...] = ()


def lower(source: str, scope: Scope) -> Lowered:
    """Parse, type-check and lower one condition; all its problems come back, none is raised."""
    try:
        tree = compile_tree(source, scope)
    except Invalid as invalid:
        return Lowered(problems=invalid.problems)
    lowering = _Lowering(source, scope)
    try:
        logic = lowering.holds(tree, wanted=True)
    except TooLargeError:
        message = f"the condition lowers to more than {limits.LOGIC_NODES_MAX} nodes"
        hint = "take conditions out of conditions (`? :`), or name parts of it as segments"
        return Lowered(
            problems=(Problem(code="cel-too-large", message=message, hint=hint, line=1, column=1),)
        )
    if lowering.problems:
        unique = dict.fromkeys(lowering.problems)
        return Lowered(problems=tuple(unique))
    return Lowered(logic=logic)


class _Lowering(Operands):
    def holds(self, node: Node, *, wanted: bool) -> JSON:
        self._count()
        match node:
            case Constant(type="bool", value=value):
                return value is wanted
            case Select(test_only=True):
                return self._has_field(node, wanted)
            case Ident() | Select():
                return {"===": [self._value(node).logic, wanted]}
            case Quantifier():
                return self._quantified(node, wanted)
            case Call():
                return self._called(node, wanted)
        return self._refuse_condition(node)

    def _called(self, node: Call, wanted: bool) -> JSON:  # noqa: PLR0911  a table of operators
        name = node.function
        if name in {"_&&_", "_||_"}:
            join = all_of if (name == "_&&_") is wanted else any_of
            return join([self.holds(argument, wanted=wanted) for argument in node.args])
        if name == "!_":
            return self.holds(node.args[0], wanted=not wanted)
        if name == "_?_:_":
            return self._chosen(node, wanted)
        if name in _COMPARISONS:
            operator = _COMPARISONS[name]
            return self._compared(operator if wanted else _INVERSE[operator], *node.args)
        if name == "_[_]":
            return {"===": [self._value(node).logic, wanted]}
        if name == "dyn":
            return self.holds(node.args[0], wanted=wanted)
        special: dict[str, Callable[[Call, bool], JSON]] = {
            "@in": self._contained,
            "contains": self._contains,
            "startsWith": self._affixed,
            "endsWith": self._affixed,
            "same_major": self._same_version,
            "same_minor": self._same_version,
            "is_set": self._is_set,
            "in_segment": self._in_segment,
        }
        if name in special:
            return special[name](node, wanted)
        return self._refuse_condition(node)

    def _chosen(self, node: Call, wanted: bool) -> JSON:
        test, then, other = node.args
        return any_of(
            [
                all_of([self.holds(test, wanted=True), self.holds(then, wanted=wanted)]),
                all_of([self.holds(test, wanted=False), self.holds(other, wanted=wanted)]),
            ]
        )

    def _compared(self, operator: str, left: Node, right: Node) -> JSON:
        if _is_call(left, "semver") or _is_call(right, "semver"):
            return self._versions(operator, left, right)
        if left.type == right.type == "bool":
            return self._same_truth(operator, left, right)
        one, two = self._value(left), self._value(right)
        comparison = {operator: [one.logic, two.logic]}
        return all_of([*self._comparison_needs(operator, one, two, (left, right)), comparison])

    def _comparison_needs(
        self, operator: str, one: Value, two: Value, nodes: tuple[Node, Node]
    ) -> Sequence[JSON]:
        """The presence tests that the comparison does not imply itself."""
        needs = (*one.needs, *two.needs)
        if operator == "===" and one.bare and two.bare:
            # A missing attribute is null, and null equals nothing but the null of the other side.
            return one.needs if one.needs and two.needs else ()
        bound = _number_bound(operator, one, two)
        if bound is not None and all(node.type in NUMBERS for node in nodes) and not bound:
            return ()  # JsonLogic takes null for 0 here, and 0 fails the comparison
        return needs

    def _same_truth(self, operator: str, left: Node, right: Node) -> JSON:
        equal = operator == "==="
        return any_of(
            [
                all_of([self.holds(left, wanted=True), self.holds(right, wanted=equal)]),
                all_of([self.holds(left, wanted=False), self.holds(right, wanted=not equal)]),
            ]
        )

    def _versions(self, operator: str, left: Node, right: Node) -> JSON:
        """`sem_ver` gives null when either side is missing or is no version."""
        one, two = self._version(left), self._version(right)
        operator = _VERSION_OPERATORS.get(operator, operator)
        return all_of(
            [*_beyond_bare(one), *_beyond_bare(two), {"sem_ver": [one.logic, operator, two.logic]}]
        )

    def _version(self, node: Node) -> Value:
        if not isinstance(node, Call) or node.function != "semver":
            self._refuse(
                node, "cel-type", "a version is compared with a version", "write semver(…)"
            )
            return Value(None)
        return self._version_text(node.args[0])

    def _version_text(self, node: Node) -> Value:
        if isinstance(node, Constant) and not literals.is_version(str(node.value)):
            hint = "write it as major.minor.patch"
            self._refuse(node, "cel-literal", f"{node.value!r} is no semantic version", hint)
        return self._value(node)

    def _same_version(self, node: Call, wanted: bool) -> JSON:
        one, two = self._version(node.args[0]), self._version_text(node.args[1])
        operator = "^" if node.function == "same_major" else "~"
        test: JSON = {"sem_ver": [one.logic, operator, two.logic]}
        # On null, which is neither, `===` false stays false.
        test = test if wanted else {"===": [test, False]}
        return all_of([*_beyond_bare(one), *_beyond_bare(two), test])

    def _affixed(self, node: Call, wanted: bool) -> JSON:
        one, two = (self._value(argument) for argument in node.args)
        operator = "starts_with" if node.function == "startsWith" else "ends_with"
        test: JSON = {operator: [one.logic, two.logic]}
        test = test if wanted else {"===": [test, False]}
        return all_of([*_beyond_bare(one), *_beyond_bare(two), test])

    def _contains(self, node: Call, wanted: bool) -> JSON:
        text, part = (self._value(argument) for argument in node.args)
        test: JSON = {"in": [part.logic, text.logic]}
        if wanted:
            return all_of([*_beyond_bare(text), *part.needs, test])
        return all_of([*text.needs, *part.needs, {"!": [test]}])

    def _contained(self, node: Call, wanted: bool) -> JSON:
        item, holder = node.args
        if isinstance(holder, Call) and holder.function == "segment":
            return self._in_list_segment(item, holder, wanted)
        if holder.type == "map":
            return self._in_map(node, wanted)
        one, many = self._value(item), self._value(holder)
        test: JSON = {"in": [one.logic, many.logic]}
        if wanted:
            # Nothing is in what is missing, and null is in no list of constants.
            needs = one.needs if isinstance(holder, Ident | Select) else _beyond_bare(one)
            return all_of([*needs, *_beyond_bare(many), test])
        return all_of([*one.needs, *many.needs, {"!": [test]}])

    def _in_map(self, node: Call, wanted: bool) -> JSON:
        key, holder = node.args
        if not isinstance(key, Constant):
            hint = "only a constant key can be looked up"
            self._refuse(key, "cel-unsupported", "the key of a map must be constant here", hint)
            return False
        return self.holds(Select(node.at, "dyn", holder, key.value, test_only=True), wanted=wanted)

    def _has_field(self, node: Select, wanted: bool) -> JSON:
        path = self._path(Select(node.at, node.type, node.operand, node.field, test_only=False))
        test: JSON = {"!==" if wanted else "===": [{"var": path}, None]}
        return test if wanted else all_of([present(self._path(node.operand)), test])

    def _is_set(self, node: Call, wanted: bool) -> JSON:
        return {"!==" if wanted else "===": [{"var": self._path(node.args[0])}, None]}

    # Segments -------------------------------------------------------------------------------------

    def _in_segment(self, node: Call, wanted: bool) -> JSON:
        reference = self._reference(node, node.args[0])
        return reference if wanted else {"!": [reference]}

    def _in_list_segment(self, item: Node, holder: Call, wanted: bool) -> JSON:
        reference = self._reference(holder, holder.args[0])
        name = str(reference.get("$ref", ""))
        kinds = (self._scope.segments or {}).get(name, frozenset())
        if kinds and isinstance(item, Ident) and kinds != {item.name}:
            self._wrong_attribute(item, name, kinds)
        elif not isinstance(item, Ident):
            hint = f'write attribute in segment("{name}")'
            self._refuse(
                item, "cel-unsupported", "only an attribute can be looked up in a segment", hint
            )
        needs = () if wanted else self._value(item).needs
        return all_of([*needs, reference if wanted else {"!": [reference]}])

    def _wrong_attribute(self, item: Ident, name: str, kinds: frozenset[str]) -> None:
        if "" in kinds:
            message, hint = f"segment `{name}` is a rule, not a list", f'write in_segment("{name}")'
        elif len(kinds) > 1:
            message = f"segment `{name}` lists different attributes in different environments"
            hint = f'write in_segment("{name}")'
        else:
            (by,) = kinds
            message = f"segment `{name}` lists values of `{by}`, not of `{item.name}`"
            hint = f'write {by} in segment("{name}")'
        self._refuse(item, "cel-segment-attribute", message, hint)

    def _reference(self, node: Call, argument: Node) -> dict[str, JSON]:
        if self._variable:
            hint = "take the segment out of the macro"
            self._refuse(node, "cel-unsupported", "a segment can't be tested inside a macro", hint)
        elif not isinstance(argument, Constant):
            message = "a segment is named by a constant string"
            self._refuse(argument, "cel-unsupported", message, 'write segment("name")')
        elif self._scope.segments is None:
            hint = "repeat its condition here"
            self._refuse(node, "cel-unsupported", "a segment can't use another segment", hint)
        elif argument.value not in self._scope.segments:
            close = near(argument.value, self._scope.segments)
            hint = close or "declare it under `segments:`, or include the service that owns it"
            message = f"no segment `{argument.value}` is visible here"
            self._refuse(argument, "cel-unknown-segment", message, hint)
        else:
            return {"$ref": argument.value}
        return {}

    # Macros ---------------------------------------------------------------------------------------

    def _quantified(self, node: Quantifier, wanted: bool) -> JSON:
        """`all` of an empty list is true in CEL, false in JsonLogic: so `none` of the contrary."""
        if node.over.type not in {"list", "dyn"}:
            self._refuse(
                node, "cel-unsupported", "macros work on lists", "test fields of maps by name"
            )
        over = self._value(node.over)
        outer, self._variable = self._variable, node.variable
        if node.every is wanted:
            body = negated(self.holds(node.body, wanted=wanted))
            logic = all_of([*over.needs, {"none": [over.logic, body]}])
        else:
            body = self.holds(node.body, wanted=wanted)
            logic = all_of([*_beyond_bare(over), {"some": [over.logic, body]}])
        self._variable = outer
        return logic


def _is_call(node: Node, function: str) -> bool:
    return isinstance(node, Call) and node.function == function


def _beyond_bare(value: Value) -> Sequence[JSON]:
    """Needs that an operator which is false on null does not cover."""
    return () if value.bare else value.needs


def _number_bound(operator: str, one: Value, two: Value) -> bool | None:
    """What an ordering of a bare attribute and a number gives for null, which counts as 0."""
    tests: dict[str, Callable[[Any, Any], bool]] = {
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }
    if operator not in tests or not (one.bare and two.bare):
        return None
    if isinstance(two.logic, int | float) and one.needs:
        return tests[operator](0, two.logic)
    if isinstance(one.logic, int | float) and two.needs:
        return tests[operator](one.logic, 0)
    return None
