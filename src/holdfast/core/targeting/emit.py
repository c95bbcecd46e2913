"""The source of generated functions: statements and expressions for each kind of node.

An expression's value is exact, or evaluating it raises and the interpreter does it again. Most
expressions are exact because Python's operator agrees with JsonLogic's on the type that it meets,
and raises on the others; the comments say so where it is not plain.

Nothing of a rule enters the source: `Emitter.bind` gives a name for every constant.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Container
from math import isnan
from typing import Any, Final, TypeAlias, TypeGuard

import mmh3

from holdfast.core.targeting import bucket
from holdfast.core.targeting.attributes import attribute_name, constant_text
from holdfast.core.targeting.facts import Facts
from holdfast.core.targeting.operators import EAGER, TRUE_FALSE_OR_NULL, TRUE_OR_FALSE
from holdfast.core.targeting.prepare import NULL, Call, Constant, Items, Node
from holdfast.core.targeting.values import to_number, to_string, truth

DEFAULTS_MAX: Final = 24
"""Constants bound as defaults, at 1.5 ns a call each; further ones are items of one tuple."""
ARGUMENTS_MAX: Final = 16
"""Calls with more arguments are interpreted, so that no expression grows without a bound."""
Emit: TypeAlias = Callable[["Emitter", Call], str | None]
"""Source for a call; None when this call of the operator has none."""
FLAG_KEY: Final = "$flagd.flagKey"
TIMESTAMP: Final = "$flagd.timestamp"


class Emitter:
    """Python source for one rule, and the constants that it names.

    Three kinds of source are made: statements that return an answer, expressions for a value, and
    expressions for a truth. An expression's value is exact or it raises.
    """

    def __init__(
        self, facts: Facts, key: str, gives: Callable[[Any], Any], optional: Container[str]
    ) -> None:
        """`gives` makes of a rule's value what is answered; `optional` are attributes that contexts
        are expected to lack now and then."""
        self.facts = facts
        self.flag_key = key
        self._gives = gives
        self._optional = optional
        self._constants: list[Any] = []
        self._names: dict[Any, str] = {}
        self._temporaries = 0
        self._pair_hash: bucket.TextHash | None = None
        self.begins = False

    def turn_to(self, key: str, gives: Callable[[Any], Any]) -> None:
        """Go on with another setting, whose names of its own are free again."""
        self.flag_key, self._gives = key, gives
        self._temporaries, self._pair_hash, self.begins = 0, None, False

    # names

    def bind(self, value: Any) -> str:
        """A name for a constant; a text or an object that was bound before keeps its name."""
        identity = ("text", value) if type(value) is str else ("object", id(value))
        name = self._names.get(identity)
        if name is None:
            name = self._name(len(self._constants))
            self._constants.append(value)
            self._names[identity] = name
        return name

    def _name(self, index: int) -> str:
        return f"k{index}" if index < DEFAULTS_MAX else f"K[{index - DEFAULTS_MAX}]"

    def names(self) -> str:
        count = len(self._constants)
        named = "".join(f", k{index}" for index in range(min(count, DEFAULTS_MAX)))
        return named + (", K" if count > DEFAULTS_MAX else "")

    def constants(self) -> dict[str, Any]:
        """By name; as long as all are names."""
        return {self._name(index): value for index, value in enumerate(self._constants)}

    def defaults(self) -> tuple[Any, ...]:
        named = self._constants[:DEFAULTS_MAX]
        rest = self._constants[DEFAULTS_MAX:]
        return (*named, tuple(rest)) if rest else tuple(named)

    def temporary(self) -> str:
        self._temporaries += 1
        return f"t{self._temporaries}"

    # statements

    def returns(self, node: Node, indent: str) -> list[str]:
        """Lines that return the answer for `node`'s value on every path."""
        if is_choice(node):
            return self._return_branches(node, indent)
        return [f"{indent}return {self.answer(node)}"]

    def answer(self, node: Node) -> str:
        """An expression for the answer to `node`'s value, or one that raises."""
        if type(node) is Constant:
            return self.bind(self._gives(node.value))
        if type(node) is Call and node.op == "fractional":
            chosen = self.arm(node, self._gives)
            if chosen is not None:
                return chosen
        if _is_boolean(node):
            yes, no = (self.bind(self._gives(value)) for value in (True, False))
            return f"{yes} if {self.truth(node)} else {no}"
        return f"{self.bind(self._gives)}({self.value(node)})"

    def _return_branches(self, node: Call, indent: str) -> list[str]:
        lines: list[str] = []
        args = node.args
        for index in range(0, len(args) - 1, 2):
            lines.append(f"{indent}if {self.truth(args[index])}:")
            lines += self.returns(args[index + 1], indent + " ")
        return lines + self.returns(args[-1] if len(args) % 2 else NULL, indent)

    def arm(self, node: Call, of: Callable[[Any], Any]) -> str | None:
        """What `of` makes of the arm that the key falls into.

        None unless the arms of this `fractional` are constants and valid.
        """
        shorthand = not node.args or type(node.args[0]) is Items
        arms = [
            arm.scalars if type(arm) is Items else None
            for arm in (node.args if shorthand else node.args[1:])
        ]
        weights = bucket.weights_of(arms)
        if weights is None:
            return None
        outcomes = [of(arm[0]) for arm in arms if arm]
        key = None if shorthand else node.args[0]
        hashed = self._hash(key)
        limits = bucket.hash_limits(weights)
        if len(outcomes) == 2:
            first, second = (self.bind(outcome) for outcome in outcomes)
            chosen = f"{first} if {hashed} < {self.bind(limits[0])} else {second}"
            return self._unless_absent(chosen, key, of)
        index = f"{self.bind(bisect_right)}({self.bind(limits)}, {hashed})"
        return self._unless_absent(f"{self.bind(tuple(outcomes))}[{index}]", key, of)

    def _unless_absent(self, chosen: str, key: Node | None, of: Callable[[Any], Any]) -> str:
        """`chosen`, or what null gives at once where the key is an attribute that may be absent."""
        name = "targetingKey" if key is None else attribute_name(key)
        v2_key = key is not None and self.facts.bucketing == "v2"
        if name is None or name not in self._optional or v2_key:
            return chosen
        absent = self.bind(of(None))
        return f"{absent} if {self.attribute(name)} is None else {chosen}"

    def _hash(self, key: Node | None) -> str:
        """The hash of a key that is a text, or of the shorthand's; raises for any other key."""
        text = self.attribute("targetingKey") if key is None else self.value(key)
        if self.facts.bucketing == "v2":
            seed = self.bind(self.flag_key if key is None else "")
            t = self.temporary()
            # An empty key is none: adding None raises. `mmh3.hash` crashes on a lone surrogate, so
            # it gets ASCII only.
            return (
                f"({self.bind(mmh3.hash)}({t}, 0, False) "
                f"if ({t} := {seed} + ({text} or None)).isascii() "
                f"else {self.bind(bucket.hash32)}({t}.encode()))"
            )
        texts = self._pairs() if key is None else bucket.TEXT_HASH
        head, t = self.temporary(), self.temporary()
        # What is no text has no `isascii`, or can't be added to the head; `texts` raises for it.
        # The head is that of a size in bytes, so the text's characters must be bytes.
        return (
            f"({self.bind(mmh3.hash)}({head} + {t}, {self.bind(texts.seed)}, False) "
            f"if ({head} := {self.bind(texts.heads)}[len({t} := {text})]) is not None "
            f"and {t}.isascii() else {self.bind(texts)}({t}))"
        )

    def _pairs(self) -> bucket.TextHash:
        """The shorthand's hash; all splits of the setting share it."""
        if self._pair_hash is None:
            self._pair_hash = bucket.TextHash(bucket.pair_head(self.flag_key))
        return self._pair_hash

    # truths

    def truth(self, node: Node) -> str:
        """An expression that Python takes for true exactly when JsonLogic takes the value so."""
        if type(node) is Constant:
            return str(truth(node.value))
        if type(node) is Call and node.op in _TRUTHS:
            return _TRUTHS[node.op](self, node)
        if _is_boolean_or_null(node):
            return self.value(node)
        t = self.temporary()
        return f"({t} if type({t} := {self.value(node)}) is bool else {self.bind(truth)}({t}))"

    # values

    def value(self, node: Node) -> str:
        """An expression for the value, or one that raises."""
        if type(node) is Constant:
            return str(node.value) if _is_singleton(node.value) else self.bind(node.value)
        if type(node) is Items:
            if node.scalars is not None:
                return f"{self.bind(node.scalars)}.copy()"
            return f"[{self._values(node.items)}]"
        assert type(node) is Call  # noqa: S101 - the third of three kinds
        emit = _VALUES.get(node.op)
        source = emit(self, node) if emit is not None else None
        if source is None and node.op in EAGER and len(node.args) <= ARGUMENTS_MAX:
            source = self.eager(node)
        return self.exactly(node) if source is None else source

    def eager(self, node: Call) -> str:
        """The interpreter's own operator, on the arguments' values."""
        return f"{self.bind(EAGER[node.op])}({self._values(node.args)})"

    def exactly(self, node: Call) -> str:
        """The interpreter's value of the whole node."""
        self.begins = True
        return f"r({self.bind(node)})"

    def attribute(self, name: str) -> str:
        """One attribute of the context; one that the rule expects to lack is null when it does."""
        return self.found(name) if name in self._optional else f"c[{self.bind(name)}]"

    def found(self, name: str) -> str:
        """One attribute of the context, null where it is absent."""
        return f"c.get({self.bind(name)})"

    def _values(self, nodes: tuple[Node, ...]) -> str:
        return ", ".join([self.value(node) for node in nodes])


