"""A push comes home over the API: appended, believed only with its signature, lifted in the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from a_control_plane import SHOP, Plane

from holdfast.adapters.signing import Keys
from holdfast.apps.cli.pushing import Wish, prepare
from holdfast.core.model import Head, Subject
from holdfast.core.pushes import Pushed
from holdfast.core.roots import RootSet

LIFT = "/v1/pushes/production/shop/banner"


class FromPlane:
    """What an edge would have of it."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    def bundle(self, subject: Subject) -> bytes:
        target = f"/{subject.environment}/{subject.service}/snapshot"
        return self._plane.client.get(target).content

    def table(self, _subject: Subject, _digest: str) -> bytes | None:
        return None

    def heads(self, _roots: RootSet, _environment: str) -> Iterator[Head]:
        yield Head(**self._plane.head())


def pushed(plane: Plane, keys: Keys) -> Pushed:
    wish = Wish("shop", "banner", variant="shown")
    return prepare(FromPlane(plane), keys, "production", (wish,), "linus", "INC-7")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys.load(tmp_path)


def test_it_is_appended_stands_and_is_lifted(plane: Plane, keys: Keys) -> None:
    plane.commit(SHOP)
    made = pushed(plane, keys)
    home = plane.ok("POST", "/v1/pushes", content=made.body)
    assert (home["revision"], home["hash"]) == (made.entry.revision, made.entry.hash)
    assert plane.ok("POST", "/v1/pushes", content=made.body) == home
    snapshot = plane.client.get("/production/shop/snapshot").json()["snapshot"]
    assert snapshot["flags"]["banner"]["metadata"]["pushed"] == "INC-7"
    refused = plane.refused("POST", LIFT, 422, json={"reason": "over"})
    assert "serves something else" in refused["problems"][0]["message"]
    rules = SHOP[SHOP.index("        rules:") : SHOP.index("      staging:")]
    plane.commit(SHOP.replace(rules, "").replace("default: hidden", "default: shown"))
    lifted = plane.ok("POST", LIFT, json={"reason": "over"})
    assert lifted["revision"] > home["revision"]
    assert "nothing stands over" in str(
        plane.refused("POST", LIFT.replace("banner", "tiles"), 422, json={})
    )


def test_what_nobody_signed_is_refused(plane: Plane, keys: Keys, tmp_path: Path) -> None:
    plane.commit(SHOP)
    made = json.loads(pushed(plane, keys).body)
    made["entry"]["signatures"][0]["sig"] = "AAAA"
    assert plane.refused("POST", "/v1/pushes", 422, json=made)["problems"][0]["code"] == "signature"
    for wrong in ({"entry": {}, "bundles": [{}]}, {"entry": made["entry"], "bundles": [{"a": 1}]}):
        plane.refused("POST", "/v1/pushes", 422, json=wrong)
    plane.refused("POST", "/v1/pushes", 400, json={"entry": {}, "bundles": []})


def test_it_takes_the_right_to_write_there(plane: Plane, keys: Keys) -> None:
    plane.commit(SHOP)
    body = pushed(plane, keys).body
    for scope, status in (
        ({"verbs": ["read"]}, 403),
        ({"verbs": ["write"], "service": "mail"}, 403),
        ({"verbs": ["write"], "environment": "production", "service": "shop"}, 200),
    ):
        text = plane.ok("POST", "/v1/tokens", json={"name": "x", "scopes": [scope]})["token"]
        if status == 200:
            body = pushed(plane, keys).body  # the tokens moved the journal on
        answer = plane.client.post(
            "/v1/pushes", content=body, headers={"Authorization": f"Bearer {text}"}
        )
        assert answer.status_code == status, answer.text


def test_who_asks_what_changed_sees_what_was_pushed_and_lifted(plane: Plane, keys: Keys) -> None:
    before = plane.commit(SHOP)["revision"]
    home = plane.ok("POST", "/v1/pushes", content=pushed(plane, keys).body)
    (found,) = plane.ok("GET", f"/v1/diff?from={before}")["differences"]
    assert (found["kind"], found["service"], found["name"]) == ("override", "shop", "banner")
    assert found["environments"] == ["production"]
    assert found["before"] is None
    after = {"value": True, "revision": home["revision"], "actor": "linus", "reason": "INC-7"}
    assert found["after"].items() >= after.items()
    assert found["summary"] == f"true pushed by linus in revision {home['revision']}: INC-7"
    rules = SHOP[SHOP.index("        rules:") : SHOP.index("      staging:")]
    mended = plane.commit(SHOP.replace(rules, "").replace("default: hidden", "default: shown"))
    lifted = plane.ok("POST", LIFT, json={"reason": "over"})
    (gone,) = plane.ok("GET", f"/v1/history/{lifted['revision']}")["differences"]
    assert (gone["before"], gone["after"]) == (found["after"], None)
    assert gone["summary"].startswith("true lifted by ")
    assert gone["summary"].endswith(f" in revision {lifted['revision']}: over")
    assert plane.ok("GET", f"/v1/diff?from={mended['revision']}")["differences"] == [gone]
    kinds = {each["kind"] for each in plane.ok("GET", f"/v1/diff?from={before}")["differences"]}
    assert "override" not in kinds, "it stood neither before nor after"
