"""YAML or JSON text as a tree that knows the line and column of every node.

PyYAML's events do the reading; this module resolves plain scalars after the YAML 1.2 core schema
minus its ambiguous numbers (`on`, `no`, `1_000`, `0o17` and `1:30` are strings), and refuses what
has no place in a settings file: anchors, aliases, tags, duplicate keys, several documents, numbers
that JSON can't carry, nesting without end.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
import yaml

from holdfast.core import limits
from holdfast.core.errors import Problem
from holdfast.core.pointer import pointer

DEPTH_MAX = limits.LOGIC_DEPTH_MAX + limits.VALUE_DEPTH_MAX
PROBLEMS_MAX = 1_000
"""Told at once: beyond it, reading and compiling end early, and the rest is counted."""
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_ZERO = re.compile(r"[-+.0]*[1-9]")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)|[-+]?Infinity|NaN")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_JSON_ONLY = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_HIDDEN_BREAK = re.compile("[\x85\u2028\u2029]")
_JSON_PAIR = re.compile(
    r"((?<!\\)(?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
)


class Broken:
    """The value of a node that could not be read; its problem has been reported."""

    def __repr__(self) -> str:
        return "BROKEN"


BROKEN = Broken()

Path: TypeAlias = tuple[str | int, ...]
Scalar: TypeAlias = str | int | float | bool | Broken | None


@dataclass(slots=True)
class Node:
    """A scalar, a list or a mapping; lines and columns count from 1."""

    line: int
    column: int
    value: Scalar | list[Node] | dict[str, Node]
    style: str = ""
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)

    def plain(self) -> Any:
        """The value as plain JSON, `BROKEN` parts left in."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def find(self, path: Path) -> Node:
        """The node at `path`, or the deepest one on the way to it."""
        node = self
        for step in path:
            inner = node.value
            if isinstance(inner, dict) and step in inner:
                node = inner[str(step)]
            elif isinstance(inner, list) and isinstance(step, int) and step < len(inner):
                node = inner[step]
            else:
                break
        return node


@dataclass(slots=True)
class Tree:
    """What was read: `root` is None when nothing could be."""

    file: str
    root: Node | None = None
    problems: list[Problem] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def problem(
        self, code: str, message: str, path: Path = (), hint: str = "", *, at_key: bool = False
    ) -> Problem:
        """A problem placed at the node of `path`, or at its key."""
        line = column = 0
        if self.root is not None:
            node = self.root.find(path)
            line, column = node.line, node.column
            if at_key and path:
                line, column = self.root.find(path[:-1]).keys.get(str(path[-1]), (line, column))
        return Problem(
            code=code,
            message=message,
            path=pointer(path),
            hint=hint,
            file=self.file,
            line=line,
            column=column,
        )


def steps(text: str, root: Node | None) -> Path:
    """The path of a JSON pointer into the tree: numbers are places where the tree has a list."""
    path: list[str | int] = []
    for raw in text.split("/")[1:]:
        step = raw.replace("~1", "/").replace("~0", "~")
        inner = root.find(tuple(path)).value if root else None
        path.append(int(step) if isinstance(inner, list) and step.isdigit() else step)
    return tuple(path)


def read_tree(text: bytes, file: str) -> Tree:
    """Read one document. All that is wrong with it, as text, is in `problems`; never raises."""
    tree = Tree(file)
    if len(text) > limits.DOCUMENT_BYTES_MAX:
        message = f"the file has {len(text)} bytes, {limits.DOCUMENT_BYTES_MAX} is the most"
        hint = "split the service, or move long lists into `members_file`"
        tree.problems.append(tree.problem("too-large", message, hint=hint))
        return tree
    try:
        source = text.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        message = f"byte {failure.start} is not UTF-8"
        tree.problems.append(tree.problem("encoding", message, hint="save the file as UTF-8"))
        return tree
    tree.lines = source.split("\n")
    if source.lstrip()[:1] in {"{", "["}:
        source = _JSON_PAIR.sub(_code_point, source)
        source = _JSON_ONLY.sub(_escape, source) if _is_json(text) else source
    if found := _HIDDEN_BREAK.search(source):
        tree.problems.append(_hidden_break(source, found, file))
        return tree
    builder = _Builder(tree)
    try:
        builder.read(source)
    except yaml.YAMLError as failure:
        tree.root = None
        tree.problems.append(_syntax(failure, source, file))
    return tree


def is_text(text: str) -> bool:
    """Whether a plain scalar of these characters is read as a string."""
    return (
        text not in _NULLS
        and text not in _BOOLEANS
        and not any(kind.fullmatch(text) for kind in (_NO_NUMBER, _INTEGER, _FLOAT))
    )


