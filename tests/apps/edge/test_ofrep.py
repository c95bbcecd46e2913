"""OFREP over a real edge: every type and case, the unmodified client, bulk, streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from serving import Answered, Raw, call, until
from upstream import READ, READ_TEXT, is_, setting

from holdfast.apps.edge.process import Edge

BASE = "/production/shop"


def evaluate(edge: Edge, key: str, body: Any = None, **headers: str) -> Answered:
    text = body if isinstance(body, str | bytes) else json.dumps(body or {})
    target = f"{BASE}/ofrep/v1/evaluate/flags/{key}"
    return call(edge.listener.port, "POST", target, text, {**READ, **headers})


def bulk(edge: Edge, body: Any = None, query: str = "", **headers: str) -> Answered:
    target = f"{BASE}/ofrep/v1/evaluate/flags{query}"
    return call(edge.listener.port, "POST", target, json.dumps(body or {}), {**READ, **headers})


@pytest.mark.parametrize(
    ("key", "context", "answer"),
    [
        ("banner", {}, {"variant": "off", "reason": "DEFAULT", "value": False}),
        (
            "banner",
            {"tenant": "contoso"},
            {"variant": "on", "reason": "TARGETING_MATCH", "value": True},
        ),
        ("title", {}, {"variant": "old", "reason": "STATIC", "value": "Shop"}),
        ("tiles", {"targetingKey": "u1"}, {"variant": "many", "value": 49}),
        ("theme", {}, {"value": {"bg": "#000", "list": [1, 2]}}),
    ],
)
def test_each_type_is_answered(shop, key, context, answer):
    answered = evaluate(shop, key, {"context": context})

    assert answered.status == 200
    assert answered.headers["content-type"] == "application/json"
    body = answered.json()
    assert body["key"] == key
    assert {**body, **answer} == body
    assert set(body) == {"key", "reason", "variant", "value", "metadata"}


def test_the_revision_is_told(shop):
    revision = shop.table.get(next(iter(shop.table)).subject).revision

    assert evaluate(shop, "banner").headers["holdfast-revision"] == str(revision)


@pytest.mark.parametrize("body", ["{}", '{"context":{}}', '{"context":{},"other":1}'])
def test_a_missing_context_is_answered(shop, body):
    assert evaluate(shop, "banner", body).json()["value"] is False


def test_a_whole_number_has_a_decimal_point(shop):
    assert b'"value":1.0' in evaluate(shop, "rate").body
    assert b'"value":0.5' in evaluate(shop, "rate", {"context": {"tenant": "x"}}).body
    assert b'"value":9,' in evaluate(shop, "tiles").body.replace(b"}", b",")


@pytest.mark.parametrize(("key", "reason"), [("unset", "DEFAULT"), ("gone", "DISABLED")])
def test_a_code_default_has_no_value_and_an_empty_variant(shop, key, reason):
    body = evaluate(shop, key).json()

    assert (body["reason"], body["variant"]) == (reason, "")
    assert "value" not in body


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "PARSE_ERROR"),
        ("{", "PARSE_ERROR"),
        ("[]", "PARSE_ERROR"),
        ("7", "PARSE_ERROR"),
        ('{"context":{"a":NaN}}', "PARSE_ERROR"),
        ('{"context":{"a":"\\ud800"}}', "PARSE_ERROR"),
        (b'{"context":{"a":"\xff"}}', "PARSE_ERROR"),
        ('{"context":' + '{"a":' * 1000 + "1" + "}" * 1000 + "}", "PARSE_ERROR"),
        ("[" * 30_000, "PARSE_ERROR"),
        ('{"context":' + "[" * 30_000, "PARSE_ERROR"),
        ('{"context":[]}', "INVALID_CONTEXT"),
        ('{"context":null}', "INVALID_CONTEXT"),
        ('{"context":"x"}', "INVALID_CONTEXT"),
        ('{"context":{"targetingKey":7}}', "INVALID_CONTEXT"),
        ('{"context":{"targetingKey":null}}', "INVALID_CONTEXT"),
    ],
)
def test_bad_input_is_a_400_in_ofreps_shape(shop, body, code):
    answered = evaluate(shop, "banner", body)

    assert answered.status == 400
    assert answered.json()["errorCode"] == code
    assert answered.json()["errorDetails"]
    assert answered.json()["key"] == "banner"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("", "the body is empty"),
        ('{"context":{"a":"\\ud800"}}', "half of a surrogate pair"),
        ('{"context":{"\\udc00":1}}', "half of a surrogate pair"),
        ('{"context":', "truncated"),
        ("[" * 30_000, "too deep"),
    ],
)
def test_bad_input_is_told_its_cause(shop, body, says):
    assert says in evaluate(shop, "banner", body).json()["errorDetails"]


@pytest.mark.parametrize("key", ["nothing", "a%20b", "a%00b", "..x", "%C3%A4", "a%3Fb", "x" * 200])
def test_an_unknown_or_odd_key_is_a_404(shop, key):
    answered = evaluate(shop, key)

    assert answered.status == 404
    assert answered.json()["errorCode"] == "FLAG_NOT_FOUND"
    assert answered.json()["errorDetails"]


def test_a_slash_in_a_key_is_another_route(shop):
    assert evaluate(shop, "a/b").status == 404
    assert evaluate(shop, "a%2Fb").status == 404


def test_a_context_beyond_64_kib_is_a_413(shop):
    assert evaluate(shop, "banner", {"context": {"a": "x" * 66_000}}).status == 413
    assert evaluate(shop, "banner", {"context": {"a": "x" * 65_000}}).status == 200


def test_another_method_is_a_405(shop):
    for target in ("/ofrep/v1/evaluate/flags/banner", "/ofrep/v1/evaluate/flags"):
        answered = call(shop.listener.port, "GET", BASE + target, headers=READ)
        assert answered.status == 405
        assert answered.headers["allow"] == "POST, OPTIONS"


@pytest.mark.parametrize("headers", [{"authorization": "Bearer x"}, {"authorization": "Basic x"}])
def test_without_a_valid_token_there_is_a_401(shop, headers):
    for target in ("/ofrep/v1/evaluate/flags/banner", "/ofrep/v1/evaluate/flags"):
        answered = call(shop.listener.port, "POST", BASE + target, "{}", headers)
        assert answered.status == 401
        assert "www-authenticate" in answered.headers
        assert answered.json()["errorDetails"]
        assert call(shop.listener.port, "POST", BASE + target, "{}").status == 401


def test_elsewhere_the_token_is_a_403(shop):
    target = "/production/other/ofrep/v1/evaluate/flags/banner"

    assert call(shop.listener.port, "POST", target, "{}", READ).status == 403


def test_an_api_key_is_as_good(shop):
    target = f"{BASE}/ofrep/v1/evaluate/flags/banner"
    api_key = {"x-api-key": READ_TEXT}
    for _ in range(3):
        assert call(shop.listener.port, "POST", target, "{}", api_key).status == 200


@pytest.fixture
def client(shop: Edge) -> Iterator[Any]:
    base = f"http://127.0.0.1:{shop.listener.port}{BASE}"
    provider = OFREPProvider(base, headers_factory=lambda: READ)
    api.set_provider(provider)
    yield api.get_client()
    provider.session.close()
    api.shutdown()


def test_the_unmodified_client_reads_every_type(client):
    context = EvaluationContext("u1", {"tenant": "contoso"})

    assert client.get_boolean_value("banner", False, context) is True
    assert client.get_string_value("title", "", context) == "Shop"
    assert client.get_integer_value("tiles", 0, context) == 49
    assert client.get_float_value("rate", 0.0, context) == 1.0
    assert client.get_object_value("theme", {}, context) == {"bg": "#000", "list": [1, 2]}
    assert client.get_string_value("unset", "mine", context) == "mine"
    assert client.get_boolean_value("gone", False, context) is False


def test_the_unmodified_client_understands_the_errors(client):
    details = client.get_boolean_details("nothing", True)
    assert (details.value, details.error_code.value) == (True, "FLAG_NOT_FOUND")
    details = client.get_string_details("tiles", "x")
    assert (details.value, details.error_code.value) == ("x", "TYPE_MISMATCH")
    wrong = EvaluationContext("u", {"targetingKey": 1})
    details = client.get_boolean_details("banner", True, wrong)
    assert details.error_code.value == "INVALID_CONTEXT"


def test_bulk_answers_all_settings_and_knows_what_the_caller_has(shop):
    first = bulk(shop, {"context": {"tenant": "contoso"}})

    assert first.status == 200
    flags = {flag["key"]: flag for flag in first.json()["flags"]}
    assert set(flags) == {"banner", "title", "tiles", "rate", "theme", "unset", "gone"}
    assert flags["banner"] == evaluate(shop, "banner", {"context": {"tenant": "contoso"}}).json()
    have = {"if-none-match": first.headers["etag"]}
    again = bulk(shop, {"context": {"tenant": "contoso"}}, **have)
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    query = "?flagConfigEtag=%22x%22&flagConfigLastModified=1771622898"
    assert bulk(shop, {"context": {"tenant": "contoso"}}, query).body == first.body
    assert bulk(shop, {"context": {}}, **have).status == 200


def test_bulk_refuses_bad_input_in_ofreps_shape(shop):
    assert bulk(shop, {"context": 7}).status == 400
    assert bulk(shop, {"context": 7}).json()["errorCode"] == "INVALID_CONTEXT"


def stream_uri(edge: Edge) -> str:
    (stream,) = bulk(edge).json()["eventStreams"]
    assert stream["type"] == "sse"
    assert stream["inactivityDelaySec"] == 120
    return stream["endpoint"]["requestUri"]


def test_a_stream_needs_no_header_and_says_when_to_evaluate_again(edges, world, tmp_path):
    with world.serving() as upstream, edges(tmp_path, upstream.port) as edge:
        uri = stream_uri(edge)
        with Raw(edge.listener.port) as client:
            client.send(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % uri.encode())
            assert b"text/event-stream" in client.read_until(b"\r\n\r\n")
            client.read_until(b":\n\n")
            world.put("shop", later=setting("string", {"a": "A"}, "a", is_("tenant", "y", "a")))
            frame = client.read_until(b"}\n\n")

        active = next(a for a in edge.table if a.subject.service == "shop")
        assert b"event: message\n" in frame
        assert b"id: %d\n" % active.revision in frame
        data = json.loads(frame.partition(b"data: ")[2].strip())
        assert data["type"] == "refetchEvaluation"
        assert data["etag"] == f'"{active.digest}"'
        assert isinstance(data["lastModified"], int)

        for missed in (uri, uri.replace("since=", "since=1")):
            with Raw(edge.listener.port) as client:
                client.send(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % missed.encode())
                assert b"refetchEvaluation" in client.read_until(b"}\n\n")
        until(lambda: len(edge.hints.refetches) == 0)
        with Raw(edge.listener.port) as client:
            last = b"last-event-id: %d" % active.revision
            client.send(b"GET %b HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n" % (uri.encode(), last))
            client.read_until(b":\n\n")


@pytest.mark.parametrize(
    "change", [("shop/", "other/"), ("ticket=", "ticket=1"), ("ticket=", "x=")]
)
def test_a_ticket_opens_one_stream_only(shop, change):
    uri = stream_uri(shop).replace(*change)

    assert call(shop.listener.port, "GET", uri).status == 401


def test_a_page_of_another_origin_is_let_in_when_it_is_named(edges, world, tmp_path):
    origins = ("https://app.example.com",)
    target = f"{BASE}/ofrep/v1/evaluate/flags"
    with (
        world.serving() as upstream,
        edges(tmp_path, upstream.port, origins=origins) as edge,
    ):
        port = edge.listener.port
        page = {"origin": origins[0]}
        preflight = call(port, "OPTIONS", target, headers=page)
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-origin"] == origins[0]
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        for path in (target, f"{target}/banner", f"{target}/banner", f"{target}/nothing"):
            answered = call(port, "POST", path, "{}", {**READ, **page})
            assert answered.headers["access-control-allow-origin"] == origins[0]
            assert "etag" in answered.headers["access-control-expose-headers"]
            assert answered.headers["vary"] == "origin"
        stranger = call(port, "POST", f"{target}/banner", "{}", {**READ, "origin": "https://b.com"})
        assert "access-control-allow-origin" not in stranger.headers
        assert (
            "access-control-allow-methods"
            not in call(port, "OPTIONS", target, headers={"origin": "https://b.com"}).headers
        )


def test_metadata_of_flag_and_set_goes_along(shop):
    metadata = evaluate(shop, "banner").json()["metadata"]

    assert metadata["flagSetId"] == "shop"
