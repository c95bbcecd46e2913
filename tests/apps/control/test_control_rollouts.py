"""Reports, the fleet and rollouts over HTTP: what each token may tell, see and move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from a_control_plane import MAIL, SHOP, Clock, Plane
from tests.sdk.waiting import until

PLAN = {
    "stages": [
        {"name": "pilots", "rings": ["ring0"], "bake_s": 60},
        {"name": "all", "percent": 100, "bake_s": 10},
    ],
    "gates": {"objective_ms": 250},
}


def report(sequence: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "consumer": "consumer-a", "service": "shop", "environment": "production", "kind": "sdk",
        "build": "holdfast/0", "sequence": sequence, "at_ms": 1, **more,
    }  # fmt: skip


def tell(plane: Plane, *reports: dict[str, Any]) -> int:
    taken: int = plane.ok("POST", "/v1/reports", json={"reports": reports})["taken"]
    return taken


@pytest.fixture
def begun(plane: Plane) -> str:
    """A rollout of the shop's tiles in production."""
    plane.commit(SHOP, MAIL)
    plane.ok("PUT", "/v1/environments/production/policy", json={"policy": {"rollout": PLAN}})
    revision = plane.commit(SHOP.replace("few: 9", "few: 12"))["revision"]
    return f"production.{revision}"


def rows(rollout: str, exposed: int, failed: int) -> list[dict[str, Any]]:
    return [
        {"rollout": rollout, "stage": 0, "exposed": True, "requests": exposed, "errors": failed},
        {"rollout": rollout, "stage": 0, "exposed": False, "requests": 1_000, "errors": 3},
    ]


def status_of(plane: Plane, rollout: str) -> Callable[[], str]:
    return lambda: plane.ok("GET", f"/v1/rollouts/{rollout}")["rollout"]["status"]


def test_who_reports_is_in_the_fleet(plane: Plane, clock: Clock) -> None:
    committed = plane.commit(SHOP, MAIL)
    assert tell(plane, report(), report(consumer="consumer-b", service="mail", stale=True)) == 2
    found = plane.ok("GET", "/v1/fleet")
    assert found["summary"] == {
        "consumers": 2, "silent": 0, "behind": 2, "stale": 1, "refusing": 0,
    }  # fmt: skip
    assert [each["report"]["service"] for each in found["consumers"]] == ["mail", "shop"]
    digest = plane.control.view.standing.lineages
    newest = next(each for key, each in digest.items() if str(key) == "production/shop")
    refusal = {"revision": committed["revision"], "digest": "", "code": "schema",
               "message": "12 is no string", "at_ms": 5}  # fmt: skip
    tell(plane, report(2, revision=newest.revision, digest=newest.digest, refusals=[refusal]))
    (line,) = plane.ok("GET", "/v1/fleet?service=shop&environment=production")["consumers"]
    assert line["report"]["refusals"] == [refusal]
    assert (line["behind"], line["silent"]) == (False, False)
    clock.now_s += 100
    assert plane.ok("GET", "/v1/fleet?service=shop")["consumers"][0]["silent"]


