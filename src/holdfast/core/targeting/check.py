"""Everything that is wrong with one flag definition, for who publishes and for who loads."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any, Final

import msgspec

from holdfast.core import limits
from holdfast.core.errors import Problem
from holdfast.core.pointer import pointer
from holdfast.core.targeting.flags import BadFlag, Flag, decode
from holdfast.core.targeting.interpret import KNOWN
from holdfast.core.targeting.prepare import (
    BadRule,
    Call,
    Constant,
    Items,
    Node,
    Rules,
    decoded_rule,
    measure,
)

Body = bytes | msgspec.Raw
NOTHING: Final[Mapping[str, Any]] = {}


def check_flag(
    key: str, body: Body, evaluators: Mapping[str, Body] = NOTHING, tables: Container[str] = ()
) -> list[Problem]:
    """All problems of a flag, worst first; empty for one that every evaluation can answer.

    `evaluators` are the document's shared rules as JSON, `tables` the names of the segments that
    travel as tables. What loading refuses has severity "error"; a warning is of a rule that fails
    when an evaluation gets to it.
    """
    path = pointer(("flags", key))
    try:
        flag = decode(body)
    except BadFlag as error:
        return [Problem(code="flag", message=str(error), path=path, hint="see flagd's schema")]
    found = list(check_bounds(flag, body, path))
    default = flag.default_variant
    if default and default not in flag.variants:
        message = f"the default {default!r} is no variant"
        found.append(Problem(code="variant", message=message, path=path, severity="warning"))
    try:
        root = Rules(evaluators, lambda name: decoded_rule(evaluators[name])).prepare(
            flag.targeting
        )
    except BadRule as error:
        return [*found, Problem(code="rule", message=str(error), path=f"{path}/targeting")]
    for message in sorted(set(_unanswerable(root, tables))) if root is not None else ():
        where = f"{path}/targeting"
        found.append(Problem(code="operator", message=message, path=where, severity="warning"))
    return found


def check_bounds(flag: Flag, body: Body, path: str = "") -> Iterator[Problem]:
    """Bounds on a flag's variants; bytes and brackets are counted first, which costs nothing."""
    hint = "split the setting"
    if len(flag.variants) > limits.VARIANTS_MAX:
        message = f"{len(flag.variants)} variants; {limits.VARIANTS_MAX} are allowed"
        yield Problem(code="too-large", message=message, path=f"{path}/variants", hint=hint)
    whole = memoryview(body).tobytes() if isinstance(body, msgspec.Raw) else body
    if len(whole) <= limits.VALUE_BYTES_MAX and brackets(whole) <= limits.VALUE_DEPTH_MAX:
        return
    for name, value in flag.variants.items():
        where = path + pointer(("variants", name))
        depth, _ = measure(value)
        if depth > limits.VALUE_DEPTH_MAX:
            message = f"the value is nested {depth} deep; {limits.VALUE_DEPTH_MAX} are allowed"
            yield Problem(code="too-deep", message=message, path=where, hint=hint)
        elif len(msgspec.json.encode(value)) > limits.VALUE_BYTES_MAX:
            message = f"the value is larger than {limits.VALUE_BYTES_MAX} bytes"
            yield Problem(code="too-large", message=message, path=where, hint=hint)


def brackets(body: bytes) -> int:
    """At least how deep the JSON can be nested: its opening brackets, those in texts included."""
    return body.count(b"{") + body.count(b"[")


def _unanswerable(root: Node, tables: Container[str]) -> Iterator[str]:
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if type(node) is Items:
            nodes += node.items
        elif type(node) is Call:
            nodes += node.args
            if node.op == "$ref":
                yield "the shared rule that a $ref names is not there, or refers to another one"
            elif node.op not in KNOWN:
                yield f"{node.op!r} is no operator"
            elif node.op == "in_segment":
                yield from _unknown_table(node, tables)


def _unknown_table(node: Call, tables: Container[str]) -> Iterator[str]:
    name = node.args[1] if len(node.args) == 2 else None
    if type(name) is not Constant or not isinstance(name.value, str):
        yield 'in_segment wants [value, "segment"]'
    elif name.value not in tables:
        yield f"the segment {name.value!r} has no table"
