"""The door for request bodies: bytes in, one frozen struct out, or one clear refusal.

Stricter than JSON's usual readers, since whoever writes configuration wants to be told and not to
be guessed at: no duplicate keys (readers silently keep the last), no NaN, no lone surrogates, no
unknown fields, no strings where numbers belong, and a bound on nesting. This runs on the event
loop, so all of it takes time in proportion to the body, whatever is in it.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from litestar.dto import AbstractDTO, DTOConfig

from holdfast.apps.control.schemas import DIGEST
from holdfast.core import limits
from holdfast.core.errors import CallerError, Problem
from holdfast.core.json_check import has_half_characters
from holdfast.core.model import KEY, NAME
from holdfast.core.targeting.prepare import measure

if TYPE_CHECKING:
    from collections.abc import Generator

    from litestar._openapi.schema_generation import SchemaCreator
    from litestar.dto.data_structures import DTOFieldDefinition
    from litestar.openapi.spec import Reference, Schema
    from litestar.typing import FieldDefinition

T = TypeVar("T")

DEPTH_MAX: Final = limits.WIRE_DEPTH_MAX

_RULES: Final = (
    (NAME, "a name", "use lower-case letters, digits and `-` in between, at most 63"),
    (
        KEY,
        "a key",
        "use letters, digits, `_`, `-` and single dots, at most 128: clients put it into URLs",
    ),
    (DIGEST, "a SHA-256 digest", "write its 64 hexadecimal digits, lower-case"),
)
"""Patterns of `schemas`, in words."""
_PLACE = re.compile(r"\[(\d+|\.\.\.)\]|\.([^.\[`]+)")


class BadBody(CallerError):
    """The body is not what the route takes; `problems` says what is wrong where."""

    code = "bad-body"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(problems[0].message)


_decoders: dict[type, msgspec.json.Decoder[Any]] = {}
_making = threading.Lock()


def _decoder(model: type[T]) -> msgspec.json.Decoder[T]:
    """Made once, by one thread: see `adapters.etcd_wire.decoder_of`."""
    known = _decoders.get(model)
    if known is None:
        with _making:
            known = _decoders.setdefault(model, msgspec.json.Decoder(model))
    return known


def decode(body: bytes, model: type[T]) -> T:
    """The body as a `model`. Raises `BadBody`."""
    if not body:
        raise _bad("the body is empty, and so not JSON", "", "send a JSON object")
    try:
        decoded = _decoder(model).decode(body)
        depth = _depth(body)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `")
        message, hint = _in_words(what)
        raise _bad(message, _pointer(place), hint) from None
    except RecursionError:  # both readers count their levels, and give up at some hundreds
        raise _too_deep() from None
    except (msgspec.DecodeError, ValueError) as error:  # UnicodeDecodeError, oversized integers
        if has_half_characters(body):
            message = "not JSON that can be kept: half of a surrogate pair is not a character"
            raise _bad(message, "", "write the character itself") from None
        raise _bad(f"the body is not JSON: {error}", "", "send UTF-8 JSON (RFC 8259)") from None
    if depth > DEPTH_MAX:
        raise _too_deep()
    return decoded


def _in_words(what: str) -> tuple[str, str]:
    """What msgspec says, and the way out; names and their like without their regular expression."""
    for pattern, noun, rule in _RULES:
        if repr(pattern) in what:
            return f"this is not {noun}", rule
    return what, "see the API's OpenAPI document for this body"


def _depth(body: bytes) -> int:
    """How deep the JSON is nested. Raises `BadBody` for a key that stands twice in one object."""
    shape = json.loads(body, object_pairs_hook=_values, parse_int=_number, parse_float=_number)
    return measure(shape)[0]


def _number(_digits: str) -> int:
    return 0  # only the keys matter here, and a million digits would take long


def _values(pairs: list[tuple[str, Any]]) -> list[Any]:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            shown = key[: limits.NAME_CHARS_MAX]
            raise _bad(f"the key {shown!r} stands twice in one object", "", "keep one of the two")
        seen.add(key)
    return [value for _, value in pairs]


def _too_deep() -> BadBody:
    return _bad(f"the JSON is nested deeper than {DEPTH_MAX} levels", "", "flatten it")


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
        # Litestar asks for fields to build a transfer model; `decode_bytes` goes without one.
        raise NotImplementedError(f"{cls.__name__} has no transfer model")

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        raise NotImplementedError(f"{cls.__name__} has no transfer model")
