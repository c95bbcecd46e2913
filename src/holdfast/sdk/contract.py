"""What a program reads, as a contract, from the very type that it fills from its settings.

    class Calling(msgspec.Struct):
        max_video_tiles: Annotated[int, msgspec.Meta(ge=1, le=49)]
        video_codec: Literal["h264", "vp9", "av1"] = "h264"

    contract = contract_of(Calling, version="1.5.0", environments=["production"])

Ranges come from `msgspec.Meta`, choices from `Literal` and enums, objects from nested types. A
field with a default is a need that may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.core.errors import Invalid, Problem
from holdfast.core.model import JSON, Contract, Example, Need, SettingType
from holdfast.sdk.bind import fields_of

_ORDER: Final[tuple[SettingType, ...]] = ("boolean", "string", "integer", "number", "object")
_NO_KEYS: Final[Mapping[str, str]] = {}


def contract_of(  # noqa: PLR0913  # a contract's own parts
    shape: type,
    *,
    version: str = "",
    environments: Sequence[str] = (),
    owners: Sequence[str] = (),
    examples: Sequence[Example] = (),
    keys: Mapping[str, str] = _NO_KEYS,
) -> Contract:
    """The contract of a dataclass or Struct as `client.bind` takes it.

    A field `max_tiles` needs the setting `max-tiles`; `keys` names others by field. Raises
    `Invalid` for every field whose type no setting has, `TypeError` for what has no fields.
    """
    needs: dict[str, Need] = {}
    problems: list[Problem] = []
    for name, (type_, required) in fields_of(shape).items():
        key = keys.get(name, name.replace("_", "-"))
        need = _need(type_, required)
        if need is None:
            hint = "use a boolean, text, a number, a dict or a nested type; lists go into objects"
            message = f"no setting holds the type of the field {name!r}"
            problems.append(Problem(code="contract", message=message, path=f"/{name}", hint=hint))
        else:
            needs[key] = need
    if problems:
        raise Invalid(problems)
    return Contract(
        needs=needs,
        examples=tuple(examples),
        environments=tuple(environments),
        version=version,
        owners=tuple(owners),
    )


def _need(type_: Any, required: bool) -> Need | None:
    try:
        schema = msgspec.json.schema(type_)
    except (TypeError, RuntimeError):
        return None
    kinds = _kinds(schema, schema.get("$defs", {}))
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    kind = next((one for one in _ORDER if kinds == {one}), None)
    if kind is None:
        return None
    schema.pop("default", None)
    return Need(type=kind, schema=None if schema == {"type": kind} else schema, required=required)


def _kinds(schema: JSON, definitions: Mapping[str, JSON]) -> set[str]:
    """The JSON types of a schema's values; null is no value of a setting, and left out."""
    if "$ref" in schema:
        return _kinds(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return set().union(*(_kinds(one, definitions) for one in schema["anyOf"]))
    if "enum" in schema:
        return {_kind(value) for value in schema["enum"]} - {"null"}
    named = schema.get("type", "anything")
    return ({named} if isinstance(named, str) else set(named)) - {"null"}


def _kind(value: JSON) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object"}
    return kinds.get(type(value), "null" if value is None else "anything")
