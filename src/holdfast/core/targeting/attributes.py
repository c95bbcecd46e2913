"""Which attributes of the context a rule reads, and which it expects to be absent."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.core.targeting.prepare import Call, Constant, Items, Node


def optional_attributes(root: Node) -> frozenset[str]:
    """Attributes whose absence the rule itself asks about: it pays to expect it."""
    names: set[str] = set()
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if type(node) is Items:
            nodes += node.items
        elif type(node) is Call:
            nodes += node.args
            names.update(_asked_about(node))
    return frozenset(names)


def _asked_about(node: Call) -> Iterator[str]:
    if node.op in ("==", "!=", "===", "!=="):
        asks = any(type(arg) is Constant and arg.value is None for arg in node.args)
    else:
        asks = node.op in ("!", "!!", "and", "or", "if", "?:")
    for arg in node.args if asks else ():
        name = attribute_name(arg)
        if name is not None:
            yield name


def attribute_name(node: Node) -> str | None:
    """The attribute that a plain `var` reads; None for anything else."""
    if type(node) is not Call or node.op != "var" or len(node.args) != 1:
        return None
    name = constant_text(node.args[0])
    return name if name and "." not in name and not name.startswith("$flagd") else None


class Every:
    """A container of all there is: every attribute may be absent."""

    def __contains__(self, item: object) -> bool:
        return item is not None


def constant_text(node: Node) -> str | None:
    return node.value if type(node) is Constant and isinstance(node.value, str) else None
