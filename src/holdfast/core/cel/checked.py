"""The checked tree of an expression: from `cel.expr.CheckedExpr` bytes to small frozen nodes.

The messages are declared here, as far as they are needed, after cel-spec's `syntax.proto` and
`checked.proto`; the protobuf runtime decodes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _FIELD.TYPE_BOOL,
    "int64": _FIELD.TYPE_INT64,
    "uint64": _FIELD.TYPE_UINT64,
    "int32": _FIELD.TYPE_INT32,
    "double": _FIELD.TYPE_DOUBLE,
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
}
# message -> (field, type, number); `*` marks a repeated field, `?` a member of the message's oneof.
_MESSAGES = {
    "Constant": (
        "null_value ?int32 1, bool_value ?bool 2, int64_value ?int64 3, uint64_value ?uint64 4, "
        "double_value ?double 5, string_value ?string 6, bytes_value ?bytes 7"
    ),
    "Ident": "name string 1",
    "Select": "operand Expr 1, field string 2, test_only bool 3",
    "Call": "target Expr 1, function string 2, args *Expr 3",
    "CreateList": "elements *Expr 1",
    "CreateStruct": "message_name string 1",
    "Comprehension": (
        "iter_var string 1, iter_range Expr 2, accu_var string 3, accu_init Expr 4, "
        "loop_condition Expr 5, loop_step Expr 6, result Expr 7, iter_var2 string 8"
    ),
    "Expr": (
        "id int64 2, const_expr ?Constant 3, ident_expr ?Ident 4, select_expr ?Select 5, "
        "call_expr ?Call 6, list_expr ?CreateList 7, struct_expr ?CreateStruct 8, "
        "comprehension_expr ?Comprehension 9"
    ),
    "Empty": "",
    "ListType": "elem_type Type 1",
    "MapType": "key_type Type 1, value_type Type 2",
    "AbstractType": "name string 1",
    "Type": (
        "dyn ?Empty 1, null ?int32 2, primitive ?int32 3, well_known ?int32 5, "
        "list_type ?ListType 6, map_type ?MapType 7, abstract_type ?AbstractType 14"
    ),
    "TypeEntry": "key int64 1, value Type 2",
    "PositionEntry": "key int64 1, value int32 2",
    "SourceInfo": "positions *PositionEntry 4",
    "CheckedExpr": "type_map *TypeEntry 3, expr Expr 4, source_info SourceInfo 5",
}
_PRIMITIVES = {1: "bool", 2: "int", 3: "uint", 4: "double", 5: "string", 6: "bytes"}
_WELL_KNOWN = {2: "timestamp", 3: "duration"}


@dataclass(frozen=True, slots=True)
class Constant:
    at: int
    type: str
    value: Any


@dataclass(frozen=True, slots=True)
class Ident:
    at: int
    type: str
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`, or `has(operand.field)` when `test_only`."""

    at: int
    type: str
    operand: Node
    field: str
    test_only: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A function, method or operator (`_&&_`, `_==_`, …); a method's target comes first."""

    at: int
    type: str
    function: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    at: int
    type: str
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Quantifier:
    """`over.exists(variable, body)` or, with `every`, `over.all(variable, body)`."""

    at: int
    type: str
    every: bool
    variable: str
    over: Node
    body: Node


@dataclass(frozen=True, slots=True)
class Foreign:
    """An expression with no counterpart in JsonLogic; `what` names it."""

    at: int
    type: str
    what: str


Node: TypeAlias = Constant | Ident | Select | Call | ListOf | Quantifier | Foreign
"""`at` is the offset in code points into the source; `type` is CEL's name (`list`, `map` bare)."""


