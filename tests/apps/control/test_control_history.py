"""Commit, read back, compare, undo: the journal end to end over HTTP."""

from __future__ import annotations

import pytest
import yaml
from a_control_plane import MAIL, SHOP, Plane, documents


def test_one_commit_over_several_services_is_one_revision(plane: Plane) -> None:
    base = plane.head()["revision"]
    committed = plane.commit(SHOP, MAIL)
    assert committed["revision"] == base + 1
    assert {(each["kind"], each["service"]) for each in committed["differences"]} >= {
        ("service", "shop"),
        ("service", "mail"),
        ("setting", "shop"),
        ("setting", "mail"),
    }
    subjects = {(each["environment"], each["service"]) for each in committed["subjects"]}
    assert subjects == {("production", "shop"), ("staging", "shop"), ("production", "mail")}
    assert plane.head() == {"revision": base + 1, "hash": committed["hash"]}


def test_a_commit_over_several_services_is_all_or_nothing(plane: Plane) -> None:
    broken = MAIL.replace("default: small", "default: gone")
    body = {"documents": documents(SHOP, broken)}
    plane.refused("POST", "/v1/commits", 422, json=body)
    assert plane.ok("GET", "/v1/services")["services"] == []


def test_a_commit_that_changes_nothing_leaves_the_revision(plane: Plane) -> None:
    first = plane.commit(SHOP)
    again = plane.commit(SHOP)
    assert again["revision"] == first["revision"]
    assert again["differences"] == []


def test_a_check_says_what_would_be_and_writes_nothing(plane: Plane) -> None:
    plane.commit(SHOP)
    before = plane.head()
    body = {"documents": documents(SHOP.replace("few: 9", "few: 8"))}
    checked = plane.ok("POST", "/v1/changes/check", json=body)
    assert checked["ok"]
    assert [each["name"] for each in checked["differences"]] == ["tiles"]
    assert checked["base_revision"] == before["revision"]
    assert plane.head() == before
    body = {"documents": documents(SHOP.replace("default: few", "default: none-such"))}
    checked = plane.ok("POST", "/v1/changes/check", json=body)
    assert not checked["ok"]
    assert checked["problems"][0]["file"] == "0.yaml"


def test_what_was_deleted_comes_back_through_restore(plane: Plane) -> None:
    plane.commit(SHOP)
    was = plane.ok("GET", "/v1/services/shop/settings/tiles")["setting"]
    plane.commit(SHOP[: SHOP.index("  tiles:")])
    plane.refused("GET", "/v1/services/shop/settings/tiles", 404)
    plane.refused("GET", "/v1/services/shop/segments/pilots", 404)
    plane.ok("POST", "/v1/restore", json={"service": "shop", "key": "tiles"})
    plane.ok("POST", "/v1/restore", json={"service": "shop", "segment": "pilots"})
    assert plane.ok("GET", "/v1/services/shop/settings/tiles")["setting"] == was
    assert plane.ok("GET", "/v1/services/shop/segments/pilots")["definition"]["audience"]


def test_the_past_of_a_service_that_never_was_is_not_found(plane: Plane) -> None:
    plane.commit(SHOP)
    for path in ("/v1/history?service=", "/v1/diff?from=0&service="):
        assert "'nope'" in plane.refused("GET", path + "nope", 404)["message"]
        plane.ok("GET", path + "shop")
    plane.let_delete()
    edits = [{"type": "delete-service", "service": "shop"}]
    plane.ok("POST", "/v1/commits", json={"edits": edits})
    for path in ("/v1/history?service=", "/v1/diff?from=0&service="):
        plane.ok("GET", path + "shop")


def test_restore_of_what_stands_or_never_stood_is_told(plane: Plane) -> None:
    plane.commit(SHOP)
    for name in ({"key": "never"}, {"segment": "never"}):
        plane.refused("POST", "/v1/restore", 404, json={"service": "shop", **name})
    plane.refused("POST", "/v1/restore", 404, json={"service": "never"})
    now = plane.head()["revision"]
    for name in ({}, {"key": "tiles"}, {"segment": "pilots"}):
        for when in ({}, {"revision": now}):
            stands = {"service": "shop", **name, **when}
            [problem] = plane.refused("POST", "/v1/restore", 422, json=stands)["problems"]
            assert problem["code"] == "exists"
            assert "still stands" in problem["message"]
    both = {"service": "shop", "key": "tiles", "segment": "pilots"}
    plane.refused("POST", "/v1/restore", 400, json=both)