def is_choice(node: Node) -> TypeGuard[Call]:
    """Whether the node picks one of its arguments, by conditions."""
    return type(node) is Call and node.op in ("if", "?:")


def _is_singleton(value: Any) -> bool:
    return value is None or type(value) is bool


def _is_boolean(node: Node) -> bool:
    if type(node) is Constant:
        return type(node.value) is bool
    return type(node) is Call and node.op in TRUE_OR_FALSE


def _is_boolean_or_null(node: Node) -> bool:
    """True, false or null, so that Python's `and`, `or` and truth agree with JsonLogic's."""
    if type(node) is Constant:
        return _is_singleton(node.value)
    if type(node) is not Call:
        return False
    if node.op in ("and", "or"):
        return all(_is_boolean_or_null(arg) for arg in node.args)
    return node.op in TRUE_OR_FALSE or node.op in TRUE_FALSE_OR_NULL


def _var(emitter: Emitter, node: Call) -> str | None:
    """`{"var": "a.b"}` is `c["a"]["b"]`: a missing key, a list or a text on the way raises."""
    path = constant_text(node.args[0]) if node.args else None
    if not path or len(node.args) > 2:
        return None
    if path == FLAG_KEY:
        return emitter.bind(emitter.flag_key)
    if path == TIMESTAMP:
        return f"{emitter.bind(emitter.facts.now)}()"
    first, *rest = path.split(".")
    if first == "$flagd":
        return None
    if len(node.args) == 2:
        return _var_or_default(emitter, node, first, rest)
    return emitter.attribute(first) + "".join(f"[{emitter.bind(part)}]" for part in rest)


