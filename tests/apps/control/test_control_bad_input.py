"""Bad input: each one clear error, and nothing changed (`Plane.refused` compares the heads)."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from a_control_plane import MAIL, SHOP, Plane, documents


def refused(plane: Plane, text: str, status: int = 422) -> list[dict[str, Any]]:
    plane.commit(SHOP)
    error = plane.refused("POST", "/v1/commits", status, json={"documents": documents(text)})
    problems: list[dict[str, Any]] = error["problems"]
    return problems


def test_invalid_yaml_is_told_with_its_line(plane: Plane) -> None:
    (problem,) = refused(plane, "service: shop\nsettings:\n  banner: [1, 2\n")
    assert problem["file"] == "0.yaml"
    assert problem["line"] >= 3
    assert problem["message"]


def test_cel_with_a_type_error_is_told_with_its_place(plane: Plane) -> None:
    (problem,) = refused(plane, SHOP.replace('tenant == "contoso"', "tenant == 5"))
    assert (problem["file"], problem["line"]) == ("0.yaml", 13)


def test_an_unknown_attribute_is_told_by_name(plane: Plane) -> None:
    (problem,) = refused(plane, SHOP.replace('tenant == "contoso"', 'tenent == "contoso"'))
    assert "tenent" in problem["message"]


def test_duplicate_keys_in_a_document_are_told_with_their_line(plane: Plane) -> None:
    twice = SHOP.replace("  tiles:", "  banner:")
    (problem,) = refused(plane, twice)
    assert "banner" in problem["message"]
    assert problem["line"] == 15


def test_duplicate_keys_in_the_body_are_refused(plane: Plane) -> None:
    body = b'{"reason": "a", "reason": "b", "documents": []}'
    error = plane.refused("POST", "/v1/commits", 400, content=body)
    assert "'reason' stands twice" in error["message"]


def test_all_problems_of_all_documents_come_at_once(plane: Plane) -> None:
    broken = SHOP.replace("default: hidden", "default: nowhere")
    texts = documents(broken, MAIL.replace("default: small", "default: gone"))
    error = plane.refused("POST", "/v1/commits", 422, json={"documents": texts})
    assert {problem["file"] for problem in error["problems"]} == {"0.yaml", "1.yaml"}


def test_ten_megabytes_are_refused_by_their_length_and_without_one(plane: Plane) -> None:
    body = b'{"reason": "' + b"x" * 10_000_000 + b'"}'
    assert plane.refused("POST", "/v1/commits", 413, content=body)["code"] == "too-large"
    taken = []

    def pieces() -> Any:
        for start in range(0, len(body), 64 * 1024):
            taken.append(start)
            yield body[start : start + 64 * 1024]

    assert plane.refused("POST", "/v1/commits", 413, content=pieces())["code"] == "too-large"


@pytest.mark.parametrize(
    "body",
    [
        b'{"documents": ' + b"[" * 1000 + b"]" * 1000 + b"}",
        b'{"edits": ' + b'{"a":' * 1000 + b"1" + b"}" * 1000 + b"}",
        b"[" * 100_000,
    ],
)
def test_json_a_thousand_deep_is_refused(plane: Plane, body: bytes) -> None:
    assert plane.refused("POST", "/v1/commits", 400, content=body)["code"] == "bad-body"


def test_a_value_nested_too_deep_is_a_problem_of_the_change(plane: Plane) -> None:
    value: Any = 1
    for _ in range(60):
        value = {"a": value}
    edit = put_setting(type="object", variants={"v": value})
    error = plane.refused("POST", "/v1/commits", 422, json={"edits": [service(), edit]})
    assert error["problems"]


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_numbers_that_json_does_not_have_are_refused(plane: Plane, number: bytes) -> None:
    edit = json.dumps(put_setting(type="number", variants={"v": "NUMBER"})).encode()
    body = b'{"edits": [%s]}' % edit.replace(b'"NUMBER"', number)
    assert plane.refused("POST", "/v1/commits", 400, content=body)["code"] == "bad-body"


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf"])
def test_numbers_that_json_does_not_have_are_refused_in_yaml(plane: Plane, number: str) -> None:
    text = f"service: x\nsettings:\n  a:\n    type: number\n    variants: {{v: {number}}}\n"
    assert refused(plane, text)


@pytest.mark.parametrize("escape", [b"\\ud800", b"\\udc00"])
def test_lone_surrogates_are_refused(plane: Plane, escape: bytes) -> None:
    body = b'{"documents": [{"file": "a", "text": "%s"}]}' % escape
    assert plane.refused("POST", "/v1/commits", 400, content=body)["code"] == "bad-body"


def test_lone_surrogates_are_refused_in_documents(plane: Plane) -> None:
    text = '{"service": "shop", "description": "\\ud800"}'
    body = {"documents": [{"file": "a.json", "text": text}]}
    assert plane.refused("POST", "/v1/commits", 422, json=body)["problems"]
    body["documents"][0]["file"] = "a.yaml"
    assert plane.refused("POST", "/v1/commits", 422, json=body)["problems"]


@pytest.mark.parametrize("key", ["a/b", "a?b", "a#b", "..", "a b", "", "é", "a" * 200])
def test_keys_that_a_url_would_mangle_are_refused(plane: Plane, key: str) -> None:
    edits = [service(), put_setting(key=key)]
    assert plane.refused("POST", "/v1/commits", 422, json={"edits": edits})["problems"]
    text = json.dumps({"service": "shop", "settings": {key: boolean()}})
    assert refused(plane, text)


@pytest.mark.parametrize("token", ["", "hf_", "hf_abc_" + "0" * 64, "nonsense", "Bearer", "é"])
def test_wrong_tokens_are_refused_alike(plane: Plane, token: str) -> None:
    before = plane.head()
    answer = plane.client.post(
        "/v1/commits",
        json={"documents": documents(SHOP)},
        headers={"Authorization": f"Bearer {token}".encode()},
    )
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["error"]["message"].startswith("no valid token")
    assert plane.head() == before


def test_of_two_writers_on_one_revision_one_is_told_both_revisions(plane: Plane) -> None:
    base = plane.commit(SHOP)["revision"]
    plane.commit(MAIL, base_revision=base)
    body = {"documents": documents(SHOP.replace("few: 9", "few: 8")), "base_revision": base}
    error = plane.refused("POST", "/v1/commits", 409, json=body)
    assert (error["expected_revision"], error["actual_revision"]) == (base, base + 1)
    assert str(base) in error["message"]
    assert str(base + 1) in error["message"]


def test_without_a_base_revision_the_second_writer_silently_wins(plane: Plane) -> None:
    """The damage that `base_revision` is there to prevent."""
    plane.commit(SHOP)
    plane.commit(SHOP.replace("few: 9", "few: 8"))
    plane.commit(SHOP.replace("many: 49", "many: 48"))
    setting = plane.ok("GET", "/v1/services/shop/settings/tiles")["setting"]
    assert setting["variants"] == {"few": 9, "many": 48}


def test_writers_at_the_same_time_take_turns_and_none_is_lost(plane: Plane) -> None:
    base = plane.commit(SHOP)["revision"]
    answers: list[Any] = []

    def write(number: int) -> None:
        edits = [put_setting(key=f"key-{number}")]
        body = {"edits": edits, "base_revision": base}
        answers.append(plane.client.post("/v1/commits", json=body))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [201] + [409] * 7
    assert plane.head()["revision"] == base + 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/services/none", 404),
        ("GET", "/v1/services/shop/settings/a%2Fb", 404),
        ("GET", "/v1/services?limit=0", 400),
        ("GET", "/v1/services?limit=many", 400),
        ("GET", "/v1/history/99999", 404),
        ("GET", "/v1/history/x", 404),
        ("GET", "/v1/diff?from=0&to=99999", 404),
        ("PATCH", "/v1/services", 405),
        ("POST", "/v1/commits", 400),
    ],
)
def test_every_refusal_has_the_same_shape(
    plane: Plane, method: str, path: str, status: int
) -> None:
    error = plane.refused(method, path, status)
    assert error["code"]
    assert error["message"]


def service() -> dict[str, Any]:
    return {"type": "put-service", "service": "shop", "to": {}}


def boolean() -> dict[str, Any]:
    return {
        "type": "boolean",
        "variants": {"yes": True, "no": False},
        "environments": {"production": {"default": "no"}},
    }


def put_setting(key: str = "banner", **setting: Any) -> dict[str, Any]:
    return {
        "type": "put-setting",
        "service": "shop",
        "key": key,
        "to": {**boolean(), **setting, **({"environments": {}} if setting else {})},
    }


def test_an_empty_body_is_said_to_be_empty(plane: Plane) -> None:
    error = plane.refused("POST", "/v1/commits", 400, content=b"")
    assert (error["code"], error["message"]) == ("bad-body", "the body is empty")


def test_whoever_hangs_up_in_the_middle_of_a_body_is_no_fault_of_ours(plane: Plane) -> None:
    sent: list[Any] = []

    async def hang_up() -> None:
        coming = [
            {"type": "http.request", "body": b'{"rea', "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> Any:
            return coming.pop(0) if coming else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        path = "/v1/changes/check"
        scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
            "headers": [(b"authorization", f"Bearer {plane.admin}".encode())],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1), "extensions": {},
        }  # fmt: skip
        await plane.app(scope, receive, send)

    with plane.client.portal() as portal:
        portal.call(hang_up)
    assert [each["status"] for each in sent if each["type"] == "http.response.start"] == [400]
    assert 'route="/v1/changes/check",status="5' not in plane.client.get("/metrics").text