def test_the_fleet_comes_in_pages(plane: Plane) -> None:
    tell(plane, *(report(consumer=f"consumer-{number}") for number in range(5)))
    names, cursor = [], None
    while True:
        query = f"?limit=2&cursor={cursor}" if cursor else "?limit=2"
        page = plane.ok("GET", f"/v1/fleet{query}")
        names += [each["report"]["consumer"] for each in page["consumers"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert names == [f"consumer-{number}" for number in range(5)]


def test_a_token_reports_and_sees_what_it_may_read(plane: Plane, begun: str) -> None:
    mail = plane.bearing(plane.token({"verbs": ["read"], "service": "mail"}))
    both = {"reports": [report(), report(service="mail")]}
    assert plane.ok("POST", "/v1/reports", json=both, headers=mail) == {"taken": 1}
    only = {"reports": [report()]}
    assert plane.refused("POST", "/v1/reports", 403, json=only, headers=mail)
    tell(plane, report(2))
    seen = plane.ok("GET", "/v1/fleet", headers=mail)["consumers"]
    assert [each["report"]["service"] for each in seen] == ["mail"]
    assert plane.ok("GET", "/v1/rollouts", headers=mail)["rollouts"] == []
    assert plane.refused("GET", f"/v1/rollouts/{begun}", 403, headers=mail)


def test_bad_reports_are_refused_whole(plane: Plane) -> None:
    for body in ({}, {"reports": [report(kind="toaster")]}, {"reports": [report(consumer="x")]}):
        assert plane.refused("POST", "/v1/reports", 400, json=body)["code"] == "bad-body"
    large = {"reports": [report(application="x" * 250) for _ in range(500)]}
    assert plane.refused("POST", "/v1/reports", 413, json=large)


def test_errors_of_the_exposed_take_a_rollout_back(plane: Plane, begun: str) -> None:
    tell(plane, report(outcomes=rows(begun, 20, 15)))
    plane.control.automation.advancing.wake()
    until(lambda: status_of(plane, begun)() == "rolled-back")
    found = plane.ok("GET", f"/v1/rollouts/{begun}")
    assert found["stages"][0]["exposed"]["errors"] == 15
    low, rate, high = found["stages"][0]["exposed"]["error_rate"]
    assert 0.3 < low < rate == 0.75 < high < 0.97
    assert found["moves"][0]["evidence"]["exposed"]["errors"] == 15
    assert found["points"][-1]["errors_e"] > 2_000
    setting = plane.ok("GET", "/v1/services/shop/settings/tiles")["setting"]
    assert setting["variants"]["few"] == 9
    text = plane.client.get("/metrics").text
    assert 'holdfast_rollout_moves_total{action="roll-back"} 1.0' in text
    assert "holdfast_reports_taken_total 1.0" in text


def test_a_refusal_takes_a_rollout_back_at_once(plane: Plane, begun: str) -> None:
    revision = int(begun.rpartition(".")[2])
    refusal = {"revision": revision, "digest": "", "code": "contract", "message": "no", "at_ms": 5}
    tell(plane, report(refusals=[refusal]))
    until(lambda: status_of(plane, begun)() == "rolled-back")
    assert plane.ok("GET", f"/v1/rollouts/{begun}")["refusal_count"] == 1


def test_a_rollout_goes_on_by_itself_and_is_told_after_it_ended(
    plane: Plane, begun: str, clock: Clock
) -> None:
    (line,) = plane.ok("GET", "/v1/rollouts?status=running&service=shop")["rollouts"]
    assert (line["id"], line["stage"], line["rings"]) == (begun, 0, ["ring0"])
    assert line["items"] == ["shop/tiles"]
    for seconds in (61, 11):
        clock.now_s += seconds
        before = plane.head()["revision"]
        plane.control.automation.advancing.wake()
        until(lambda before=before: plane.head()["revision"] > before)
    assert plane.ok("GET", "/v1/rollouts?status=running")["rollouts"] == []
    (line,) = plane.ok("GET", "/v1/rollouts?environment=production")["rollouts"]
    assert (line["status"], line["stage_name"], line["percent"]) == ("completed", "all", 100)


def test_an_answer_is_not_explained_by_a_rule_of_another_place(plane: Plane) -> None:
    """A flag on its way asks first who is exposed, and only then what its author asks first."""
    plane.commit(SHOP)
    plane.ok("PUT", "/v1/environments/production/policy", json={"policy": {"rollout": PLAN}})
    rule = "- {name: pilot tenants,"
    more = SHOP.replace(rule, f'{rule} when: tenant == "a", serve: shown}}\n          {rule}', 1)
    revision = plane.commit(more)["revision"]
    asked = {"environment": "production", "service": "shop", "key": "banner"}
    for ring, index, name in (("ring0", 0, f"rollout:production.{revision}"), ("ring1", 1, "")):
        context = {"tenant": "contoso", "ring": ring}
        told = plane.ok("POST", "/v1/explain", json={**asked, "context": context})
        assert (told["value"], told["rule"], told["rule_name"]) == (True, index, name)
        assert "pilot tenants" not in [rule["name"] for rule in told["rules"]]


def test_a_person_moves_a_rollout(plane: Plane, begun: str) -> None:
    path = f"/v1/rollouts/{begun}"
    plane.ok("POST", f"{path}/hold", json={"reason": "let me look"})
    assert status_of(plane, begun)() == "held"
    assert plane.refused("POST", f"{path}/hold", 422, json={})["problems"][0]["code"] == (
        "rollout-status"
    )
    plane.ok("POST", f"{path}/resume", json={})
    plane.ok("POST", f"{path}/advance", json={"reason": "sure"})
    assert plane.ok("GET", path)["rollout"]["stage"] == 1
    plane.ok("POST", f"{path}/roll-back", json={"reason": "no"})
    found = plane.ok("GET", path)
    assert [each["status"] for each in found["moves"]] == [
        "held", "running", "running", "rolled-back",
    ]  # fmt: skip
    assert found["moves"][0]["reason"] == "let me look"
    assert plane.refused("POST", f"{path}/hold", 404, json={})


def test_moving_it_takes_the_right_to_write_there(plane: Plane, begun: str) -> None:
    for scope, status in (
        ({"verbs": ["read"]}, 403),
        ({"verbs": ["write"], "environment": "staging"}, 403),
        ({"verbs": ["write"], "service": "mail"}, 403),
    ):
        headers = plane.bearing(plane.token(scope))
        for way in ("advance", "hold", "roll-back"):
            path = f"/v1/rollouts/{begun}/{way}"
            assert plane.refused("POST", path, status, json={}, headers=headers)
    assert status_of(plane, begun)() == "running"
    owner = plane.bearing(plane.token({"verbs": ["write"], "service": "shop"}))
    plane.ok("POST", f"/v1/rollouts/{begun}/hold", json={}, headers=owner)


def test_what_is_no_rollout_is_not_found(plane: Plane) -> None:
    for name in ("production.99", "nonsense", "production.x"):
        assert plane.refused("GET", f"/v1/rollouts/{name}", 404)
        assert plane.refused("POST", f"/v1/rollouts/{name}/hold", 404, json={})


def test_an_ended_rollout_tells_how_it_ended_after_a_restart_too(plane: Plane, begun: str) -> None:
    tell(plane, report(outcomes=rows(begun, 20, 18)))
    until(lambda: status_of(plane, begun)() == "rolled-back")
    plane.control.automation.advancing._advance._watched.clear()  # as after a start
    found = plane.ok("GET", f"/v1/rollouts/{begun}")
    assert found["rollout"]["errors_e"] > found["rollout"]["halt_e"]
