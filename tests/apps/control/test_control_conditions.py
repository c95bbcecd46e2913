"""Edits that carry conditions: what people read in `when` is what consumers evaluate."""

from __future__ import annotations

from typing import Any

import pytest
from a_control_plane import SHOP, Plane

from holdfast.apps.control.plane import SYSTEM
from holdfast.core.model import PutSetting, Rule, Setting, Targeting

CONTOSO = {"==": [{"var": "tenant"}, "contoso"]}
FABRIKAM = {"==": [{"var": "tenant"}, "fabrikam"]}


def put_banner(**rule: Any) -> dict[str, Any]:
    targeting = {"default": "hidden", "rules": [{"serve": "shown", **rule}]}
    to = {
        "type": "boolean",
        "variants": {"shown": True, "hidden": False},
        "environments": {"production": targeting},
    }
    return {"type": "put-setting", "service": "shop", "key": "banner", "to": to}


def put_segment(**audience: Any) -> dict[str, Any]:
    to = {"audience": audience}
    return {"type": "put-segment", "service": "shop", "segment": "pilots", "to": to}


def rule_of(plane: Plane) -> dict[str, Any]:
    setting = plane.ok("GET", "/v1/services/shop")["settings"]["banner"]
    rule: dict[str, Any] = setting["environments"]["production"]["rules"][0]
    return rule


def problem(plane: Plane, *edits: dict[str, Any]) -> dict[str, Any]:
    error = plane.refused("POST", "/v1/commits", 422, json={"edits": edits})
    (found,) = error["problems"]
    assert isinstance(found, dict)
    return found


def test_logic_that_is_not_what_the_condition_says_is_refused(plane: Plane) -> None:
    plane.commit(SHOP)
    found = problem(plane, put_banner(when='tenant == "contoso"', logic=FABRIKAM))
    assert found["code"] == "when-and-logic"
    assert found["path"] == "/edits/0/to/environments/production/rules/0/logic"
    assert "leave `logic` out" in found["hint"]


def test_past_that_check_people_read_one_thing_and_consumers_get_another(plane: Plane) -> None:
    """The damage: the same edit through the door behind, which the API's callers never reach."""
    plane.commit(SHOP)
    rule = Rule(when='tenant == "contoso"', logic=FABRIKAM, serve="shown")
    targeting = Targeting(default="hidden", rules=(rule,))
    variants = {"shown": True, "hidden": False}
    setting = Setting(type="boolean", variants=variants, environments={"production": targeting})
    plane.control.desk.commit_edits(SYSTEM, (PutSetting("shop", "banner", setting),), "a lie")
    assert rule_of(plane)["when"] == 'tenant == "contoso"'
    asked = {"environment": "production", "service": "shop", "key": "banner"}
    context = {"tenant": "contoso"}
    explained = plane.ok("POST", "/v1/explain", json={**asked, "context": context})
    assert explained["variant"] == "hidden"


def test_a_condition_without_logic_is_lowered(plane: Plane) -> None:
    plane.commit(SHOP)
    from_file = rule_of(plane)
    plane.ok("POST", "/v1/commits", json={"edits": [put_banner(when='tenant == "contoso"')]})
    assert rule_of(plane)["logic"] == from_file["logic"]


def test_what_was_read_can_be_written_back(plane: Plane) -> None:
    plane.commit(SHOP)
    rule = rule_of(plane)
    edit = put_banner(when=rule["when"], logic=rule["logic"])
    checked = plane.ok("POST", "/v1/changes/check", json={"edits": [edit]})
    assert checked["ok"]


def test_logic_by_hand_stays_as_it_is(plane: Plane) -> None:
    plane.commit(SHOP)
    plane.ok("POST", "/v1/commits", json={"edits": [put_banner(logic=CONTOSO)]})
    assert rule_of(plane)["logic"] == CONTOSO


@pytest.mark.parametrize("when", ["tenat == 'contoso'", "tenant ==", 'tenant in segment("none")'])
def test_a_condition_with_problems_is_refused_in_its_place(plane: Plane, when: str) -> None:
    plane.commit(SHOP)
    found = problem(plane, put_banner(when=when))
    assert found["path"] == "/edits/0/to/environments/production/rules/0/when"
    assert found["code"].startswith("cel-")


def test_a_condition_sees_what_the_same_change_declares(plane: Plane) -> None:
    plane.commit(SHOP)
    service = {"type": "put-service", "service": "shop", "to": {"attributes": {"plan": "string"}}}
    edit = put_banner(when='plan == "gold"')
    assert problem(plane, edit)["code"] == "cel-unknown-attribute"
    plane.ok("POST", "/v1/commits", json={"edits": [service, edit]})


def test_segments_are_held_to_the_same(plane: Plane) -> None:
    plane.commit(SHOP)
    found = problem(plane, put_segment(when='tenant == "contoso"', logic=FABRIKAM))
    assert found["path"] == "/edits/0/to/audience/logic"
    plane.ok("POST", "/v1/commits", json={"edits": [put_segment(when='tenant == "contoso"')]})


def test_nobody_creates_a_service_by_a_typing_error(plane: Plane) -> None:
    plane.commit(SHOP)
    setting = put_banner()
    setting["to"]["environments"] = {}
    found = problem(plane, {**setting, "service": "shp"})
    assert (found["code"], found["hint"]) == ("unknown-service", "did you mean `shop`?")
    service = {"type": "put-service", "service": "shp", "to": {}}
    plane.ok("POST", "/v1/commits", json={"edits": [{**setting, "service": "shp"}, service]})
