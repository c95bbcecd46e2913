"""Reading snapshots: what is read back, and every way in which bytes are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.core.histories import serving, state_after
from tests.core.test_build import SHOP, made, put

from holdfast.core import limits, snapshot
from holdfast.core.errors import TooLarge, Untrusted
from holdfast.core.snapshot import Bounds, Freshness, decode, encode
from holdfast.core.wire import canonical, digest

STATE = state_after([put("tiles", serving("on")), put("theme.dark", serving("off"))])
BODY = encode(made(STATE))


def test_what_is_read_back_is_what_was_built() -> None:
    read = decode(BODY)
    assert read == made(STATE)
    assert encode(read) == BODY
    assert read.subject == SHOP
    assert read.setting("tiles").type == "string"
    assert read.setting("tiles").revision == 1
    with pytest.raises(KeyError):
        read.setting("none")


def test_a_setting_s_facts_are_checked_when_they_are_asked_for() -> None:
    read = decode(BODY.replace(b'"type":"string"', b'"type":"sting"'))
    with pytest.raises(Untrusted) as refused:
        read.setting("tiles")
    assert refused.value.code == "shape"


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(BODY)
    change(document)
    return canonical(document)


def rename(document: dict[str, Any], key: str) -> None:
    for section in (document["flags"], document["holdfast"]["settings"]):
        section[key] = section.pop("tiles")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "shape"),
        (b"null", "shape"),
        (b"{}", "shape"),
        (b"\xff" * 10, "shape"),
        (b"[" * 100_000, "shape"),
        (b'{"flags":' * 100_000, "shape"),
        (BODY[:-1], "shape"),
        (BODY + b"{}", "shape"),
        (changed(lambda d: d.update(extra=1)), "shape"),
        (changed(lambda d: d["holdfast"].update(extra=1)), "shape"),
        (changed(lambda d: d["holdfast"].pop("journal_head")), "shape"),
        (changed(lambda d: d["holdfast"].update(revision=0)), "shape"),
        (changed(lambda d: d["holdfast"].update(revision="1")), "shape"),
        (changed(lambda d: d["holdfast"].update(service="Shop")), "shape"),
        (changed(lambda d: d["holdfast"].update(service="_other")), "shape"),
        (changed(lambda d: d["holdfast"].update(service="shop\n")), "shape"),
        (changed(lambda d: d["holdfast"].update(environment="a/b")), "shape"),
        (changed(lambda d: d["holdfast"]["semantics"].update(bucketing="v4")), "shape"),
        (changed(lambda d: d["holdfast"].update(format=2)), "format"),
        (changed(lambda d: d["holdfast"].update(format=2, news={"a": 1})), "format"),
        (changed(lambda d: d["holdfast"].update(format="x" * 100)), "format"),
        (changed(lambda d: d["flags"].pop("tiles")), "keys"),
        (changed(lambda d: d["holdfast"]["settings"].pop("tiles")), "keys"),
        (changed(lambda d: d["holdfast"]["schemas"].update(other={})), "keys"),
        (changed(lambda d: d["holdfast"]["removed"].update(tiles=1)), "keys"),
        (changed(lambda d: rename(d, "a/b")), "keys"),
        (changed(lambda d: rename(d, "a..b")), "keys"),
        (changed(lambda d: rename(d, "")), "keys"),
        (changed(lambda d: rename(d, "a\nb")), "keys"),
        (changed(lambda d: rename(d, "-a")), "keys"),
        (changed(lambda d: rename(d, "ä")), "keys"),
        (changed(lambda d: rename(d, "a" * 129)), "keys"),
    ],
)
def test_what_is_no_snapshot_of_format_1_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(Untrusted) as refused:
        decode(body)
    assert refused.value.code == code


def test_bounds_are_held_by_who_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    built = made(STATE)
    monkeypatch.setattr(limits, "SETTINGS_MAX", 1)
    with pytest.raises(Untrusted) as refused:
        decode(BODY)
    assert refused.value.code == "settings-count"
    monkeypatch.setattr(limits, "SNAPSHOT_BYTES_MAX", len(BODY) - 1)
    with pytest.raises(Untrusted) as refused:
        decode(BODY)
    assert refused.value.code == "snapshot-size"
    with pytest.raises(TooLarge):
        encode(built)


def test_the_bounds_that_travel_are_those_that_the_publisher_holds() -> None:
    for name in Bounds.__struct_fields__:
        assert getattr(Bounds(), name) <= getattr(limits, name.upper())


def test_the_statement_names_the_very_bytes() -> None:
    payload = snapshot.statement(decode(BODY), BODY)
    assert json.loads(payload) == {
        "format": 1,
        "service": "shop",
        "environment": "production",
        "revision": 1,
        "digest": digest(BODY),
        "bytes": len(BODY),
    }
    assert snapshot.decode_statement(payload).digest == digest(BODY)


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", "statement"), (b"{}", "statement"), (b'{"\xff":1}', "statement")],
)
def test_what_is_no_statement_is_refused(payload: bytes, code: str) -> None:
    with pytest.raises(Untrusted) as refused:
        snapshot.decode_statement(payload)
    assert refused.value.code == code


def test_a_statement_of_another_format_says_so() -> None:
    payload = snapshot.statement(decode(BODY), BODY).replace(b'"format":1', b'"format":2')
    with pytest.raises(Untrusted, match="upgrade the consumer"):
        snapshot.decode_statement(payload)


def test_freshness_reads_back() -> None:
    said = Freshness("shop", "production", 1, digest(BODY), 7, "f" * 64, 1_700_000_000_000)
    assert snapshot.decode_freshness(snapshot.freshness(said)) == said
    for garbage in (b"", b"{}", b"\xff"):
        with pytest.raises(Untrusted) as refused:
            snapshot.decode_freshness(garbage)
        assert refused.value.code == "freshness"
