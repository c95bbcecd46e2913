"""Values inside of conditions: attributes, constants, arithmetic, and what is refused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from holdfast.core import limits
from holdfast.core.cel import literals
from holdfast.core.cel.checked import Call, Constant, Foreign, Ident, ListOf, Node, Select
from holdfast.core.cel.logic import all_of, any_of, present, remainder
from holdfast.core.cel.scope import Scope
from holdfast.core.errors import Problem
from holdfast.core.model import JSON

NUMBERS = frozenset({"int", "double", "timestamp", "duration"})
WHEN_OTHER = "write the rule as JsonLogic under `logic:` if flagd's operators can say it"
_ADVICE = {
    "matches": "flagd has no regular expressions: use startsWith, endsWith, contains or a list",
    "int": "JsonLogic can't convert: declare the attribute with the type that it has",
    "double": "JsonLogic can't convert: declare the attribute with the type that it has",
    "bool": "JsonLogic can't convert: declare the attribute with the type that it has",
    "uint": "use integers",
    "type": "declare the attribute with the type that it has",
    "bytes": "compare strings",
}


class Value(NamedTuple):
    """JsonLogic for a value, and the conditions under which it means what CEL means by it.

    `bare` is a plain attribute (null when missing) or a constant.
    """

    logic: JSON
    needs: tuple[JSON, ...] = ()
    bare: bool = True


class TooLargeError(Exception):
    """The condition lowers to more nodes than a setting may have."""


class Operands(ABC):
    """Lowers values; what it can't lower it refuses into `problems`, and goes on."""

    def __init__(self, source: str, scope: Scope) -> None:
        self.problems: list[Problem] = []
        self._source = source
        self._scope = scope
        self._variable = ""  # of the macro whose body is being lowered
        self._nodes = 0

    @abstractmethod
    def holds(self, node: Node, *, wanted: bool) -> JSON:
        """Logic that is true exactly when `node` evaluates to `wanted`."""

    def _count(self) -> None:
        self._nodes += 1
        if self._nodes > limits.LOGIC_NODES_MAX:
            raise TooLargeError

    def _value(self, node: Node) -> Value:  # noqa: PLR0911  one return for each kind of node
        self._count()
        match node:
            case Constant():
                return self._constant(node)
            case Ident(name="now") if not self._variable:
                return Value({"var": "$flagd.timestamp"})
            case Ident(name=name) if self._variable and name == self._variable:
                return Value({"var": ""})
            case Ident() | Select(test_only=False):
                path = self._path(node)
                return Value({"var": path}, (present(path),))
            case ListOf(items=items):
                values = [self._value(item) for item in items]
                needs = tuple(need for value in values for need in value.needs)
                return Value([value.logic for value in values], needs, bare=not needs)
        if node.type == "bool":
            return self._truth(node)
        if isinstance(node, Call):
            return self._computed(node)
        return self._refuse_value(node)

    def _constant(self, node: Constant) -> Value:
        if node.value is None:
            hint = "test whether an attribute is there with is_set(attribute)"
            self._refuse(node, "cel-unsupported", "null can't be compared", hint)
        elif isinstance(node.value, bytes) or node.type == "uint":
            self._refuse_value(node)
        elif isinstance(node.value, int | float) and abs(node.value) > limits.SAFE_INTEGER_MAX:
            hint = "numbers beyond 2^53-1 lose digits in JSON: compare strings"
            self._refuse(node, "cel-literal", f"{node.value} is too large", hint)
        elif isinstance(node.value, float):
            return Value(literals.number(node.value))
        return Value(node.value)

    def _truth(self, node: Node) -> Value:
        yes = self.holds(node, wanted=True)
        known = any_of([yes, self.holds(node, wanted=False)])
        return Value({"if": [yes, True, False]}, (known,), bare=False)

    def _computed(self, node: Call) -> Value:  # noqa: PLR0911  a table of operators
        name, args = node.function, node.args
        if name in {"timestamp", "duration"}:
            return self._moment(node)
        if name == "_[_]":
            path = self._path(node)
            return Value({"var": path}, (present(path),))
        if name == "dyn" or (name == "double" and args[0].type in NUMBERS):
            return self._value(args[0])
        if name == "string" and args[0].type in {"string", "int"}:
            return self._derived("cat", args)
        if name == "size" and args[0].type == "list":
            return self._length(args[0])
        if name == "_?_:_":
            return self._either(node)
        if name == "_+_" and node.type == "string":
            return self._derived("cat", args)
        if name in {"_+_", "_-_", "_*_", "-_"} and node.type in NUMBERS:
            return self._derived(name.strip("_"), args)
        if name in {"_/_", "_%_"}:
            return self._divided(node)
        return self._refuse_value(node)

    def _derived(self, operator: str, args: Sequence[Node]) -> Value:
        values = [self._value(argument) for argument in args]
        needs = tuple(need for value in values for need in value.needs)
        return Value({operator: [value.logic for value in values]}, needs, bare=False)

    def _length(self, node: Node) -> Value:
        over = self._value(node)
        count = {"reduce": [over.logic, {"+": [{"var": "accumulator"}, 1]}, 0]}
        return Value(count, over.needs, bare=False)

    def _either(self, node: Call) -> Value:
        test, then, other = node.args
        yes, no = self.holds(test, wanted=True), self.holds(test, wanted=False)
        one, two = self._value(then), self._value(other)
        known = any_of([all_of([yes, *one.needs]), all_of([no, *two.needs])])
        return Value({"if": [yes, one.logic, two.logic]}, (known,), bare=False)

    def _divided(self, node: Call) -> Value:
        dividend, divisor = self._value(node.args[0]), node.args[1]
        if not isinstance(divisor, Constant) or not divisor.value:
            hint = "divide by a constant that is not 0"
            self._refuse(divisor, "cel-unsupported", "the divisor could be 0 at run time", hint)
        elif node.function == "_/_" and node.type != "double":
            hint = "divide numbers (double(a) / 2.0), or multiply the other side"
            self._refuse(node, "cel-unsupported", "JsonLogic has no division of integers", hint)
        elif node.function == "_/_":
            logic: JSON = {"/": [dividend.logic, self._value(divisor).logic]}
            return Value(logic, dividend.needs, bare=False)
        else:
            return Value(remainder(dividend.logic, abs(divisor.value)), dividend.needs, bare=False)
        return Value(0)

    def _moment(self, node: Call) -> Value:
        (argument,) = node.args
        if isinstance(argument, Constant) and isinstance(argument.value, int):
            return Value(argument.value)
        if not isinstance(argument, Constant):
            hint = "declare an attribute of type timestamp; it holds unix seconds"
            self._refuse(node, "cel-unsupported", f"{node.function}() takes a constant", hint)
            return Value(0)
        timestamp = node.function == "timestamp"
        read = literals.timestamp_s if timestamp else literals.duration_s
        seconds = read(argument.value)
        if seconds is None:
            example = "2026-12-01T00:00:00Z" if timestamp else "1h30m"
            message = f"{argument.value!r} is no {node.function}"
            self._refuse(argument, "cel-literal", message, f"write it like {example}")
            return Value(0)
        return Value(seconds)

    def _path(self, node: Node) -> str:
        """The dotted path of JsonLogic's `var`."""
        match node:
            case Ident(name=name):
                if self._variable or name == "now":
                    hint = "use the macro's own variable only; test membership with `in`"
                    self._refuse(node, "cel-unsupported", f"`{name}` can't be used here", hint)
                return name
            case Select(operand=operand, field=field):
                return f"{self._path(operand)}.{self._step(node, field)}"
            case Call(function="_[_]", args=(holder, Constant(value=step))):
                return f"{self._path(holder)}.{self._step(node, step)}"
        self._refuse(
            node, "cel-unsupported", "this is not an attribute or a field of one", WHEN_OTHER
        )
        return ""

    def _step(self, node: Node, step: Any) -> str:
        if isinstance(step, bool | float) or (isinstance(step, int) and step < 0):
            hint = "use a constant name or place"
            self._refuse(node, "cel-unsupported", f"{step!r} can't be an index here", hint)
        elif isinstance(step, str) and (not step or "." in step):
            hint = "JsonLogic paths have dots between names: rename the field"
            self._refuse(node, "cel-unsupported", f"a field named {step!r} can't be read", hint)
        return str(step)

    def _refuse_condition(self, node: Node) -> JSON:
        self._refuse_value(node)
        return False

    def _refuse_value(self, node: Node) -> Value:
        if isinstance(node, Foreign):
            hint = "exists and all work on lists" if "macro" in node.what else WHEN_OTHER
            what = node.what
        elif isinstance(node, Call):
            hint = _ADVICE.get(node.function, WHEN_OTHER)
            what = f"`{node.function.strip('_')}`"
        else:
            hint, what = _ADVICE.get(node.type, WHEN_OTHER), f"a value of type {node.type}"
        self._refuse(node, "cel-unsupported", f"{what} has no counterpart in flagd's logic", hint)
        return Value(None)

    def _refuse(self, node: Node, code: str, message: str, hint: str) -> None:
        before = self._source[: node.at]
        line, column = before.count("\n") + 1, node.at - (before.rfind("\n") + 1) + 1
        self.problems.append(
            Problem(code=code, message=message, hint=hint, line=line, column=column)
        )
