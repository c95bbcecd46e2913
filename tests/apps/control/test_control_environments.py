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
