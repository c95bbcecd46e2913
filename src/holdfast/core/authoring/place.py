"""From a place inside of a condition to a place inside of the file that holds it."""

from __future__ import annotations

import msgspec

from holdfast.core.authoring.tree import Node, Path, Tree
from holdfast.core.errors import Problem
from holdfast.core.pointer import pointer


def in_file(tree: Tree, path: Path, problem: Problem) -> Problem:
    """A problem of the condition at `path`, with the file's line and column.

    Exact for conditions on one line and for literal blocks (`|`); else where the condition begins.
    """
    line = column = 0
    if tree.root is not None:
        node = tree.root.find(path)
        line, column = _place(tree, node, problem.line, problem.column)
    return msgspec.structs.replace(
        problem, file=tree.file, path=pointer(path), line=line, column=column
    )


def _place(tree: Tree, node: Node, line: int, column: int) -> tuple[int, int]:
    source = node.value if isinstance(node.value, str) else ""
    if node.style == "|":
        return _in_block(tree, node, source.split("\n"), line, column)
    start = node.column - 1 + (node.style in {"'", '"'})
    written = tree.lines[node.line - 1][start : start + len(source)]
    if line == 1 and written == source:
        return node.line, start + column
    return node.line, node.column


def _in_block(tree: Tree, node: Node, source: list[str], line: int, column: int) -> tuple[int, int]:
    """The lines of a literal block follow its indicator, each with the same indentation."""
    number = node.line + line
    if line <= len(source) and number <= len(tree.lines):
        written, text = tree.lines[number - 1].rstrip("\r"), source[line - 1]
        if text and written.endswith(text):
            return number, len(written) - len(text) + column
    return node.line, node.column