def _var_or_default(emitter: Emitter, node: Call, name: str, rest: list[str]) -> str | None:
    default = node.args[1]
    if rest or type(default) is not Constant:
        return None
    t = emitter.temporary()
    found = f"({t} := {emitter.found(name)})"
    return f"({emitter.value(default)} if {found} is None else {t})"


def _equal_text(emitter: Emitter, other: Node, text: str) -> str | None:
    """No number equals a text that is none; what a set can't hold (a list, an object) raises."""
    if not isnan(to_number(text)):
        return None
    return f"({emitter.value(other)} in {emitter.bind(frozenset((text,)))})"


def _equal(emitter: Emitter, node: Call) -> str | None:
    """`==` with a constant, not a list or an object, on either side."""
    if len(node.args) != 2:
        return None
    other, constant = node.args
    if type(other) is Constant:
        other, constant = constant, other
    if type(constant) is not Constant or isinstance(constant.value, dict):
        return None
    if isinstance(constant.value, str):
        return _equal_text(emitter, other, constant.value)
    t, value = emitter.temporary(), emitter.value(constant)
    found = f"({t} := {emitter.value(other)})"
    exact = f"{emitter.bind(EAGER['=='])}({t}, {value})"
    if constant.value is None:
        return f"({found} is None or (type({t}) is not str and {exact}))"
    if type(constant.value) is bool:
        return f"({found} is {value} or ({t} is not {not constant.value} and {exact}))"
    return f"({t} == {value} if type{found} is int else {exact})"


