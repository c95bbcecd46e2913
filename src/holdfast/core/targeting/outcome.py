"""What an evaluation answers: one prebuilt, shared object for each answer that a setting can give.

A caller reads it without a type check: the slot of a type exists only when the value has that type.

    try:
        outcome = evaluator.table[key](context)
        outcome.count += 1.0
        return outcome.boolean
    except (KeyError, AttributeError):
        ...  # not compiled yet, or no boolean: an error, a code default, another type
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

Reason: TypeAlias = Literal["STATIC", "TARGETING_MATCH", "DEFAULT", "DISABLED", "ERROR"]
ErrorCode: TypeAlias = Literal["FLAG_NOT_FOUND", "PARSE_ERROR", "GENERAL"]

NO_METADATA: Final[Mapping[str, Any]] = MappingProxyType({})
MESSAGE_CHARS_MAX: Final = 256


class Outcome:
    """One answer of one setting, with OpenFeature's words. Shared: read-only but for two slots.

    `value` is None when the caller's own default applies (`variant` is None then, but for a variant
    whose value is null). Of the typed slots `boolean`, `string`, `integer`, `number` (a float) and
    `object` (a dict or a list, read-only) only those exist that a read of that type may return;
    reading another one raises AttributeError.

    `count` and `wire` are the caller's: how often the answer was given, and its encoded form. The
    count is a float because adding to one is the cheaper (by 5 to 15 ns), and it is exact to 2**53.
    """

    __slots__ = (
        "boolean",
        "count",
        "error_code",
        "error_message",
        "integer",
        "key",
        "metadata",
        "number",
        "object",
        "reason",
        "string",
        "value",
        "variant",
        "wire",
    )

    boolean: bool
    string: str
    integer: int
    number: float
    object: dict[str, Any] | list[Any]

    def __init__(  # noqa: PLR0913 - what OpenFeature says of one answer
        self,
        key: str,
        reason: Reason,
        *,
        value: Any = None,
        variant: str | None = None,
        error: tuple[ErrorCode, str] | None = None,
        metadata: Mapping[str, Any] = NO_METADATA,
        type: str | None = None,  # noqa: A002 - the document's own word for it
    ) -> None:
        """`type` is the setting's declared type; without one, the value's own type says."""
        self.key = key
        self.reason = reason
        self.variant = variant
        self.metadata = metadata
        self.error_code: ErrorCode | None = error[0] if error else None
        self.error_message: str | None = error[1][:MESSAGE_CHARS_MAX] if error else None
        self.count = 0.0
        self.wire: Any = None
        self.value = self._typed(value, type)

    def _typed(self, value: Any, declared: str | None) -> Any:
        """Fill the slots of the types that `value` may be read as; give the value of that type."""
        if isinstance(value, bool):
            self.boolean = value
        elif isinstance(value, str):
            self.string = value
        elif isinstance(value, dict | list):
            self.object = value
        elif isinstance(value, int | float):
            return self._numeric(value, declared)
        return value

    def _numeric(self, value: float, declared: str | None) -> int | float:
        if isinstance(value, int) and declared != "number":
            self.integer = value
        elif declared == "integer" and value == int(value):
            self.integer = value = int(value)
        try:
            self.number = float(value)
        except OverflowError:
            return value
        return self.number if declared == "number" else value

    def __repr__(self) -> str:
        detail = self.error_message if self.error_code else repr(self.value)
        return f"Outcome({self.key!r}, {self.reason}, variant={self.variant!r}, {detail})"
