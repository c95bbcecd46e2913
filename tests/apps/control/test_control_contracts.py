"""Contracts over HTTP: published, held against changes, asked about."""

from __future__ import annotations

from typing import Any

from a_control_plane import MAIL, SHOP, Plane, documents

CONTRACT: dict[str, Any] = {
    "needs": {
        "tiles": {"type": "integer", "schema": {"maximum": 49}},
        "banner": {"type": "boolean"},
    },
    "examples": [{"context": {"tenant": "contoso"}, "expected": {"banner": True}}],
    "environments": ["production"],
    "version": "7",
    "owners": ["web@example.com"],
}
WEB = "/v1/services/shop/contracts/web"


def publish(plane: Plane, path: str = WEB, **parts: Any) -> Any:
    return plane.ok("PUT", path, json={"contract": {**CONTRACT, **parts}})


def ask(plane: Plane, **body: Any) -> Any:
    return plane.ok("POST", "/v1/can-deploy", json=body)


def reading(**parts: Any) -> dict[str, Any]:
    return {"service": "shop", "consumer": "web", "contract": {**CONTRACT, **parts}}


def test_a_contract_is_published_shown_listed_and_deleted(plane: Plane) -> None:
    plane.commit(SHOP)
    committed = publish(plane)
    assert [one["kind"] for one in committed["differences"]] == ["contract"]
    assert [one["environment"] for one in committed["subjects"]] == ["production"]
    shown = plane.ok("GET", WEB)
    assert shown["contract"] == CONTRACT
    assert shown["revision"] == committed["revision"]
    (line,) = plane.ok("GET", "/v1/services/shop/contracts")["contracts"]
    assert (line["consumer"], line["version"], line["need_count"]) == ("web", "7", 2)
    assert line["digest"] == shown["digest"]
    assert publish(plane)["differences"] == []
    plane.ok("DELETE", WEB)
    plane.refused("GET", WEB, 404)
    plane.refused("DELETE", WEB, 404)


def test_every_way_to_change_settings_is_held_against_it(plane: Plane) -> None:
    plane.commit(SHOP)
    publish(plane)
    without = SHOP.replace("  tiles:", "  slates:")
    body = {"documents": documents(without), "reason": "another name"}
    for route in ("/v1/commits", "/v1/changes"):
        error = plane.refused("POST", route, 422, json=body)
        (problem,) = error["problems"]
        assert problem["code"] == "contract-missing"
        assert "`web`" in problem["message"]
    assert plane.ok("POST", "/v1/changes/check", json=body)["ok"] is False
    edit = {"type": "delete-setting", "service": "shop", "key": "tiles"}
    error = plane.refused("POST", "/v1/commits", 422, json={"edits": [edit]})
    assert error["problems"][0]["code"] == "contract-missing"
    plane.ok("DELETE", WEB)
    plane.ok("POST", "/v1/commits", json=body)


def test_reverting_is_held_against_it_too(plane: Plane) -> None:
    plane.commit(MAIL)
    revision = plane.commit(SHOP)["revision"]
    publish(plane)
    error = plane.refused("POST", "/v1/revert", 422, json={"revision": revision})
    assert "contract-missing" in {problem["code"] for problem in error["problems"]}


def test_a_contract_that_is_not_kept_is_refused(plane: Plane) -> None:
    plane.commit(SHOP)
    body = {"contract": {**CONTRACT, "needs": {"tile": {"type": "integer"}}, "examples": []}}
    error = plane.refused("PUT", WEB, 422, json=body)
    (problem,) = error["problems"]
    assert problem["code"] == "contract-missing"
    assert problem["hint"] == "did you mean `tiles`?"
    plane.refused("PUT", "/v1/services/nowhere/contracts/web", 422, json={"contract": CONTRACT})


def test_can_deploy_answers_for_a_consumer(plane: Plane) -> None:
    plane.commit(SHOP)
    answer = ask(plane, reader=reading(), environments=["production"])
    assert answer == {
        "ok": True,
        "problems": [],
        "revision": plane.head()["revision"],
        "contracts": 1,
        "environments": ["production"],
    }
    narrow = reading(needs={"tiles": {"type": "integer", "schema": {"maximum": 8}}}, examples=[])
    answer = ask(plane, reader=narrow)
    assert answer["ok"] is False
    (problem,) = answer["problems"]
    assert (problem["code"], problem["path"]) == ("contract-value", "/needs/tiles")
    publish(plane)
    assert ask(plane, reader={"service": "shop", "consumer": "web"})["ok"] is True


