"""From what a rule gave to what the caller gets: every answer of one setting, built beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from holdfast.core.targeting.interpret import Exhausted, MissingTable, UnknownOperator
from holdfast.core.targeting.outcome import ErrorCode, Outcome

ERRORS_MAX: Final = 16
"""Distinct error outcomes kept for one setting; further ones share one that says less."""


class Answers:
    """The outcomes of one enabled setting. Thread-safe: an answer made twice is kept once."""

    __slots__ = ("_by_variant", "_default", "_errors", "_metadata", "key", "static")

    def __init__(
        self,
        key: str,
        variants: Mapping[str, Any],
        default: str | None,
        metadata: Mapping[str, Any],
        type: str | None,  # noqa: A002 - the document's own word for it
    ) -> None:
        self.key = key
        self._metadata = metadata
        self._errors: dict[tuple[ErrorCode, str], Outcome] = {}
        self._by_variant = {
            name: Outcome(
                key, "TARGETING_MATCH", value=value, variant=name, metadata=metadata, type=type
            )
            for name, value in variants.items()
            if name and value is not None  # flagd takes neither for a variant
        }
        if not default:
            self.static = self._default = Outcome(key, "DEFAULT", metadata=metadata)
        elif default not in variants:
            self.static = self._default = self.unknown_variant(default)
        else:
            self.static, self._default = (
                Outcome(
                    key, reason, value=variants[default], variant=default, metadata=metadata,
                    type=type,
                )
                for reason in ("STATIC", "DEFAULT")
            )  # fmt: skip

    def resolve(self, value: Any) -> Outcome:
        """The answer for what the targeting gave: null is the default, all else names a variant."""
        if value is None:
            return self._default
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif not isinstance(value, str):
            value = str(value)
        found = self._by_variant.get(value)
        return self.unknown_variant(value) if found is None else found

    def unknown_variant(self, name: str) -> Outcome:
        return self._error("GENERAL", f"the targeting gave {name[:64]!r}, which is no variant")

    def failed(self, error: Exception) -> Outcome:
        """The answer when the targeting could not be evaluated."""
        if isinstance(error, UnknownOperator):
            return self._error("PARSE_ERROR", f"unknown operator: {error}")
        if isinstance(error, MissingTable):
            return self._error("GENERAL", f"the table of segment {error} is not loaded")
        return self._error("GENERAL", _reason(error))

    def _error(self, code: ErrorCode, message: str) -> Outcome:
        known = self._errors.get((code, message))
        if known is not None:
            return known
        if len(self._errors) >= ERRORS_MAX:
            message = "the targeting failed in more ways than are told apart"
        made = Outcome(self.key, "ERROR", error=(code, message), metadata=self._metadata)
        return self._errors.setdefault((code, message), made)

    def __iter__(self) -> Iterator[Outcome]:
        """Every answer made so far, for who counts."""
        yield from {
            id(outcome): outcome
            for outcome in (
                self.static,
                self._default,
                *self._by_variant.copy().values(),
                *self._errors.copy().values(),
            )
        }.values()


def _reason(error: Exception) -> str:
    if isinstance(error, Exhausted):
        return "the targeting does too much work on this context"
    if isinstance(error, ZeroDivisionError):
        return "the targeting divides by zero"
    if isinstance(error, RecursionError):
        return "a value is nested too deep"
    return f"the targeting can't be evaluated on this context ({type(error).__name__})"
