"""Rules to Python functions.

The source of a function holds names that are made here (`k0`, `t1`) and nothing of the rule: every
constant, attribute name and outcome is bound as an argument's default. So nothing can be injected,
and rules of one shape share one code object.

    {"if": [{"in": [{"var": "tenant"}, ["a", "b"]]}, "on", "off"]}

    def answer(c, k0="tenant", k1=frozenset({"a", "b"}), k2=<on>, k3=<off>, slow=<exact path>):
        try:
            if (c[k0] in k1):
                return k2
            return k3
        except Exception:
            return slow(c)

A generated expression is either exact or raises; what raises is evaluated again by the interpreter.
`emit` has the expressions and says why each is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from types import CodeType, FunctionType
from typing import Any, Final, Protocol, TypeAlias

from holdfast.core.targeting.answers import Answers
from holdfast.core.targeting.emit import Emitter
from holdfast.core.targeting.facts import Facts
from holdfast.core.targeting.outcome import Outcome
from holdfast.core.targeting.prepare import Node

Function: TypeAlias = Callable[[Mapping[str, Any]], Outcome]

CALLS_MAX: Final = 2_000
"""Rules with more operators are interpreted: compiling them would stall the first caller."""
SHAPES_MAX: Final = 1_024

_shapes: dict[str, CodeType] = {}


class Exact(Protocol):
    """What generated functions fall back to; neither method raises where flagd does not."""

    def whole(self, context: Mapping[str, Any]) -> Outcome:
        """The interpreter's answer; never raises."""

    def begin(self, context: Mapping[str, Any]) -> Callable[[Node], Any]:
        """What gives a single node's value, for operators without generated code."""


def compiled(
    root: Node, facts: Facts, answers: Answers, exact: Exact, optional: Container[str]
) -> Function:
    """The function of one setting's targeting, which never raises.

    It is `exact.whole` itself for a rule too large to compile. `optional` are attributes whose
    absence must not cost more than their presence.
    """
    if root.calls > CALLS_MAX:
        return exact.whole
    emitter = Emitter(facts, answers.key, answers.resolve, optional)
    body = emitter.returns(root, "        ")
    if emitter.begins:
        body.insert(0, f"        r = {emitter.bind(exact.begin)}(c)")
    names = emitter.names()
    source = "\n".join(
        (
            f"def answer(c, slow{names}):",
            "    try:",
            *body,
            "    except Exception:",
            "        return slow(c)",
        )
    )
    code = _shapes.get(source)
    if code is None:
        try:
            code = code_of(source)
        except (SyntaxError, RecursionError, MemoryError):  # nested beyond what Python compiles
            return exact.whole
        if len(_shapes) >= SHAPES_MAX:
            _shapes.clear()
        _shapes[source] = code
    return FunctionType(code, GLOBALS, "answer", (exact.whole, *emitter.defaults()))


def constant(outcome: Outcome) -> Function:
    """The function of a setting that answers the same to all."""

    def answer(c: Mapping[str, Any], k: Outcome = outcome) -> Outcome:  # noqa: ARG001
        return k

    return answer


def code_of(source: str) -> CodeType:
    """The code of the one function in `source`. Raises what Python's compiler does."""
    module = compile(source, "<a setting's targeting>", "exec")
    return next(item for item in module.co_consts if isinstance(item, CodeType))


GLOBALS: Final[dict[str, Any]] = {
    "__builtins__": {},
    "Exception": Exception,
    "bool": bool,
    "int": int,
    "len": len,
    "list": list,
    "str": str,
    "type": type,
}
"""All that generated code can reach by name, beside its arguments."""
