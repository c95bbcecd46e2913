"""Environments over HTTP: services that go over to another bucketing before the rest."""

from __future__ import annotations

from a_control_plane import MAIL, SHOP, Plane

PATH = "/v1/environments/production"


def ahead(plane: Plane) -> object:
    found = plane.ok("GET", "/v1/environments")["environments"]
    return next(one for one in found if one["environment"] == "production")["ahead"]


def test_services_go_ahead_and_the_environment_follows(plane: Plane) -> None:
    plane.commit(SHOP, MAIL)
    plane.ok("PUT", PATH, json={"ahead": {"bucketing": "v2", "services": ["mail"]}})
    assert ahead(plane) == {"bucketing": "v2", "services": ["mail"]}

    plane.ok("PUT", PATH, json={"description": "what everybody has"})
    assert ahead(plane) == {"bucketing": "v2", "services": ["mail"]}, "it stays as it was"

    plane.ok("PUT", PATH, json={"bucketing": "v2"})
    assert ahead(plane) is None


def test_a_service_that_is_not_there_goes_nowhere(plane: Plane) -> None:
    plane.commit(SHOP)
    body = {"ahead": {"bucketing": "v2", "services": ["shpo"]}}
    error = plane.refused("PUT", PATH, 422, json=body)
    assert [one["code"] for one in error["problems"]] == ["unknown-service"]


def test_another_pacing_is_signed_with_every_snapshot_there(plane: Plane) -> None:
    plane.commit(SHOP)
    before = plane.ok("GET", "/production/shop/snapshot")["snapshot"]["holdfast"]
    assert before["pacing"]["poll_interval_s"] == 30
    pace = {"poll_interval_s": 15, "poll_interval_max_s": 600, "streams": False}
    plane.ok("PUT", PATH, json={"pacing": pace})
    after = plane.ok("GET", "/production/shop/snapshot")["snapshot"]["holdfast"]
    assert after["revision"] > before["revision"]
    assert after["pacing"] == before["pacing"] | pace

    plane.ok("PUT", PATH, json={"description": "what everybody has"})
    found = plane.ok("GET", "/v1/environments")["environments"]
    kept = next(one for one in found if one["environment"] == "production")["pacing"]
    assert kept["poll_interval_s"] == 15, "it stays as it was"


def test_a_pacing_that_cannot_be_meant_is_refused(plane: Plane) -> None:
    pace = {"poll_interval_s": 0, "poll_interval_max_s": -1, "retry_after_max_s": 10**6}
    error = plane.refused("PUT", PATH, 422, json={"pacing": pace})
    assert {one["path"].rsplit("/", 1)[1] for one in error["problems"]} == set(pace)