def _code_point(match: re.Match[str]) -> str:
    """JSON's surrogate pairs as YAML's escape of the same character."""
    high, low = int(match[2], 16), int(match[3], 16)
    return f"{match[1]}\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08X}"


_WAYS_OUT = (
    ("cannot start any token", "indent with spaces, and quote text that begins with @, ` or %"),
    ("mapping values are not", "quote text that holds a colon, and check the indentation"),
    ("unexpected end of stream", "close the quotes, each with the mark that it began with"),
    ("',' or ']'", "close the list with `]`, and put a comma between two items"),
    ("',' or '}'", "close the object with `}`, and put a comma between two fields"),
    ("did not find expected key", "begin all keys of one mapping in the same column"),
    ("unknown escape character", "write a backslash twice, or put the text into single quotes"),
    ("expected node content", "write the value that is missing, or take a comma or bracket away"),
    ("control characters", "take the character out, or write it as an escape in double quotes"),
    ("scanning a block scalar", "begin the text of `|` or `>` on the next line, indented"),
)
"""Part of what the parser says -> what to do."""
_WAY_OUT = "check quotes, brackets and indentation here and in the line before"


def _syntax(failure: yaml.YAMLError, source: str, file: str) -> Problem:
    mark = getattr(failure, "problem_mark", None)
    reason = getattr(failure, "problem", None) or getattr(failure, "reason", None) or str(failure)
    context = getattr(failure, "context", None)
    message = f"{context}: {reason}" if context else str(reason)
    code = "syntax"
    hint = next((way for part, way in _WAYS_OUT if part in message), _WAY_OUT)
    if "invalid Unicode character" in message:
        code, message = "lone-surrogate", "half of a surrogate pair is not a character"
        hint = "write the character itself"
    line, column = (mark.line + 1, mark.column + 1) if mark else _unprintable(source)
    return Problem(code=code, message=message, hint=hint, file=file, line=line, column=column)


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _hidden_break(source: str, found: re.Match[str], file: str) -> Problem:
    """The parser reads YAML 1.1, which ends lines there, comments too; what people see does not."""
    line, column = _place(source, found.start())
    message = f"U+{ord(found[0]):04X} is a line break that does not show"
    hint = f'take it out, or write "\\u{ord(found[0]):04x}" in double quotes'
    return Problem(
        code="hidden-break", message=message, hint=hint, file=file, line=line, column=column
    )


def _escape(match: re.Match[str]) -> str:
    """What JSON takes as it is, and YAML refuses or takes for a line break."""
    return f"\\u{ord(match[0]):04X}"


def _unprintable(source: str) -> tuple[int, int]:
    """Where the first character stands that YAML does not allow: its reader gives no place."""
    found = _UNPRINTABLE.search(source)
    return _place(source, found.start() if found else 0)


def _place(source: str, offset: int) -> tuple[int, int]:
    before = source[:offset]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