def test_revert_undoes_one_revision_and_keeps_what_came_after(plane: Plane) -> None:
    plane.commit(SHOP)
    wrong = plane.commit(SHOP.replace("few: 9", "few: 1"))["revision"]
    later = SHOP.replace("few: 9", "few: 1").replace("of the season", "of the year")
    plane.commit(later)
    plane.ok("POST", "/v1/revert", json={"revision": wrong, "reason": "one tile is too few"})
    tiles = plane.ok("GET", "/v1/services/shop/settings/tiles")["setting"]
    banner = plane.ok("GET", "/v1/services/shop/settings/banner")["setting"]
    assert tiles["variants"]["few"] == 9
    assert banner["description"] == "the banner of the year"


def test_revert_does_not_run_over_newer_work(plane: Plane) -> None:
    plane.commit(SHOP)
    wrong = plane.commit(SHOP.replace("few: 9", "few: 1"))["revision"]
    plane.commit(SHOP.replace("few: 9", "few: 5"))
    error = plane.refused("POST", "/v1/revert", 422, json={"revision": wrong})
    assert error["problems"][0]["code"] == "changed-since"


def test_history_is_newest_first_paged_and_by_setting(plane: Plane) -> None:
    plane.commit(SHOP)
    plane.commit(MAIL)
    tiles = plane.commit(SHOP.replace("few: 9", "few: 8"))["revision"]
    first = plane.ok("GET", "/v1/history?limit=2")
    revisions = [each["revision"] for each in first["entries"]]
    assert revisions == [tiles, tiles - 1]
    rest = plane.ok("GET", f"/v1/history?before={first['before']}")
    assert [each["revision"] for each in rest["entries"]] == list(range(tiles - 2, 0, -1))
    assert rest["before"] is None
    of_shop = plane.ok("GET", "/v1/history?service=shop")["entries"]
    assert [each["revision"] for each in of_shop] == [tiles, tiles - 2]
    of_banner = plane.ok("GET", "/v1/history?service=shop&key=banner")["entries"]
    assert [each["revision"] for each in of_banner] == [tiles - 2]


def test_an_entry_tells_who_why_and_what(plane: Plane) -> None:
    revision = plane.commit(SHOP)["revision"]
    entry = plane.ok("GET", f"/v1/history/{revision}")
    assert entry["actor"] == f"test admin ({plane.admin.split('_')[1]})"
    assert entry["reason"] == "a test"
    assert {each["type"] for each in entry["edits"]} == {
        "put-service",
        "put-setting",
        "put-segment",
    }
    assert {each["name"] for each in entry["differences"]} >= {"banner", "tiles", "pilots"}


def test_the_difference_of_two_revisions_is_the_sum_of_what_happened(plane: Plane) -> None:
    start = plane.commit(SHOP)["revision"]
    plane.commit(SHOP.replace("few: 9", "few: 8"))
    plane.commit(MAIL)
    whole = plane.ok("GET", f"/v1/diff?from={start}")["differences"]
    assert {(each["service"], each["name"]) for each in whole} >= {
        ("shop", "tiles"),
        ("mail", "quota"),
    }
    only = plane.ok("GET", f"/v1/diff?from={start}&service=shop")["differences"]
    assert [each["name"] for each in only] == ["tiles"]
    back = plane.ok("GET", f"/v1/diff?from={start}&to={start}")["differences"]
    assert back == []


def test_a_proposed_change_waits_and_is_committed_as_it_was_looked_at(plane: Plane) -> None:
    plane.commit(SHOP)
    before = plane.head()
    body = {"documents": documents(SHOP.replace("few: 9", "few: 8")), "reason": "fewer"}
    proposed = plane.ok("POST", "/v1/changes", json=body)
    assert plane.head() == before
    (listed,) = plane.ok("GET", "/v1/changes")["changes"]
    assert listed == proposed
    detail = plane.ok("GET", f"/v1/changes/{proposed['id']}")
    assert [each["name"] for each in detail["check"]["differences"]] == ["tiles"]
    path = f"/v1/changes/{proposed['id']}/commit"
    plane.refused("POST", path, 422, json={"digest": "0" * 64})
    committed = plane.ok("POST", path, json={"digest": proposed["digest"]})
    assert committed["revision"] == before["revision"] + 1
    assert plane.ok("GET", "/v1/changes")["changes"] == []
    plane.refused("GET", f"/v1/changes/{proposed['id']}", 404)


def test_a_dropped_change_is_gone(plane: Plane) -> None:
    plane.commit(SHOP)
    body = {"documents": documents(SHOP.replace("few: 9", "few: 8"))}
    proposed = plane.ok("POST", "/v1/changes", json=body)["id"]
    plane.ok("DELETE", f"/v1/changes/{proposed}")
    plane.refused("POST", f"/v1/changes/{proposed}/commit", 404, json={})


def test_a_broken_change_can_not_be_proposed(plane: Plane) -> None:
    body = {"documents": documents(SHOP.replace("default: few", "default: none"))}
    plane.refused("POST", "/v1/changes", 422, json=body)


