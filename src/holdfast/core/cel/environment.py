"""Google's CEL, set up for targeting: its types, its overloads, and its errors in our words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import product
from typing import Any

from cel_expr_python import cel
from google.protobuf.message import DecodeError

from holdfast.core import limits
from holdfast.core.cel.checked import Node, decode
from holdfast.core.cel.scope import Scope
from holdfast.core.errors import Invalid, Problem
from holdfast.core.model import AttributeType

_T = cel.Type
_SEMVER = _T.AbstractType("semver")
_SEGMENT = _T.AbstractType("segment")
_TYPES = {
    "string": _T.STRING,
    "boolean": _T.BOOL,
    "integer": _T.INT,
    "number": _T.DOUBLE,
    "timestamp": _T.TIMESTAMP,
    "list<string>": _T.List(_T.STRING),
    "map": _T.Map(_T.STRING, _T.DYN),
}
FUNCTIONS = (
    "contains", "duration", "endsWith", "has", "in_segment", "is_set", "same_major", "same_minor",
    "segment", "semver", "size", "startsWith", "string", "timestamp",
)  # fmt: skip
_COMPARABLE = (
    *product((_T.INT, _T.DOUBLE), repeat=2),
    *((kind, kind) for kind in (_T.STRING, _T.TIMESTAMP, _T.DURATION, _SEMVER)),
)
_OVERLOADS: Mapping[str, Iterable[tuple[Any, ...]]] = {
    "_==_": (*_COMPARABLE, (_T.BOOL, _T.BOOL)),
    "_!=_": (*_COMPARABLE, (_T.BOOL, _T.BOOL)),
    **dict.fromkeys(("_<_", "_<=_", "_>_", "_>=_"), _COMPARABLE),
    "@in": (
        (_T.STRING, _SEGMENT),
        (_T.STRING, _T.List(_T.STRING)),
        (_T.STRING, _T.Map(_T.STRING, _T.DYN)),
        *((item, _T.List(other)) for item, other in product((_T.INT, _T.DOUBLE), repeat=2)),
    ),
}
# CEL's own comparisons know neither versions nor an integer beside a number, and compare lists,
# which JsonLogic can't: they are taken out and declared anew.
_STANDARD = cel.NewEnvConfigFromYaml(
    "stdlib:\n  exclude_functions:\n" + "".join(f'    - name: "{name}"\n' for name in _OVERLOADS)
)
_ERROR = re.compile(
    r"ERROR: <input>:(-?\d+):(-?\d+): (.*?)(?= ?\[[A-Z_]+\]$|\n \| |\nERROR: |$)", re.DOTALL
)
_NO_OVERLOAD = re.compile(r"found no matching overload for '(.+)' applied to '\((.*)\)'", re.DOTALL)
_UNDECLARED = re.compile(r"undeclared reference to '(.+?)' \(in container")
_WORDS = {
    "int": "an integer", "double": "a number", "string": "a string", "bool": "a boolean",
    "timestamp": "a timestamp", "duration": "a duration", "semver": "a version",
    "segment": "a segment", "list(string)": "a list of strings", "null_type": "null",
    "list(int)": "a list of integers", "list(double)": "a list of numbers",
    "map(string, dyn)": "a map",
}  # fmt: skip
_OPERATORS = {"@in": "in", "_?_:_": "? :", "_[_]": "[ ]", "!_": "!", "-_": "-"}
_SYNTAX_HINTS = (
    (re.compile(r"'and'"), "write && for and"),
    (re.compile(r"'or'"), "write || for or"),
    (re.compile(r"'not'"), "write ! for not"),
    (re.compile(r"at: '= "), "write == to compare"),
    (re.compile(r"at: '& "), "write && for and"),
    (re.compile(r"at: '\| "), "write || for or"),
    (re.compile(r"at: '[\"']"), "close the string with the quote that opens it"),
)


def compile_tree(source: str, scope: Scope) -> Node:
    """The checked tree of `source`; raises `Invalid` with all problems, placed in it."""
    if len(source) > limits.SOURCE_CHARS_MAX:
        message = (
            f"the condition has {len(source)} characters, {limits.SOURCE_CHARS_MAX} is the most"
        )
        raise Invalid([_problem("cel-too-long", message, hint="move long lists into a segment")])
    try:
        environment = _environment(tuple(sorted(scope.types().items())))
        expression = environment.compile(source)
        if expression.return_type().name() not in {"BOOL", "DYN"}:
            raise Invalid([_not_boolean(expression.return_type().name())])
        return decode(expression.serialize())
    except RuntimeError as failure:
        raise Invalid(list(_problems(str(failure), source, scope))) from None
    except DecodeError:
        raise Invalid([_too_deep()]) from None


@lru_cache(maxsize=256)
def _environment(attributes: tuple[tuple[str, AttributeType], ...]) -> Any:
    return cel.NewEnv(
        config=_STANDARD,
        variables={name: _TYPES[kind] for name, kind in attributes},
        functions=[*_comparisons(), *_functions()],
    )


def _comparisons() -> Iterator[Any]:
    for name, pairs in _OVERLOADS.items():
        overloads = [
            cel.Overload(f"{name}_{number}", return_type=_T.BOOL, parameters=list(pair))
            for number, pair in enumerate(pairs)
        ]
        yield cel.FunctionDecl(name, overloads)


def _functions() -> Iterator[Any]:
    yield _declared("semver", _SEMVER, _T.STRING)
    yield _declared("same_major", _T.BOOL, _SEMVER, _T.STRING, member=True)
    yield _declared("same_minor", _T.BOOL, _SEMVER, _T.STRING, member=True)
    yield _declared("segment", _SEGMENT, _T.STRING)
    yield _declared("in_segment", _T.BOOL, _T.STRING)
    yield _declared("is_set", _T.BOOL, _T.DYN)


def _declared(name: str, result: Any, *parameters: Any, member: bool = False) -> Any:
    overload = cel.Overload(
        f"holdfast_{name}", return_type=result, parameters=list(parameters), is_member=member
    )
    return cel.FunctionDecl(name, [overload])


def _problem(code: str, message: str, line: int = 1, column: int = 1, hint: str = "") -> Problem:
    return Problem(code=code, message=message, line=line, column=column, hint=hint)


def _not_boolean(kind: str) -> Problem:
    word = _WORDS.get(kind.lower(), kind.lower())
    hint = "compare it with something, or test it with is_set(…)"
    return _problem(
        "cel-not-boolean", f"a condition is true or false, this one is {word}", hint=hint
    )


def _too_deep() -> Problem:
    hint = "name parts of it as segments, or shorten chains of + and -"
    return _problem("cel-too-deep", "the condition is nested too deeply", hint=hint)


def _problems(text: str, source: str, scope: Scope) -> Iterator[Problem]:
    """CEL's own report in our words; after a syntax error the rest is noise."""
    found = False
    for match in _ERROR.finditer(text):
        found = True
        line, column, message = int(match[1]), int(match[2]), match[3].strip()
        if "recursion" in message:
            yield _too_deep()
            return
        if message.startswith("Syntax error"):
            yield _syntax(message, source, max(line, 1), max(column, 1))
            return
        yield _semantic(message, source, max(line, 1), max(column, 1), scope)
    if not found:
        yield _too_deep() if "recursion" in text else _problem("cel-syntax", text)


