"""Policies over HTTP: approvals, schedules, broken glass, and who is told of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from a_control_plane import SHOP, Clock, Plane, documents
from litestar.testing import TestClient

from holdfast.adapters.signing import Keys
from holdfast.apps.control.app import create_app
from holdfast.apps.control.parts import open_parts
from holdfast.apps.control.plane import Control
from holdfast.apps.settings import ControlSettings

WRITE = {"verbs": ["write"]}
FEWER = {"documents": documents(SHOP.replace("few: 9", "few: 8")), "reason": "fewer"}
DEADLINE_S = 20.0


class Guarded:
    """The shop in a production that asks for one approval, and three people."""

    def __init__(self, plane: Plane, **policy: Any) -> None:
        self.plane = plane
        plane.commit(SHOP)
        for name in ("ann", "bob"):
            setattr(self, name, plane.bearing(plane.token(WRITE, name=name)))
        body = {"policy": {"approvals": 1, **policy}}
        plane.ok("PUT", "/v1/environments/production/policy", json=body)

    ann: dict[str, str]
    bob: dict[str, str]

    def propose(self, body: dict[str, Any] = FEWER) -> dict[str, Any]:
        made: dict[str, Any] = self.plane.ok("POST", "/v1/changes", json=body, headers=self.ann)
        return made

    def approve(self, change: dict[str, Any], headers: dict[str, str]) -> Any:
        path, body = f"/v1/changes/{change['id']}/approve", {"digest": change["digest"]}
        return self.plane.ok("POST", path, json=body, headers=headers)

    def few(self) -> Any:
        setting = self.plane.ok("GET", "/v1/services/shop/settings/tiles")["setting"]
        return setting["variants"]["few"]


@pytest.fixture
def shop(plane: Plane) -> Guarded:
    return Guarded(plane)


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_guarded_environment_takes_a_second_person(shop: Guarded) -> None:
    plane = shop.plane
    checked = plane.ok("POST", "/v1/changes/check", json=FEWER, headers=shop.ann)
    assert (checked["ok"], checked["approvals_needed"]) == (True, 1)
    error = plane.refused("POST", "/v1/commits", 403, json=FEWER, headers=shop.ann)
    assert error["code"] == "approval-needed"
    assert "holdfast apply --propose" in error["problems"][0]["hint"]

    change = shop.propose()
    path = f"/v1/changes/{change['id']}"
    plane.refused("POST", f"{path}/commit", 403, json={}, headers=shop.ann)
    own = {"digest": change["digest"]}
    plane.refused("POST", f"{path}/approve", 403, json=own, headers=shop.ann)
    plane.refused("POST", f"{path}/approve", 422, json={"digest": "0" * 64}, headers=shop.bob)
    approved = shop.approve(change, shop.bob)
    assert [one["actor"][:3] for one in approved["approvals"]] == ["bob"]
    assert plane.ok("GET", path)["approvals_counted"] == 1

    done = plane.ok("POST", f"{path}/commit", json={"digest": change["digest"]}, headers=shop.ann)
    assert shop.few() == 8
    entry = plane.ok("GET", f"/v1/history/{done['revision']}")
    assert [one["actor"][:3] for one in entry["edits"] if one["type"] == "approve"] == ["bob"]
    assert plane.ok("GET", "/v1/history?limit=1")["entries"][0]["approval_count"] == 1


def test_an_edited_change_has_to_be_approved_again(shop: Guarded) -> None:
    plane, change = shop.plane, shop.propose()
    path = f"/v1/changes/{change['id']}"
    shop.approve(change, shop.bob)
    other = {"documents": documents(SHOP.replace("few: 9", "few: 1")), "reason": "fewer"}
    plane.refused("PUT", path, 403, json=other, headers=shop.bob)
    revised = plane.ok("PUT", path, json=other, headers=shop.ann)
    assert revised["approvals"] == []
    plane.refused("POST", f"{path}/commit", 403, json={}, headers=shop.ann)
    shop.approve(revised, shop.bob)
    plane.ok("POST", f"{path}/commit", json={}, headers=shop.ann)
    assert shop.few() == 1


def test_a_rejected_change_says_so(shop: Guarded) -> None:
    plane, change = shop.plane, shop.propose()
    path = f"/v1/changes/{change['id']}"
    shop.approve(change, shop.bob)
    plane.ok("POST", f"{path}/reject", json={"reason": "too few"}, headers=shop.bob)
    error = plane.refused("POST", f"{path}/commit", 422, json={}, headers=shop.ann)
    assert error["problems"][0]["code"] == "rejected"
    assert plane.ok("GET", path)["change"]["rejection"]["reason"] == "too few"


def test_a_policy_is_changed_by_the_policy(shop: Guarded) -> None:
    plane = shop.plane
    root = plane.bearing(plane.token({"verbs": ["admin"]}, name="other root"))
    path, free = "/v1/environments/production/policy", {"policy": {}}
    plane.refused("PUT", path, 403, json=free)
    change = plane.ok("POST", f"{path}/changes", json=free)
    plane.refused(
        "POST",
        f"/v1/changes/{change['id']}/approve",
        403,
        json={"digest": change["digest"]},
        headers=shop.bob,
    )
    shop.approve(change, root)
    plane.ok("POST", f"/v1/changes/{change['id']}/commit", json={})
    assert plane.ok("GET", path)["policy"] == {}


def test_an_environment_keeps_its_policy_when_its_description_changes(shop: Guarded) -> None:
    lab = "/v1/environments/lab"
    shop.plane.ok("PUT", lab, json={})
    shop.plane.ok("PUT", f"{lab}/policy", json={"policy": {"settings_max": 3}})
    shop.plane.ok("PUT", lab, json={"description": "for trying"})
    assert shop.plane.ok("GET", f"{lab}/policy")["policy"] == {"settings_max": 3}


def test_a_wrong_policy_is_refused_with_its_place(plane: Plane) -> None:
    path = "/v1/environments/production/policy"
    error = plane.refused("PUT", path, 422, json={"policy": {"approvals": 11}})
    assert error["problems"][0]["path"] == "/environments/production/policy/approvals"
    plane.refused("PUT", path, 400, json={"policy": {"aprovals": 1}})


def test_broken_glass_is_told_everywhere(shop: Guarded) -> None:
    plane = shop.plane
    fire = {**FEWER, "break_glass": "the shop is down"}
    plane.refused("POST", "/v1/changes", 422, json=fire, headers=shop.ann)
    wrong = {**fire, "documents": documents(SHOP.replace("few: 9", "few: 50"))}
    plane.refused("POST", "/v1/commits", 422, json=wrong, headers=shop.ann)
    done = plane.ok("POST", "/v1/commits", json=fire, headers=shop.ann)
    assert shop.few() == 8
    (broken,) = plane.ok("GET", "/v1/break-glass")["broken"]
    assert broken["open"]
    assert (broken["environment"], broken["reason"]) == ("production", "the shop is down")
    assert broken["until_s"] <= plane.control.clock() + 3_600
    (newest,) = plane.ok("GET", "/v1/history?limit=1")["entries"]
    assert (newest["revision"], newest["break_glass"]) == (done["revision"], "the shop is down")
    metrics = plane.client.get("/metrics").text
    assert 'holdfast_break_glass_total{environment="production"} 1.0' in metrics
    error = plane.refused("POST", "/v1/revert", 403, json={"revision": done["revision"]})
    assert error["code"] == "approval-needed"
    undo = {"revision": done["revision"], "reason": "it was not the tiles"}
    change = plane.ok("POST", "/v1/changes/revert", json=undo, headers=shop.ann)
    assert [each["edit_count"] for each in plane.ok("GET", "/v1/changes")["changes"]] == [1]
    plane.ok("DELETE", f"/v1/changes/{change['id']}", headers=shop.ann)
    back = {"revision": done["revision"], "break_glass": "it was not the tiles"}
    plane.ok("POST", "/v1/revert", json=back)
    assert shop.few() == 9


def test_a_scheduled_change_is_committed_by_itself(shop: Guarded, clock: Clock) -> None:
    change = shop.propose()
    shop.approve(change, shop.bob)
    path = f"/v1/changes/{change['id']}/schedule"
    at_s = int(clock.now_s) + 3_600
    shop.plane.refused("PUT", path, 422, json={"at_s": 1}, headers=shop.ann)
    scheduled = shop.plane.ok("PUT", path, json={"at_s": at_s}, headers=shop.ann)
    assert (scheduled["status"], scheduled["scheduled_s"]) == ("scheduled", at_s)
    clock.now_s = at_s
    eventually(lambda: shop.few() == 8)


def test_a_scheduled_change_that_is_refused_waits_on_and_says_why(
    shop: Guarded, clock: Clock
) -> None:
    change = shop.propose()
    path = f"/v1/changes/{change['id']}"
    at_s = int(clock.now_s) + 60
    shop.plane.ok("PUT", f"{path}/schedule", json={"at_s": at_s}, headers=shop.ann)
    clock.now_s = at_s
    eventually(lambda: shop.plane.ok("GET", path)["change"]["status"] == "failed")
    failure = shop.plane.ok("GET", path)["change"]["failure"]
    assert failure["code"] == "approval-needed"
    assert shop.few() == 9
    assert 'outcome="failed"} 1.0' in shop.plane.client.get("/metrics").text


def test_approvals_and_schedules_survive_a_restart(
    tmp_path: Path, settings: ControlSettings, clock: Clock
) -> None:
    Keys.init(tmp_path / "keys", development=True)

    def start() -> Control:
        return Control(settings, open_parts(tmp_path, development=True), clock)

    control = start()
    app = create_app(control)
    with TestClient(app) as client:
        shop = Guarded(Plane(control, app, client))
        change = shop.propose()
        shop.approve(change, shop.bob)
        path, at_s = f"/v1/changes/{change['id']}/schedule", int(clock.now_s) + 60
        shop.plane.ok("PUT", path, json={"at_s": at_s}, headers=shop.ann)
    clock.now_s += 90  # it was down when the time came
    control = start()
    with TestClient(create_app(control)):
        tiles = lambda: control.state().services["shop"].settings["tiles"]  # noqa: E731
        eventually(lambda: tiles().setting.variants["few"] == 8)