@pytest.mark.parametrize("asked", ["?format=yaml", "accept"])
def test_the_document_of_a_service_committed_again_changes_nothing(
    plane: Plane, asked: str
) -> None:
    plane.commit(SHOP)
    path = "/v1/services/shop" + (asked if asked.startswith("?") else "")
    headers = {"accept": "application/yaml"} if asked == "accept" else {}
    text = plane.client.get(path, headers=headers).text
    assert yaml.safe_load(text)["service"] == "shop"
    assert plane.commit(text, prune=True)["differences"] == []


def test_pages_of_a_list_are_all_of_it_once(plane: Plane) -> None:
    plane.commit(SHOP, MAIL)
    for path, name, key in (
        ("/v1/services", "services", "service"),
        ("/v1/settings", "settings", "key"),
        ("/v1/services/shop/settings", "settings", "key"),
    ):
        whole = [each[key] for each in plane.ok("GET", path)[name]]
        found, cursor = [], ""
        while cursor is not None:
            page = plane.ok(
                "GET", path, params={"limit": 1, **({"cursor": cursor} if cursor else {})}
            )
            found += [each[key] for each in page[name]]
            cursor = page["cursor"]
        assert found == whole


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=season", ["banner"]),
        ("q=TILES", ["tiles"]),
        ("type=object", ["quota"]),
        ("service=shop", ["banner", "tiles"]),
        ("environment=staging", ["banner"]),
        ("q=no such thing", []),
    ],
)
def test_search_finds_by_words_type_service_and_environment(
    plane: Plane, query: str, found: list[str]
) -> None:
    plane.commit(SHOP, MAIL)
    settings = plane.ok("GET", f"/v1/settings?{query}")["settings"]
    assert [each["key"] for each in settings] == found


def test_explain_names_the_rule_that_decided(plane: Plane) -> None:
    plane.commit(SHOP)
    where = {"environment": "production", "service": "shop", "key": "banner"}
    explained = plane.ok("POST", "/v1/explain", json={**where, "context": {"tenant": "contoso"}})
    assert "pilot tenants" in str(explained)
    plane.refused("POST", "/v1/explain", 404, json={**where, "service": "none"})


def test_what_was_exported_can_be_imported(plane: Plane) -> None:
    plane.commit(SHOP)
    where = "service=shop&environment=production"
    exported = plane.client.get(f"/v1/export/flagd?{where}")
    assert set(exported.json()["flags"]) == {"banner", "tiles"}
    body = {"service": "copy", "environment": "production", "text": exported.text}
    checked = plane.ok("POST", "/v1/import/flagd", json={**body, "check": True})
    assert checked["commit"] is None
    imported = plane.ok("POST", "/v1/import/flagd", json=body)
    assert imported["commit"]["subjects"][0]["service"] == "copy"
    where = {"environment": "production", "service": "copy", "key": "banner"}
    explained = plane.ok("POST", "/v1/explain", json={**where, "context": {"tenant": "contoso"}})
    assert explained["value"] is True


def test_a_long_member_list_is_uploaded_and_then_referred_to(plane: Plane) -> None:
    members = b"\n".join(b"tenant-%d" % number for number in range(20_000))
    blob = plane.ok("PUT", "/v1/blobs", content=members)
    assert plane.ok("PUT", "/v1/blobs", content=members + b"\ntenant-1\n") == blob
    plane.commit(SHOP)
    audience = {"by": "tenant", "members_digest": blob["digest"], "member_count": 20_000}
    to = {"audience": audience}
    edit = {"type": "put-segment", "service": "shop", "segment": "pilots", "to": to}
    plane.ok("POST", "/v1/commits", json={"edits": [edit], "reason": "many pilots"})
    lost = {**audience, "members_digest": "0" * 64}
    edit = {**edit, "to": {"audience": lost}}
    plane.refused("POST", "/v1/commits", 422, json={"edits": [edit]})


def test_health_readiness_and_metrics(plane: Plane) -> None:
    plane.commit(SHOP)
    plane.refused("GET", "/v1/services/none", 404)
    assert plane.ok("GET", "/healthz") == {"status": "ok"}
    assert plane.ok("GET", "/readyz")["status"] == "ready"
    metrics = plane.client.get("/metrics").text
    head = plane.head()["revision"]
    assert f"holdfast_head_revision {head}.0" in metrics
    assert "holdfast_subjects 2.0" in metrics or "holdfast_subjects" in metrics
    assert f"holdfast_commits_total {head}.0" in metrics
    assert 'holdfast_refusals_total{code="not-found"} 1.0' in metrics
    assert 'route="/v1/services/{service}"' in metrics
