"""The door for request bodies: bytes in, one frozen struct out, or one clear refusal.

Stricter than JSON's usual readers, since whoever writes configuration wants to be told and not to
be guessed at: no duplicate keys (readers silently keep the last), no NaN, no lone surrogates, no
unknown fields, no strings where numbers belong, and a bound on nesting before anything recurses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from litestar.dto import AbstractDTO, DTOConfig

from holdfast.core import limits
from holdfast.core.errors import CallerError, Problem

if TYPE_CHECKING:
    from collections.abc import Generator

    from litestar._openapi.schema_generation import SchemaCreator
    from litestar.dto.data_structures import DTOFieldDefinition
    from litestar.openapi.spec import Reference, Schema
    from litestar.typing import FieldDefinition

T = TypeVar("T")

DEPTH_MAX: Final = limits.WIRE_DEPTH_MAX

_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_PLACE = re.compile(r"\[(\d+|\.\.\.)\]|\.([^.\[`]+)")


class BadBody(CallerError):
    """The body is not what the route takes; `problems` says what is wrong where."""

    code = "bad-body"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(problems[0].message)


def decode(body: bytes, model: type[T]) -> T:
    """The body as a `model`. Raises `BadBody`."""
    if nesting(body, DEPTH_MAX) > DEPTH_MAX:
        raise _bad(f"the JSON is nested deeper than {DEPTH_MAX} levels", "", "flatten it")
    if not body:
        raise _bad("the body is empty, and so not JSON", "", "send a JSON object")
    try:
        decoded = msgspec.json.decode(body, type=model)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `")
        raise _bad(what, _pointer(place), "see the API's OpenAPI document for this body") from None
    except RecursionError:  # unbalanced, so that `nesting` could not tell
        raise _bad("the body is not JSON, and nested too deep", "", "send JSON") from None
    except (msgspec.DecodeError, ValueError) as error:  # UnicodeDecodeError, oversized integers
        if _has_half_characters(body):
            message = "not JSON that can be kept: half of a surrogate pair is not a character"
            raise _bad(message, "", "write the character itself") from None
        raise _bad(f"the body is not JSON: {error}", "", "send UTF-8 JSON (RFC 8259)") from None
    _refuse_duplicate_keys(body)
    return decoded


def nesting(body: bytes, enough: int) -> int:
    """How deep JSON is nested, brackets in strings not counted; counting ends above `enough`.

    Runs at the speed of `bytes.replace`: each round takes the innermost pairs away.
    """
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    outside_of_strings = b"".join(unescaped.split(b'"')[::2])
    brackets = outside_of_strings.translate(_TO_SQUARE, _NO_BRACKETS)
    depth = 0
    while brackets and depth <= enough:
        depth += 1
        inner = brackets.replace(b"[]", b"")
        if inner == brackets:
            break  # unbalanced: not JSON, which the decoder says better
        brackets = inner
    return depth


def _refuse_duplicate_keys(body: bytes) -> None:
    json.loads(body, object_pairs_hook=_object, parse_int=_number, parse_float=_number)


def _has_half_characters(body: bytes) -> bool:
    """Whether a lone surrogate is what is wrong; the decoder calls that truncated."""
    try:
        read = json.loads(body, parse_int=_number, parse_float=_number, parse_constant=_number)
        json.dumps(read, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except ValueError:
        return False
    return False


def _number(_digits: str) -> int:
    return 0  # only the keys matter here, and a million digits would take long


def _object(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            shown = key[: limits.NAME_CHARS_MAX]
            raise _bad(f"the key {shown!r} stands twice in one object", "", "keep one of the two")
        seen.add(key)


def _bad(message: str, path: str, hint: str) -> BadBody:
    return BadBody([Problem(code="bad-body", message=message, path=path, hint=hint)])


def _pointer(place: str) -> str:
    """msgspec's `$.edits[0].to` as a JSON pointer."""
    return "".join(
        "/" + (index or name.replace("~", "~0").replace("/", "~1"))
        for index, name in _PLACE.findall(place)
    )


class StrictBody(AbstractDTO[Any]):
    """Makes Litestar read a handler's `data` with `decode` and document it as it is."""

    config = DTOConfig()
    _models: dict[str, type[Any]] = {}  # noqa: RUF012  # by handler, filled as routes register

    def decode_bytes(self, value: bytes) -> Any:
        return decode(value, self._models[self.asgi_connection.route_handler.handler_id])

    @classmethod
    def create_for_field_definition(
        cls,
        field_definition: FieldDefinition,
        handler_id: str,
        backend_cls: Any = None,  # noqa: ARG003  # the base class has it
    ) -> None:
        cls._models[handler_id] = field_definition.annotation

    @classmethod
    def create_openapi_schema(
        cls,
        field_definition: FieldDefinition,
        handler_id: str,  # noqa: ARG003  # the base class has it
        schema_creator: SchemaCreator,
    ) -> Reference | Schema:
        return schema_creator.for_field_definition(field_definition)

    @classmethod
    def is_supported_model_type_field(cls, field_definition: FieldDefinition) -> bool:  # noqa: ARG003
        return False  # answers are encoded by Litestar as they are

    @classmethod
    def generate_field_definitions(
        cls, model_type: type[Any]
    ) -> Generator[DTOFieldDefinition, None, None]:
        raise NotImplementedError

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        raise NotImplementedError