def _negated(positive: Emit) -> Emit:
    def emit(emitter: Emitter, node: Call) -> str | None:
        source = positive(emitter, node)
        return None if source is None else f"(not {source})"

    return emit


def _identical(emitter: Emitter, node: Call) -> str | None:
    if len(node.args) != 2:
        return None
    return f"({emitter.value(node.args[0])} == {emitter.value(node.args[1])})"


def _ordered(emitter: Emitter, node: Call) -> str | None:
    """A comparison with a constant number: between numbers it is Python's."""
    if len(node.args) != 2:
        return None
    limit = node.args[1]
    if type(limit) is not Constant or type(limit.value) not in (int, float):
        return None
    t = emitter.temporary()
    number, exact = emitter.bind(limit.value), emitter.bind(EAGER[node.op])
    return (
        f"({t} {node.op} {number} if type({t} := {emitter.value(node.args[0])}) is int "
        f"else {exact}({t}, {number}))"
    )


def _in(emitter: Emitter, node: Call) -> str | None:
    """A set of constants answers as the list does, and raises for what it can't hold."""
    if len(node.args) != 2:
        return None
    needle, haystack = node.args
    if type(haystack) is Items and haystack.members is not None:
        return f"({emitter.value(needle)} in {emitter.bind(haystack.members)})"
    if type(needle) is Constant and type(haystack) is Call:
        t, wanted = emitter.temporary(), emitter.value(needle)
        return (
            f"({wanted} in {t} if type({t} := {emitter.value(haystack)}) is list "
            f"else {emitter.bind(EAGER['in'])}({wanted}, {t}))"
        )
    return None


def _in_segment(emitter: Emitter, node: Call) -> str | None:
    name = constant_text(node.args[1]) if len(node.args) == 2 else None
    table = None if name is None else emitter.facts.segments.get(name)
    if table is None:
        return None
    return f"({emitter.value(node.args[0])} in {emitter.bind(table)})"


def _sem_ver(emitter: Emitter, node: Call) -> str | None:
    if len(node.args) != 3:
        return None
    op, literal = constant_text(node.args[1]), constant_text(node.args[2])
    if op is None or literal is None:
        return None
    return (
        f"{emitter.bind(emitter.facts.versions.memo(op, literal))}[{emitter.value(node.args[0])}]"
    )


def _text_test(method: str) -> Emit:
    def emit(emitter: Emitter, node: Call) -> str | None:
        wanted = constant_text(node.args[1]) if len(node.args) == 2 else None
        if wanted is None:
            return None
        t, bound, exact = emitter.temporary(), emitter.bind(wanted), emitter.bind(EAGER[node.op])
        found = f"type({t} := {emitter.value(node.args[0])})"
        return f"({t}.{method}({bound}) if {found} is str else {exact}({t}, {bound}))"

    return emit


