"""What one condition may speak of: attributes with their types, and segments."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from holdfast.core.model import TARGETING_KEY, AttributeType

BUILT_IN: Mapping[str, AttributeType] = {TARGETING_KEY: "string", "now": "timestamp"}
"""Attributes that every condition has without declaring them."""

RESERVED = frozenset(
    (
        *("as", "bool", "break", "bytes", "const", "continue", "double", "dyn", "else", "false"),
        *("for", "function", "if", "import", "in", "int", "let", "list", "loop", "map"),
        *("namespace", "null", "null_type", "package", "return", "string", "true", "type"),
        *("uint", "var", "void", "while"),
    )
)
"""Words of CEL: none can name an attribute."""


class Scope(msgspec.Struct, frozen=True):
    """`segments` gives, by name, the attributes that the segment's lists are of, `""` for a rule.

    A segment whose environments differ has several. None means that segments are out of reach,
    as they are inside a segment's own condition.
    """

    attributes: Mapping[str, AttributeType]
    segments: Mapping[str, frozenset[str]] | None = None

    def types(self) -> dict[str, AttributeType]:
        """All attributes, built-in ones included."""
        return {**self.attributes, **BUILT_IN}
