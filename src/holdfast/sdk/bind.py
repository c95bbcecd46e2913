"""A whole typed configuration from settings: a dataclass or `msgspec.Struct`, filled by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, get_type_hints

import msgspec

from holdfast.core.errors import Invalid, Problem
from holdfast.core.targeting.outcome import Outcome
from holdfast.sdk.forks import making

T = TypeVar("T")
Read = Callable[[str], Outcome | None]
"""A setting's answer by key; none when there is no such setting."""


def fill(shape: type[T], read: Read) -> T:
    """An instance of `shape`. A field `max_tiles` reads the setting `max_tiles`, or `max-tiles`.

    Objects are converted to the field's own type. A field keeps its default where there is no such
    setting, or the setting gives no value. Raises `Invalid` with every field that has neither, or
    whose value doesn't fit, or with what `shape` itself says against them (`__post_init__`);
    `TypeError` when `shape` is neither a dataclass nor a Struct.
    """
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, (type_, required) in fields_of(shape).items():
        key, outcome = _find(name, read)
        if outcome is None or outcome.value is None:
            if required:
                problems.append(_missing(name, outcome))
            continue
        try:
            _learn(type_)
            values[name] = msgspec.convert(outcome.value, type_)
        except (msgspec.ValidationError, TypeError) as error:  # a type that nothing converts to
            problems.append(_problem(name, f"setting {key!r} does not fit: {error}"))
    if problems:
        raise Invalid(problems)
    try:
        return shape(**values)
    except (TypeError, ValueError) as error:  # its own check, of fields that fit one by one
        raise Invalid([_problem("", f"{shape.__name__} takes no such values: {error}")]) from error


def _learn(kind: Any) -> None:
    """Let msgspec make what it knows of a type, in one thread at a time.

    It is not safe against two threads that are the first to need it: the process dies (0.22.0).
    Raises `TypeError` for a type that nothing converts to.
    """
    with making():
        msgspec.json.Decoder(kind)


class Live(Generic[T]):
    """A configuration that follows its settings: call it for the one of now.

    It is filled again when the client's settings were replaced, else it is the same object. When
    new values don't fit, the last ones that did go on, and `problems` says what is wrong.
    """

    def __init__(self, fill_now: Callable[[], T], version: Callable[[], object]) -> None:
        self._fill = fill_now
        self._version = version
        self.problems: tuple[Problem, ...] = ()
        seen = version()
        self._now: tuple[object, T] = (seen, fill_now())

    def __call__(self) -> T:
        seen, value = self._now
        version = self._version()
        if version is seen:
            return value
        try:
            value = self._fill()
            self.problems = ()
        except Invalid as error:
            self.problems = error.problems
        self._now = (version, value)
        return value


def fields_of(shape: type) -> Mapping[str, tuple[Any, bool]]:
    """Field -> its type, and whether it has no default."""
    if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
        return {f.name: (f.type, f.required) for f in msgspec.structs.fields(shape)}
    if not (isinstance(shape, type) and dataclasses.is_dataclass(shape)):
        raise TypeError(f"{shape!r} is neither a dataclass nor a msgspec.Struct")
    hints = get_type_hints(shape, include_extras=True)
    missing = dataclasses.MISSING
    return {
        field.name: (
            hints[field.name],
            field.default is missing and field.default_factory is missing,
        )
        for field in dataclasses.fields(shape)
        if field.init
    }


def _find(name: str, read: Read) -> tuple[str, Outcome | None]:
    for key in (name, name.replace("_", "-")):
        outcome = read(key)
        if outcome is not None:
            return key, outcome
    return name, None


def _missing(name: str, outcome: Outcome | None) -> Problem:
    if outcome is None:
        return _problem(name, f"there is no setting {name!r} or {name.replace('_', '-')!r}")
    said = outcome.error_message or "the setting gives no value in this context"
    return _problem(name, f"{said}, and the field has no default")


def _problem(name: str, message: str) -> Problem:
    hint = "publish the setting with this type, or give the field a default"
    return Problem(code="bind", message=message, path=f"/{name}", hint=hint)
