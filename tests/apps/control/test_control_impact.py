"""Previews over HTTP: who a change moves, over what consumers told; and what lint says."""

from __future__ import annotations

from typing import Any

from a_control_plane import MAIL, SHOP, Clock, Plane

from holdfast.core.model import Subject

WIDE = SHOP.replace('when: tenant == "contoso"', 'when: \'tenant in ["contoso", "fabrikam"]\'')


def body(text: str = WIDE, **more: Any) -> dict[str, Any]:
    return {"documents": [{"file": "shop.yaml", "text": text}], **more}


def told(sequence: int, *contexts: dict[str, Any], service: str = "shop") -> dict[str, Any]:
    """A report of a client that saw each of these contexts ten times."""
    return {
        "reports": [
            {
                "consumer": "c0ffee00", "service": service, "environment": "production",
                "kind": "sdk",
                "build": "holdfast/1", "sequence": sequence, "at_ms": 1,
                "contexts": [{"context": each, "count": 10} for each in contexts],
            }
        ]
    }  # fmt: skip


def test_who_moves_of_those_whom_clients_saw(plane: Plane) -> None:
    plane.ok("POST", "/v1/commits", json=body(SHOP))
    nothing = plane.ok("POST", "/v1/changes/impact", json=body())
    assert nothing["unseen"] == ["production/shop"]
    people = [
        {"tenant": "contoso", "targetingKey": "ann"},
        {"tenant": "fabrikam", "targetingKey": "bob", "email": "bob@fabrikam.example"},
        {"tenant": "tailspin", "targetingKey": "cyd"},
        {"tenant": "tailspin", "targetingKey": "dan"},
    ]
    plane.ok("POST", "/v1/reports", json=told(1, *people))
    before = plane.head()
    found = plane.ok("POST", "/v1/changes/impact", json=body())
    (subject,) = found["subjects"]
    assert (subject["service"], subject["environment"]) == ("shop", "production")
    assert subject["moved"] == {"requests": 10, "percent": 25.0, "tenants": 1, "users": 1}
    (move,) = subject["settings"][0]["moves"]
    assert (move["before"], move["after"]) == (False, True)
    (example,) = move["examples"]
    assert example["tenant"] == "fabrikam"
    assert "bob" not in str(found), "neither the key nor what was not declared is told"
    assert plane.head() == before


def test_given_contexts_instead(plane: Plane) -> None:
    plane.ok("POST", "/v1/commits", json=body(SHOP))
    contexts = [{"context": {"tenant": "fabrikam"}, "count": 3}, {"context": {"tenant": "x"}}]
    found = plane.ok("POST", "/v1/changes/impact", json=body(contexts=contexts))
    assert found["moved"]["percent"] == 75.0
    elsewhere = body(contexts=contexts, environment="staging")
    assert plane.ok("POST", "/v1/changes/impact", json=elsewhere)["subjects"] == []


def test_a_change_that_can_not_stand_has_no_impact(plane: Plane) -> None:
    bad = SHOP.replace("default: hidden", "default: nothing")
    error = plane.refused("POST", "/v1/changes/impact", 422, json=body(bad))
    assert error["problems"][0]["code"] == "unknown-variant"
    plane.refused("POST", "/v1/changes/impact", 409, json=body(SHOP, base_revision=99_999))


def test_only_who_could_commit_it_is_told(plane: Plane) -> None:
    plane.ok("POST", "/v1/commits", json=body(SHOP))
    scopes = [{"verbs": ["read"]}, {"verbs": ["write"], "environment": "staging"}]
    made = plane.ok("POST", "/v1/tokens", json={"name": "other", "scopes": scopes})
    headers = {"Authorization": f"Bearer {made['token']}"}
    plane.refused("POST", "/v1/changes/impact", 403, json=body(), headers=headers)


def test_a_cap_on_traffic_is_held_by_what_was_seen(plane: Plane) -> None:
    plane.ok("POST", "/v1/commits", json=body(SHOP))
    share = plane.control.foresight.traffic_share
    old = plane.control.state()
    people = [{"tenant": name, "targetingKey": name} for name in ("contoso", "fabrikam")]
    assert share(old, old, "production") == 0.0
    plane.ok("POST", "/v1/reports", json=told(1, *people))
    plane.ok("POST", "/v1/commits", json=body())
    new = plane.control.state()
    assert share(old, new, "production") == 50.0
    assert share(old, new, "staging") == 0.0


def test_lint_of_what_stands(plane: Plane, clock: Clock) -> None:
    plane.ok("POST", "/v1/commits", json={"documents": [{"file": "mail.yaml", "text": MAIL}]})
    old = SHOP.replace("type: integer", 'type: integer\n    expires: "2027-01-01"')
    plane.ok("POST", "/v1/commits", json=body(old))

    def codes(**query: str) -> list[str]:
        where = {"environment": "production", **query}
        found = plane.ok("GET", "/v1/lint", params=where)["findings"]
        return [each["code"] for each in found]

    assert codes() == ["no-owner", "expired"]
    assert codes(service="shop") == ["expired"]
    clock.now_s = 1_700_000_000.0
    assert codes(service="shop") == []
    unsent = [{"targetingKey": f"u{number}"} for number in range(32)]
    for sequence in range(1, 5):
        plane.ok("POST", "/v1/reports", json=told(sequence, *unsent))
    assert codes(service="shop") == ["unseen-attribute"]


def test_a_check_says_what_lint_says_of_what_it_puts(plane: Plane) -> None:
    doubled = SHOP.replace(
        "          - {name: pilot", "          - {serve: shown}\n          - {name: pilot"
    )
    checked = plane.ok("POST", "/v1/changes/check", json=body(doubled))
    assert checked["ok"]
    (problem,) = checked["problems"]
    assert (problem["code"], problem["severity"]) == ("dead-rule", "warning")
    assert problem["path"] == "/services/shop/settings/banner/environments/production/rules/1"


def test_traffic_betters_the_contexts_that_probes_are_made_of(plane: Plane) -> None:
    plane.ok("POST", "/v1/commits", json=body(SHOP))
    foresight, state = plane.control.foresight, plane.control.state
    assert foresight.refreshed(state()) is None
    people = [{"tenant": name} for name in ("contoso", "a", "b", "c")]
    plane.ok("POST", "/v1/reports", json=told(1, *people))
    change = foresight.refreshed(state())
    assert change is not None
    (edit,) = change.edits
    assert len(edit.contexts) == 2, "one for each answer, and no more"
    plane.control.keep_contexts()
    assert state().contexts == {"production/shop": edit.contexts}
    lineage = plane.control.view.standing.lineages[Subject("production", "shop")]
    assert lineage.revision == state().head.revision
    assert foresight.refreshed(state()) is None
    plane.control.keep_contexts()
    assert lineage.revision == state().head.revision