def _fractional(emitter: Emitter, node: Call) -> str | None:
    """The name that a split gives, where a condition asks for it: a rollout's does."""
    chosen = emitter.arm(node, lambda name: name)
    return None if chosen is None else f"({chosen})"


def _cat(emitter: Emitter, node: Call) -> str | None:
    """A text `+` a text; the empty text in front makes anything else raise.

    Not nested, so that no text passes a bound here which the interpreter would keep.
    """
    nested = any(type(arg) is Call and arg.op == "cat" for arg in node.args)
    if nested or not 0 < len(node.args) <= ARGUMENTS_MAX:
        return None
    pieces = [
        emitter.bind(to_string(arg.value)) if type(arg) is Constant else emitter.value(arg)
        for arg in node.args
    ]
    if type(node.args[0]) is not Constant and not _is_flag_key(node.args[0]):
        pieces.insert(0, emitter.bind(""))
    return f"({' + '.join(pieces)})"


def _is_flag_key(node: Node) -> bool:
    return (
        type(node) is Call
        and node.op == "var"
        and len(node.args) == 1
        and constant_text(node.args[0]) == FLAG_KEY
    )


def _branches(emitter: Emitter, node: Call, part: Callable[[Node], str]) -> str:
    """`if` as a conditional expression, its branches emitted by `part`."""
    args = node.args
    source = part(args[-1] if len(args) % 2 else NULL)
    for index in range(len(args) // 2 * 2 - 2, -1, -2):
        source = f"({part(args[index + 1])} if {emitter.truth(args[index])} else {source})"
    return source


def _joined(word: str, of_none: str) -> Callable[[Emitter, Call], str]:
    def emit(emitter: Emitter, node: Call) -> str:
        sources = [emitter.truth(arg) for arg in node.args]
        return f"({f' {word} '.join(sources)})" if sources else of_none

    return emit


def _joined_value(word: str) -> Emit:
    def emit(emitter: Emitter, node: Call) -> str | None:
        """Python's own where all values are true, false or null."""
        if not node.args or not _is_boolean_or_null(node):
            return None
        return f"({f' {word} '.join([emitter.value(arg) for arg in node.args])})"

    return emit


def _not(emitter: Emitter, node: Call) -> str:
    return f"(not {emitter.truth(node.args[0])})" if node.args else "True"


_VALUES: Final[dict[str, Emit]] = {
    "var": _var,
    "==": _equal,
    "!=": _negated(_equal),
    "===": _identical,
    "!==": _negated(_identical),
    "<": _ordered,
    "<=": _ordered,
    ">": _ordered,
    ">=": _ordered,
    "in": _in,
    "in_segment": _in_segment,
    "sem_ver": _sem_ver,
    "starts_with": _text_test("startswith"),
    "ends_with": _text_test("endswith"),
    "cat": _cat,
    "fractional": _fractional,
    "if": lambda emitter, node: _branches(emitter, node, emitter.value),
    "?:": lambda emitter, node: _branches(emitter, node, emitter.value),
    "and": _joined_value("and"),
    "or": _joined_value("or"),
    "!": _not,
    "!!": lambda emitter, node: f"bool({_TRUTHS['!!'](emitter, node)})",
}
_TRUTHS: Final[dict[str, Callable[[Emitter, Call], str]]] = {
    "if": lambda emitter, node: _branches(emitter, node, emitter.truth),
    "?:": lambda emitter, node: _branches(emitter, node, emitter.truth),
    "and": _joined("and", "False"),
    "or": _joined("or", "False"),
    "!": _not,
    "!!": lambda emitter, node: emitter.truth(node.args[0]) if node.args else "False",
}