def _message(name: str, fields: str) -> descriptor_pb2.DescriptorProto:
    message = descriptor_pb2.DescriptorProto(name=name)
    for field in filter(None, fields.split(", ")):
        label, kind, number = field.split()
        added = message.field.add(name=label, number=int(number))
        added.label = _FIELD.LABEL_REPEATED if kind[0] == "*" else _FIELD.LABEL_OPTIONAL
        if kind[0] == "?":
            added.oneof_index = 0
        kind = kind.lstrip("*?")
        if kind in _SCALARS:
            added.type = _SCALARS[kind]
        else:
            added.type = _FIELD.TYPE_MESSAGE
            added.type_name = f".cel.expr.{kind}"
    if any(field.HasField("oneof_index") for field in message.field):
        message.oneof_decl.add(name="kind")
    return message


def _checked_expr() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="holdfast/cel.proto", package="cel.expr", syntax="proto3"
    )
    file.message_type.extend(_message(name, fields) for name, fields in _MESSAGES.items())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("cel.expr.CheckedExpr"))


_CheckedExpr = _checked_expr()


def decode(serialised: bytes) -> Node:
    """The tree in the bytes of `Expression.serialize()`.

    Raises `google.protobuf.message.DecodeError` when the tree is nested beyond protobuf's bound.
    """
    wrapper = any_pb2.Any()
    wrapper.ParseFromString(serialised)
    checked = _CheckedExpr()
    checked.ParseFromString(wrapper.value)
    types = {entry.key: _type_name(entry.value) for entry in checked.type_map}
    places = {entry.key: entry.value for entry in checked.source_info.positions}
    return _Reader(types, places).node(checked.expr)


def _type_name(message: Any) -> str:
    kind = message.WhichOneof("kind")
    if kind == "primitive":
        return _PRIMITIVES[message.primitive]
    if kind == "well_known":
        return _WELL_KNOWN.get(message.well_known, "dyn")
    if kind == "abstract_type":
        return str(message.abstract_type.name)
    return {"list_type": "list", "map_type": "map", "null": "null"}.get(kind, "dyn")


class _Reader:
    def __init__(self, types: dict[int, str], places: dict[int, int]) -> None:
        self._types = types
        self._places = places

    def node(self, message: Any) -> Node:  # noqa: PLR0911  one return for each kind of node
        kind = message.WhichOneof("kind") or "nothing"
        at = self._places.get(message.id, 0)
        type_name = self._types.get(message.id, "dyn")
        if kind == "comprehension_expr":
            return self._comprehension(message.comprehension_expr, at, type_name)
        if kind == "const_expr":
            constant = message.const_expr
            which = constant.WhichOneof("kind")
            value = None if which == "null_value" else getattr(constant, which)
            return Constant(at, type_name, value)
        if kind == "ident_expr":
            return Ident(at, type_name, message.ident_expr.name)
        if kind == "select_expr":
            select = message.select_expr
            operand = self.node(select.operand)
            return Select(at, type_name, operand, select.field, select.test_only)
        if kind == "call_expr":
            call = message.call_expr
            target = [call.target] if call.HasField("target") else []
            args = tuple(self.node(argument) for argument in (*target, *call.args))
            return Call(at, type_name, call.function, args)
        if kind == "list_expr":
            items = tuple(self.node(item) for item in message.list_expr.elements)
            return ListOf(at, type_name, items)
        return Foreign(at, type_name, "a map literal")

    def _comprehension(self, message: Any, at: int, type_name: str) -> Node:
        """A macro by its shape: `exists` is a fold with `||`, `all` one with `&&`."""
        step, start = message.loop_step.call_expr, message.accu_init.const_expr
        shape = (step.function, start.WhichOneof("kind"), start.bool_value)
        shapes = {("_||_", "bool_value", False): False, ("_&&_", "bool_value", True): True}
        if shape not in shapes or message.result.WhichOneof("kind") != "ident_expr":
            return Foreign(at, type_name, "this macro")
        over, body = self.node(message.iter_range), self.node(step.args[1])
        return Quantifier(at, type_name, shapes[shape], message.iter_var, over, body)
