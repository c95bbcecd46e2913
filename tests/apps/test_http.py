"""What both faces agree on: the error table, tokens in headers, ETags, encodings."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.apps import http
from holdfast.core import errors


def every_error(cls: type[errors.HoldfastError]) -> list[type[errors.HoldfastError]]:
    ours = [sub for sub in cls.__subclasses__() if sub.__module__ == errors.__name__]
    return [cls, *(each for sub in ours for each in every_error(sub))]


def make(cls: type[errors.HoldfastError]) -> errors.HoldfastError:
    if issubclass(cls, errors.Invalid | errors.Guarded):
        return cls([errors.Problem(code="bad-key", message="no key", path="/settings")])
    if cls is errors.Conflict:
        return errors.Conflict(3, 5)
    if cls is errors.Fenced:
        return errors.Fenced(3, 5)
    if cls is errors.Behind:
        return errors.Behind(5, 3, silent=True)
    if cls is errors.Untrusted:
        return errors.Untrusted("signature", "/var/lib/secret: not signed")
    return cls("what happened")


@pytest.mark.parametrize("cls", every_error(errors.HoldfastError))
def test_every_error_has_a_status_an_exit_code_and_a_body(cls):
    answer = http.error_response(make(cls))

    assert answer.status == http.status_of(make(cls))
    assert 400 <= answer.status < 600
    assert http.exit_code_of(make(cls)) in (1, 2)
    body = json.loads(answer.body)["error"]
    assert body["code"]
    assert body["message"]
    assert http.NO_STORE in answer.headers


def test_an_invalid_change_answers_with_all_its_problems():
    body = json.loads(http.error_response(make(errors.Invalid)).body)

    assert body["error"]["problems"] == [
        {"code": "bad-key", "message": "no key", "path": "/settings"}
    ]


def test_what_an_operator_must_mend_is_not_told_to_callers():
    answer = http.error_response(make(errors.Untrusted))

    assert answer.status == 502
    assert b"/var/lib" not in answer.body
    assert json.loads(answer.body)["error"]["code"] == "signature"


def test_a_status_brings_the_headers_that_belong_to_it():
    unauthenticated = http.error_response(errors.Unauthenticated("no token"))
    assert dict(unauthenticated.headers)[b"www-authenticate"].startswith(b"Bearer")
    assert dict(http.error_response(errors.Unavailable("away")).headers)[b"retry-after"] == b"1"
    wrong = http.method_not_allowed("PUT", "GET, HEAD")
    assert wrong.status == 405
    assert dict(wrong.headers)[b"allow"] == b"GET, HEAD"


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ([(b"authorization", b"Bearer hf_a_b")], "hf_a_b"),
        ([(b"authorization", b"bearer  hf_a_b ")], "hf_a_b"),
        ([(b"x-api-key", b"hf_a_b")], "hf_a_b"),
        ([(b"authorization", b"Basic xyz"), (b"x-api-key", b"hf_a_b")], "hf_a_b"),
        ([(b"authorization", b"Bearer one"), (b"x-api-key", b"two")], "one"),
        ([(b"authorization", b"hf_a_b")], None),
        ([(b"authorization", b"Bearer ")], None),
        ([(b"authorization", b"Bearer \xff\xfe")], None),
        ([(b"authorization", b"Bearer " + b"x" * 257)], None),
        ([], None),
    ],
)
def test_a_token_is_read_from_either_header(headers, text):
    assert http.token_text(headers) == text


@pytest.mark.parametrize(
    ("if_none_match", "matches"),
    [
        (b'"abc"', True),
        (b'W/"abc"', True),
        (b'"x", W/"abc" , "y"', True),
        (b"*", True),
        (b'"abcd"', False),
        (b"abc", False),
        (b"", False),
        (None, False),
    ],
)
def test_an_etag_matches_weakly(if_none_match, matches):
    assert http.etag_matches(if_none_match, b'"abc"') is matches


@pytest.mark.parametrize(
    ("accept_encoding", "accepts"),
    [
        (b"gzip", True),
        (b"br, GZIP;q=0.5", True),
        (b"*", True),
        (b"gzip;q=0", False),
        (b"gzip; q=0, *", False),
        (b"identity", False),
        (b"gzip;q=nonsense", False),
        (b"", False),
        (None, False),
    ],
)
def test_gzip_is_sent_to_who_accepts_it(accept_encoding, accepts):
    assert http.accepts_gzip(accept_encoding) is accepts


@given(st.binary(max_size=80))
def test_no_header_value_can_break_the_readers(value):
    http.token_text([(b"authorization", value), (b"x-api-key", value)])
    http.etag_matches(value, b'"abc"')
    http.accepts_gzip(value)