def _syntax(message: str, source: str, line: int, column: int) -> Problem:
    if not source.strip():
        return _problem(
            "cel-syntax", "the condition is empty", hint="leave `when` out to match all"
        )
    text = message.removeprefix("Syntax error: ").split(" expecting ")[0]
    if "'<EOF>'" in text and "mismatched" in text:
        text = "the condition ends too early"
    hint = next((hint for pattern, hint in _SYNTAX_HINTS if pattern.search(text)), "")
    return _problem("cel-syntax", text, line, column, hint)


def _semantic(message: str, source: str, line: int, column: int, scope: Scope) -> Problem:
    if undeclared := _UNDECLARED.match(message):
        return _unknown(undeclared[1], source, line, column, scope)
    if overload := _NO_OVERLOAD.match(message):
        return _mistyped(overload[1], overload[2], line, column)
    if message.startswith("has()"):
        hint = "test an attribute with is_set(attribute); has(a.b) is for fields of maps"
        return _problem("cel-type", "has() takes a field of a map", line, column, hint)
    if message.startswith("reserved identifier"):
        return _problem("cel-syntax", message, line, column, "use another name")
    return _problem("cel-type", message, line, column)


def _unknown(name: str, source: str, line: int, column: int, scope: Scope) -> Problem:
    text = source.split("\n")[line - 1]
    if text[column - 1 : column] == "(":
        start = text.rfind(name, 0, column - 1) + 1 or column
        hint = near(name, FUNCTIONS) or f"these are known: {', '.join(FUNCTIONS)}"
        return _problem("cel-unknown-function", f"no function `{name}`", line, start, hint)
    attribute = name.split(".", maxsplit=1)[0]
    start = text.rfind(name, 0, column + len(name) - 1) + 1 or column
    close = near(attribute, scope.types())
    hint = f"{close} Else declare" if close else "declare"
    return _problem(
        "cel-unknown-attribute",
        f"no attribute `{attribute}` is declared",
        line,
        start,
        f"{hint} it under `attributes:` with its type",
    )


def near(name: str, candidates: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(candidates), n=1)
    return f"did you mean `{close[0]}`?" if close else ""


def _mistyped(function: str, types: str, line: int, column: int) -> Problem:
    operator = _OPERATORS.get(
        function, function.replace("_", "") if function[0] == "_" else function
    )
    kinds = [_WORDS.get(kind, kind) for kind in re.split(r", (?![^(]*\))", types)]
    hint = ""
    if "a segment" in kinds:
        hint = 'write attribute in segment("name") for a list, in_segment("name") for a rule'
    elif "a version" in kinds:
        hint = 'wrap both sides: semver(version) >= semver("1.5.0")'
    elif "null" in kinds:
        hint = "test whether an attribute is there with is_set(attribute)"
    elif {"an integer", "a number"} <= set(kinds):
        hint = "write the integer with a decimal point, as in 1.0"
    elif operator in {"==", "!="} and any("list" in kind for kind in kinds):
        hint = "lists can't be compared; test members with `in`, exists or all"
    message = f"`{operator}` does not apply to {' and '.join(kinds)}"
    return _problem("cel-type", message, line, column, hint)
