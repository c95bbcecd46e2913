"""The OpenAPI 3.1 document: Litestar's routes, msgspec's exact schemas, every error documented.

Litestar writes paths, parameters and answers. The schemas of the structs are msgspec's own, so that
what is documented is what `body.decode` enforces, unknown fields and patterns included.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from litestar import Litestar
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import Components, License, SecurityScheme, Tag

import holdfast
from holdfast.apps.control.examples import EXAMPLES
from holdfast.apps.control.schemas import ErrorBody
from holdfast.core import limits

REF: Final = "#/components/schemas/{name}"
_PREFIX: Final = REF.format(name="")

_WHEN: Final[Mapping[int, str]] = {
    400: "The call can't be read: malformed, of another shape, or a parameter out of bounds.",
    401: "No valid token.",
    403: "The token may not do that there.",
    404: "It does not exist.",
    408: "The body did not come in time.",
    409: "Somebody else wrote first; the body names both revisions.",
    413: "The body is larger than the route takes.",
    422: "The change has problems: all of them, each with its place and the way out.",
    429: "Too many requests with this token; `Retry-After` says when to go on.",
    503: "A part of the system does not answer in time; try again.",
}
READING: Final = (400, 401, 403, 404, 429, 503)
WRITING: Final = (400, 401, 403, 404, 408, 409, 413, 422, 429, 503)

PUBLIC_PATHS: Final = ("/healthz", "/readyz", "/metrics")

_TAGS: Final = {
    "changes": "The one write door: check, propose, commit.",
    "history": "Who changed what, when and why; undo.",
    "services": "Settings and segments as their authors wrote them.",
    "contracts": "What consumers need, held against every change.",
    "environments": "One tree of targeting each.",
    "evaluation": "Explain an answer; take flagd files in and out.",
    "access": "Tokens, and the root documents that delegate signing.",
    "rollouts": "How changes go out, stage by stage, and what stops them.",
    "pushes": "What was signed offline and taken by edges comes home.",
    "fleet": "What consumers tell: who runs what, and who refused it.",
    "operations": "For orchestrators, Prometheus and tools.",
}


AT_LEAST: Final[Mapping[str, Any]] = {
    "name": "at_least",
    "in": "query",
    "required": False,
    "description": "A revision, as commits answer it: the node catches up with the journal first, "
    "so that the answer is of this revision or a newer one. 503 with the code `behind`, both "
    "revisions and `Retry-After` when it can't in time.",
    "schema": {"type": "integer", "minimum": 0, "maximum": limits.SAFE_INTEGER_MAX},
    "example": 1,
}
_REVISION: Final[Mapping[str, Any]] = {
    "description": "Of a read: its answer is of this revision of the journal or a newer one. Of a "
    "write: a read with `at_least` of it sees what was written.",
    "required": True,
    "schema": {"type": "integer", "minimum": 0},
}
_ALSO_READS: Final = frozenset({"explain", "preview_impact", "can_deploy"})
"""Operations with a body that write nothing, and do not catch up by themselves."""


def errors(*statuses: int) -> dict[int, ResponseSpec]:
    """The documented refusals of a route."""
    return {
        status: ResponseSpec(
            data_container=ErrorBody, description=_WHEN[status], generate_examples=False
        )
        for status in statuses
    }


def config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Holdfast control plane",
        version=holdfast.__version__,
        description=inspect.cleandoc(
            """
            Everything that changes settings goes through here: authorised, validated, appended to
            the journal, signed. All errors have one shape: `{"error": {"code", "message", …}}`.

            A token goes into `Authorization: Bearer hf_…` or `X-API-Key: hf_…`.
            """
        ),
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        tags=[Tag(name=name, description=text) for name, text in _TAGS.items()],
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer"),
                "key": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
            }
        ),
        security=[{"bearer": []}, {"key": []}],
        operation_id_creator=lambda handler, _method, _path: handler.handler_name,
        render_plugins=(),
        use_handler_docstrings=True,
    )


def document(app: Litestar, structs: tuple[Any, ...]) -> dict[str, Any]:
    """The document, with the schemas of `structs` and of all they hold in msgspec's words."""
    spec: dict[str, Any] = app.openapi_schema.to_schema()
    _, exact = msgspec.json.schema_components(structs, ref_template=REF)
    schemas = {**spec["components"].get("schemas", {}), **exact}
    spec["components"]["schemas"] = schemas
    for schema in exact.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    _supplement(spec["paths"])
    used = _reachable(spec["paths"], schemas)
    spec["components"]["schemas"] = {name: schemas[name] for name in sorted(used)}
    return spec


def _supplement(paths: dict[str, Any]) -> None:
    """What Litestar can't know: an example of each body, and bodies that are not JSON."""
    for item in paths.values():
        for operation in item.values():
            example = EXAMPLES.get(operation["operationId"])
            if example is not None:
                operation["requestBody"]["content"]["application/json"]["example"] = example
    for path, item in paths.items():
        if path not in PUBLIC_PATHS:
            for method, operation in item.items():
                _tell_revisions(method, operation)
    for path in PUBLIC_PATHS:
        paths[path]["get"]["security"] = []
    text = {"schema": {"type": "string"}}
    answers = paths["/v1/services/{service}"]["get"]["responses"]
    answers["200"]["content"]["application/yaml"] = text
    paths["/v1/blobs"]["put"]["requestBody"] = {
        "required": True,
        "content": {"text/plain": {**text, "example": "contoso\nfabrikam\n"}},
    }


def _tell_revisions(method: str, operation: dict[str, Any]) -> None:
    """What `abreast` does around every route."""
    if method == "get" or operation["operationId"] in _ALSO_READS:
        operation["parameters"] = [*operation.get("parameters", ()), AT_LEAST]
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            answer["headers"] = {**answer.get("headers", {}), "Holdfast-Revision": _REVISION}


def _reachable(paths: object, schemas: Mapping[str, object]) -> set[str]:
    found: set[str] = set()
    waiting: list[object] = [paths]
    while waiting:
        for name in _references(waiting.pop()):
            if name not in found:
                found.add(name)
                waiting.append(schemas[name])
    return found


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            yield reference.removeprefix(_PREFIX)
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
