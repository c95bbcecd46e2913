"""Tokens and rights: what is proven, what is refused, and that rights only add up."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.access import (
    ACCESS,
    IMPLIED,
    SCOPES_MAX,
    Grant,
    authenticate,
    issue,
    may_grant,
    rights,
    scope_problems,
)
from holdfast.core.errors import Unauthenticated
from holdfast.core.model import Scope

NOW_S = 1_800_000_000
SECRET = bytes(range(32))
READ = Scope(verbs=("read",), environment="production", service="shop")

names = st.sampled_from(["*", "production", "staging", "shop", "mail"])
verbs = st.sampled_from(list(IMPLIED))
scopes = st.builds(
    Scope,
    verbs=st.lists(verbs, min_size=1, unique=True).map(tuple),
    environment=names,
    service=names,
)
wanted_services = st.sampled_from(["*", "production", "staging", "shop", "mail", ACCESS])


def grant(*given_scopes: Scope) -> Grant:
    return Grant(token="t", name="test", scopes=given_scopes)


def test_a_token_text_authenticates_as_what_was_issued() -> None:
    text, token = issue("abc1", SECRET, "ci", [READ], expires_s=NOW_S + 1)
    assert text == "hf_abc1_" + SECRET.hex()
    assert token.secret_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert SECRET.hex() not in repr(token)
    assert authenticate({"abc1": token}, text, NOW_S) == Grant("abc1", "ci", (READ,))


def test_several_tokens_live_side_by_side_so_that_one_can_be_replaced() -> None:
    old_text, old = issue("old", SECRET, "ci", [READ])
    new_text, new = issue("new", SECRET[::-1], "ci", [READ])
    both = {"old": old, "new": new}
    assert authenticate(both, old_text, NOW_S).token == "old"
    assert authenticate(both, new_text, NOW_S).token == "new"
    with pytest.raises(Unauthenticated):
        authenticate({"new": new}, old_text, NOW_S)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hf_",
        "hf_abc1",
        "hf_abc1_",
        "hf_abc1_" + bytes(32).hex(),
        "hf_abc2_" + SECRET.hex(),
        "hf_abc1_" + SECRET.hex().upper(),
        "hf_abc1_" + SECRET.hex() + "\n",
        "hf_abc1_" + SECRET.hex() + "0",
        "HF_abc1_" + SECRET.hex(),
        "hf_ABC1_" + SECRET.hex(),
        "\ud800",
        "hf_abc1_" + "é" * 64,
        "x" * 1_000_000,
    ],
)
def test_whatever_is_wrong_the_answer_is_the_same(text: str) -> None:
    _, token = issue("abc1", SECRET, "ci", [READ])
    with pytest.raises(
        Unauthenticated, match=r"^no valid token: it is missing, unknown or revoked$"
    ):
        authenticate({"abc1": token}, text, NOW_S)


def test_only_the_holder_of_the_secret_learns_of_the_expiry() -> None:
    text, token = issue("abc1", SECRET, "ci", [READ], expires_s=NOW_S)
    assert authenticate({"abc1": token}, text, NOW_S - 0.001)
    with pytest.raises(Unauthenticated, match="abc1 has expired"):
        authenticate({"abc1": token}, text, NOW_S)
    with pytest.raises(Unauthenticated, match="no valid token"):
        authenticate({"abc1": token}, text[:-1] + "x", NOW_S)


@given(st.text(max_size=80), st.binary(min_size=32, max_size=32))
def test_no_other_text_authenticates(text: str, secret: bytes) -> None:
    right, token = issue("abc1", secret, "ci", [READ])
    for candidate in (text, f"hf_{text}", right[:-1] + text[:1]):
        if candidate != right:
            with pytest.raises(Unauthenticated):
                authenticate({"abc1": token}, candidate, NOW_S)


@pytest.mark.parametrize(("token_id", "secret"), [("", SECRET), ("A", SECRET), ("a", b"short")])
def test_a_malformed_id_or_secret_is_a_fault_of_the_program(token_id: str, secret: bytes) -> None:
    with pytest.raises(ValueError, match="token needs an id"):
        issue(token_id, secret, "ci", [READ])


def test_a_scope_gives_its_verbs_where_it_says_and_nowhere_else() -> None:
    reader = grant(READ)
    assert reader.allows("read", "production", "shop")
    assert not reader.allows("write", "production", "shop")
    assert not reader.allows("read", "staging", "shop")
    assert not reader.allows("read", "production", "mail")
    assert not reader.allows("read", "*", "shop")
    assert not reader.allows("read", "production", "*")
    assert reader.allows_somewhere("read", "shop")
    assert not reader.allows_somewhere("read", "mail")
    assert not reader.allows_somewhere("read", "*")


def test_admin_implies_all_write_and_follow_imply_read() -> None:
    assert rights(Scope(verbs=("admin",))) == {"admin", "write", "follow", "read"}
    assert rights(Scope(verbs=("write",))) == {"write", "read"}
    assert rights(Scope(verbs=("follow",))) == {"follow", "read"}
    assert rights(Scope(verbs=("read",))) == {"read"}


def test_the_hashes_of_tokens_are_for_followers_only_and_never_written() -> None:
    reads_all = grant(Scope(verbs=("read", "write")))
    follower = grant(Scope(verbs=("follow",), environment="production", service="shop"))
    assert not reads_all.allows("read", "production", ACCESS)
    assert follower.allows("read", "production", ACCESS)
    assert not follower.allows("read", "staging", ACCESS)
    assert not grant(Scope(verbs=("admin",))).allows("write", "production", ACCESS)
    assert not grant(Scope(verbs=("admin",))).allows_somewhere("read", ACCESS)


@given(st.lists(scopes, max_size=4), scopes, verbs, names, wanted_services)
def test_one_more_scope_never_takes_a_right_away(
    some: list[Scope], more: Scope, verb: str, environment: str, service: str
) -> None:
    fewer, wider = grant(*some), grant(*some, more)
    if fewer.allows(verb, environment, service):  # type: ignore[arg-type]
        assert wider.allows(verb, environment, service)  # type: ignore[arg-type]
    if fewer.allows_somewhere(verb, service):  # type: ignore[arg-type]
        assert wider.allows_somewhere(verb, service)  # type: ignore[arg-type]


@given(st.lists(scopes, max_size=4), verbs, names, names)
def test_a_right_everywhere_is_a_right_anywhere(
    some: list[Scope], verb: str, environment: str, service: str
) -> None:
    holder = grant(*some)
    if holder.allows(verb, "*", "*"):  # type: ignore[arg-type]
        assert holder.allows(verb, environment, service)  # type: ignore[arg-type]
    if holder.allows(verb, environment, service):  # type: ignore[arg-type]
        assert holder.allows_somewhere(verb, service)  # type: ignore[arg-type]


@given(st.lists(scopes, max_size=4), st.lists(scopes, min_size=1, max_size=3), verbs, names, names)
def test_nobody_hands_out_more_than_they_hold(
    held: list[Scope], wanted: list[Scope], verb: str, environment: str, service: str
) -> None:
    issuer, handed = grant(*held), grant(*wanted)
    if all(may_grant(issuer, scope) for scope in wanted) and handed.allows(
        verb,  # type: ignore[arg-type]
        environment,
        service,
    ):
        assert issuer.allows(verb, environment, service)  # type: ignore[arg-type]


def test_all_problems_of_all_scopes_come_at_once() -> None:
    bad = [READ, Scope(verbs=(), environment="Prod uction"), Scope(verbs=("read",), service="a/b")]
    assert [(problem.code, problem.path) for problem in scope_problems(bad)] == [
        ("scope-verbs", "/scopes/1/verbs"),
        ("scope-name", "/scopes/1/environment"),
        ("scope-name", "/scopes/2/service"),
    ]
    assert [p.code for p in scope_problems([READ] * (SCOPES_MAX + 1))] == ["scope-count"]
    assert [p.code for p in scope_problems([])] == ["scope-count"]
    assert scope_problems([READ]) == ()


def test_an_actor_is_known_by_name_and_told_apart_by_id() -> None:
    assert Grant("abc1", "ci", (READ,)).actor == "ci (abc1)"
    assert Grant("holdfast", "holdfast", (READ,)).actor == "holdfast"
