"""The OpenAPI document: it is up to date, complete, and the API keeps to it (schemathesis)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from a_control_plane import MAIL, SHOP, Plane
from hypothesis import HealthCheck, Phase, given
from hypothesis.errors import Unsatisfiable
from schemathesis import checks
from schemathesis.generation import GenerationMode
from test_control_plane import eventually

KEPT = Path(__file__).parents[3] / "docs" / "reference" / "openapi.json"


def document(plane: Plane) -> dict[str, Any]:
    found: dict[str, Any] = plane.ok("GET", "/v1/openapi.json")
    return found


def test_the_kept_document_is_up_to_date(plane: Plane) -> None:
    served = plane.client.get("/v1/openapi.json").content
    assert KEPT.read_bytes() == served, "make it anew: python -m holdfast.apps.control.openapi_file"


def test_every_route_says_what_it_does_and_how_it_is_refused(plane: Plane) -> None:
    lacking = []
    for path, item in document(plane)["paths"].items():
        for method, operation in item.items():
            public = operation.get("security") == []
            expected = set() if public else {"400", "401", "403", "429", "503"}
            if not (operation.get("summary") and operation.get("description")):
                lacking.append((method, path, "no summary or description"))
            if "413" in operation["responses"]:
                expected.add("408")  # whoever sends a body can be too slow with it
            if not expected <= operation["responses"].keys():
                lacking.append((method, path, sorted(operation["responses"])))
    assert lacking == []


def test_there_is_one_shape_of_error(plane: Plane) -> None:
    shapes = {
        json.dumps(answer["content"]["application/json"]["schema"])
        for item in document(plane)["paths"].values()
        for operation in item.values()
        for status, answer in operation["responses"].items()
        if int(status) >= 400
    }
    assert shapes == {'{"$ref": "#/components/schemas/ErrorBody"}'}


def test_the_examples_are_what_the_routes_take(plane: Plane) -> None:
    """Each is read and understood: what comes back is an answer, or a refusal of its content."""
    for path, item in document(plane)["paths"].items():
        for method, operation in item.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            if "example" in body:
                answer = plane.client.request(method, path, json=body["example"])
                assert answer.status_code not in (400, 401, 403), answer.text


def no_fault(_context: Any, answer: Any, _case: Any) -> None:
    """A machine that is busy makes a store late, which is 503: no fault, and documented as well."""
    assert answer.status_code < 500 or answer.status_code == 503, answer.text


checks.load_all_checks()
CHECKS = [
    no_fault,
    *map(
        checks.CHECKS.get_one,
        [
            "status_code_conformance",
            "content_type_conformance",
            "response_headers_conformance",
            "response_schema_conformance",
            "allow_header_conformance",
            "unsupported_method",
            "ignored_auth",
        ],
    ),
]


def statuses(plane: Plane) -> Counter[int]:
    """Calls answered so far, by the first digit of their status."""
    found: Counter[int] = Counter()
    for metric in plane.control.metrics.requests.collect():
        for sample in metric.samples:
            if sample.name.endswith("_count"):
                found[int(sample.labels["status"][0])] += int(sample.value)
    return found


def _ask_for_what_there_is(case: Any) -> None:
    """A revision that the journal has not is answered with 503, and rightly so."""
    if str((case.query or {}).get("at_least", "")).isdecimal():
        case.query["at_least"] = "1"


def broken(plane: Plane, examples: int, operations: str = "") -> list[str]:
    """Play valid and invalid calls, drawn from the document, against every route of it; what was
    not answered as documented. `operations` is the path of those to play, else all.
    """
    bounded = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":  # the lifespan is the plane's
            await plane.app(scope, receive, send)

    broke = []
    headers = plane.bearing(plane.admin)
    api = schemathesis.openapi.from_asgi("/v1/openapi.json", app, headers=headers)
    played = api.include(path=operations) if operations else api
    for found in played.get_all_operations():
        for mode in GenerationMode:
            calls = found.ok().as_strategy(generation_mode=mode)

            @bounded
            @given(case=calls)
            def keeps(case: Any) -> None:
                _ask_for_what_there_is(case)
                case.call_and_validate(headers=headers, checks=CHECKS)

            try:
                keeps()
            except Unsatisfiable:  # what takes nothing can't be called wrongly
                assert mode is GenerationMode.NEGATIVE
            except Exception as broken:  # noqa: BLE001  # all operations are tried
                broke.append(f"{found.ok().label} ({mode.value}): {broken}")
    return broke


def keep_to_the_document(plane: Plane, examples: int) -> None:
    plane.commit(SHOP, MAIL)
    broke = broken(plane, examples)
    assert broke == [], "\n\n".join(broke)
    answered = statuses(plane)
    assert answered[2] > 50, answered  # it did get through, and was not only refused
    assert answered[4] > 100, answered


def test_a_store_that_stands_still_is_answered_as_documented(plane: Plane) -> None:
    """So it is on a machine that has no time for it; what is late is under way here all along."""
    with plane.control.stalls.call():
        eventually(lambda: plane.control.stalls.late)
        assert broken(plane, examples=2, operations="/v1/environments/{environment}") == []
    assert plane.control.stalls.given_up > 0
    assert statuses(plane)[5] > 0


@pytest.mark.timeout(900)  # half a minute of work, which a busy machine makes many
def test_the_api_keeps_to_its_document(plane: Plane) -> None:
    keep_to_the_document(plane, examples=5)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_api_keeps_to_its_document_at_length(plane: Plane) -> None:
    keep_to_the_document(plane, examples=100)