class _Builder:
    """Builds the tree from events with a stack of its own, so that depth costs no recursion."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._open: list[Node] = []
        self._keys: list[str] = []  # the last key of each open mapping
        self._pending: list[bool] = []  # whether its value is still to come
        self._documents = 0
        self._unreadable = False

    def read(self, source: str) -> None:
        for event in _events(source):
            if not self._take(event) or len(self._tree.problems) >= PROBLEMS_MAX:
                return
        if self._tree.root is None and not self._tree.problems:
            message, hint = "the file is empty", "begin with `service: <name>`"
            self._report("empty", message, hint, 1, 1)

    def _take(self, event: Any) -> bool:
        """Take one event; false ends the reading."""
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                hint = "write one service to a file"
                self._report(
                    "several-documents", "a second document begins here", hint, line, column
                )
                return False
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
            self._keys.pop()
            self._pending.pop()
        elif isinstance(event, yaml.NodeEvent):
            self._add(self._node(event, line, column))
            if len(self._open) > DEPTH_MAX:
                self._unreadable = True
                self._open.clear()
                self._keys.clear()
                self._pending.clear()
                hint = f"{DEPTH_MAX} levels are the most"
                self._report("too-deep", "the document is nested too deeply", hint, line, column)
        if self._unreadable:
            self._tree.root = None
        return not self._unreadable

    def _node(self, event: Any, line: int, column: int) -> tuple[Node, bool]:
        """The node of an event, and whether it stays open for what it contains."""
        self._refuse_decorations(event, line, column)
        if isinstance(event, yaml.MappingStartEvent):
            return Node(line, column, {}), True
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(line, column, []), True
        if isinstance(event, yaml.AliasEvent):
            return Node(line, column, BROKEN), False
        is_key = (
            bool(self._open) and isinstance(self._open[-1].value, dict) and not self._pending[-1]
        )
        if is_key or event.style:
            return Node(line, column, event.value, event.style or ""), False
        return Node(line, column, self._resolve(event.value, line, column)), False

    def _refuse_decorations(self, event: Any, line: int, column: int) -> None:
        if isinstance(event, yaml.AliasEvent):
            hint = "write the value out; object variants share parts with `$extends`"
            self._report("alias", f"`*{event.anchor}`: aliases are not read", hint, line, column)
        elif event.anchor is not None:
            hint = "write the value out; object variants share parts with `$extends`"
            self._report("anchor", f"`&{event.anchor}`: anchors are not read", hint, line, column)
        if getattr(event, "tag", None) is not None:
            hint = "quote the text to make it a string"
            self._report("tag", f"`{event.tag}`: tags are not read", hint, line, column)

    def _add(self, item: tuple[Node, bool]) -> None:
        node, stays_open = item
        if not self._open:
            self._tree.root = node
        elif isinstance(holder := self._open[-1].value, list):
            holder.append(node)
        else:
            self._add_to_mapping(self._open[-1], node)
        if stays_open:
            self._open.append(node)
            self._keys.append("")
            self._pending.append(False)

    def _add_to_mapping(self, mapping: Node, node: Node) -> None:
        if self._pending[-1]:
            self._pending[-1] = False
            if isinstance(mapping.value, dict):
                mapping.value.setdefault(self._keys[-1], node)
            return
        text = node.value if isinstance(node.value, str) else None
        if text is None:
            self._report("key", "a key must be plain text", "quote it", node.line, node.column)
            self._unreadable = True
            return
        if text in mapping.keys:
            line, column = mapping.keys[text]
            message = f"`{text}` stands here twice, first at line {line}, column {column}"
            self._report("duplicate-key", message, "keep one of them", node.line, node.column)
        else:
            mapping.keys[text] = (node.line, node.column)
        self._keys[-1] = text
        self._pending[-1] = True

    def _resolve(self, text: str, line: int, column: int) -> Scalar:
        """A plain scalar's value."""
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if _NO_NUMBER.fullmatch(text):
            hint = "quote it if it is text; JSON has no such number"
            return self._broken("not-a-number", f"`{text}` is no number", hint, line, column)
        if _INTEGER.fullmatch(text):
            return self._integer(text, line, column)
        if _FLOAT.fullmatch(text):
            return self._float(text, line, column)
        return text

    def _integer(self, text: str, line: int, column: int) -> Scalar:
        number = int(text) if len(text) < 20 else limits.SAFE_INTEGER_MAX + 1
        if abs(number) > limits.SAFE_INTEGER_MAX:
            hint = "not every reader of JSON keeps it exact: quote it and make the setting a string"
            return self._broken("number-range", f"{text[:40]} is beyond 2^53-1", hint, line, column)
        return number

    def _float(self, text: str, line: int, column: int) -> Scalar:
        number = float(text)
        if not math.isfinite(number):
            hint = "write a smaller one"
            return self._broken("number-range", f"{text[:40]} is too large", hint, line, column)
        if not number and _NOT_ZERO.match(text):
            hint = "write 0, or a larger one"
            return self._broken("number-range", f"{text[:40]} is too small", hint, line, column)
        # Canonical JSON writes 3.0 as 3: they are one number from here on.
        whole = number.is_integer() and abs(number) <= limits.SAFE_INTEGER_MAX
        return int(number) if whole else number

    def _broken(self, code: str, message: str, hint: str, line: int, column: int) -> Broken:
        self._report(code, message, hint, line, column)
        return BROKEN

    def _report(self, code: str, message: str, hint: str, line: int, column: int) -> None:
        path = pointer(self._path())
        self._tree.problems.append(
            Problem(
                code=code,
                message=message,
                path=path,
                hint=hint,
                file=self._tree.file,
                line=line,
                column=column,
            )
        )

    def _path(self) -> Iterator[str | int]:
        innermost = len(self._open) - 1
        for level, node in enumerate(self._open):
            if isinstance(node.value, list):
                yield len(node.value) - (level < innermost)
            elif level < innermost or self._pending[level]:
                yield self._keys[level]


def _events(source: str) -> Iterator[Any]:
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return iter(yaml.parse(source, Loader=loader))