def test_can_deploy_answers_for_a_change_and_for_all_that_stands(plane: Plane) -> None:
    plane.commit(SHOP)
    publish(plane)
    assert ask(plane) | {"revision": 0} == {
        "ok": True,
        "problems": [],
        "revision": 0,
        "contracts": 1,
        "environments": ["production"],
    }
    fine = {"documents": documents(SHOP.replace("few: 9", "few: 8"))}
    assert ask(plane, change=fine)["ok"] is True
    broken = {"documents": documents(SHOP.replace("default: few", "default: many")
                                     .replace("many: 49", "many: 50")
                                     .replace("maximum: 49", "maximum: 50"))}  # fmt: skip
    answer = ask(plane, change=broken)
    assert answer["ok"] is False
    assert "contract-value" in {problem["code"] for problem in answer["problems"]}


def test_what_is_asked_wrongly_is_refused(plane: Plane) -> None:
    plane.commit(SHOP)
    route = "/v1/can-deploy"
    plane.refused("POST", route, 400, json={"reader": reading(), "change": {}})
    plane.refused("POST", route, 404, json={"reader": {"service": "shop", "consumer": "web"}})
    plane.refused("POST", route, 404, json={"reader": reading(), "environments": ["moon"]})
    nameless = reading(needs={})
    plane.refused("POST", route, 422, json={"reader": nameless})


def test_a_contract_takes_write_where_it_holds(plane: Plane) -> None:
    plane.commit(SHOP)
    scope = {"verbs": ["write"], "environment": "production", "service": "shop"}
    issued = plane.ok("POST", "/v1/tokens", json={"name": "ci", "scopes": [scope]})
    headers = plane.bearing(issued["token"])
    everywhere = {"contract": {**CONTRACT, "environments": []}}
    plane.refused("PUT", WEB, 403, json=everywhere, headers=headers)
    plane.ok("PUT", WEB, json={"contract": CONTRACT}, headers=headers)
    reader = {"verbs": ["read"], "environment": "production", "service": "shop"}
    issued = plane.ok("POST", "/v1/tokens", json={"name": "reader", "scopes": [reader]})
    headers = plane.bearing(issued["token"])
    assert plane.ok("GET", WEB, headers=headers)["consumer"] == "web"
    plane.refused("DELETE", WEB, 403, headers=headers)
    plane.ok("POST", "/v1/can-deploy", json={"reader": reading()}, headers=headers)
    plane.refused(
        "POST", "/v1/can-deploy", 403, json={"reader": {"service": "mail", "consumer": "x"}},
        headers=headers,
    )  # fmt: skip


def test_a_schema_changes_only_as_its_readers_can_follow(plane: Plane) -> None:
    plane.commit(SHOP)
    wider = {"documents": documents(SHOP.replace("maximum: 49", "maximum: 60"))}
    error = plane.refused("POST", "/v1/commits", 422, json=wider)
    (problem,) = error["problems"]
    assert problem["code"] == "incompatible"
    assert problem["path"] == "/services/shop/settings/tiles/schema"
    typed = {"documents": documents(SHOP.replace("schema: {minimum: 1, maximum: 49}", "")
                                    .replace("type: integer", "type: string")
                                    .replace("few: 9, many: 49", "few: a, many: b"))}  # fmt: skip
    error = plane.refused("POST", "/v1/commits", 422, json=typed)
    assert [one["path"] for one in error["problems"]] == ["/services/shop/settings/tiles/type"]


def test_merged_values_are_held_against_the_schema(plane: Plane) -> None:
    merged = """\
service: merged
settings:
  stack:
    type: object
    schema: {properties: {kbps: {maximum: 100}}}
    variants:
      base: {kbps: 50}
      more: {$extends: base, kbps: 500}
    environments: {production: {default: base}}
"""
    error = plane.refused("POST", "/v1/commits", 422, json={"documents": documents(merged)})
    assert [one["code"] for one in error["problems"]] == ["variant-schema"]


def test_what_a_consumer_runs_counts_as_long_as_it_reports(plane: Plane) -> None:
    def policy(mode: str) -> None:
        plane.ok(
            "PUT", "/v1/environments/production/policy", json={"policy": {"compatibility": mode}}
        )

    policy("NONE")
    revision = plane.commit(SHOP.replace("maximum: 49", "maximum: 100"))["revision"]
    plane.commit(SHOP)
    policy("BACKWARD_TRANSITIVE")
    report = {
        "consumer": "consumer-1", "service": "shop", "environment": "production", "kind": "sdk",
        "build": "holdfast/1", "sequence": 1, "at_ms": 0, "application": "web 7",
        "revision": revision,
    }  # fmt: skip
    plane.ok("POST", "/v1/reports", json={"reports": [report]})
    wider = {"documents": documents(SHOP.replace("maximum: 49", "maximum: 60"))}
    error = plane.refused("POST", "/v1/commits", 422, json=wider)
    assert "`web 7`" in error["problems"][0]["message"]
