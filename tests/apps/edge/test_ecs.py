"""The ECS-shaped read over a real edge."""

from __future__ import annotations

import contextlib
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import Answered, call
from upstream import READ, is_, setting, token

from holdfast.apps import ecs
from holdfast.apps.edge.process import Edge
from holdfast.core.errors import CallerError
from holdfast.core.model import PutService, Scope, Service

QUERY = "environment=production&audienceGroup=ring1&id=u1&tenantId=contoso"


def get(edge: Edge, agents: str = "shop", query: str = QUERY, **headers: str) -> Answered:
    target = f"/config/v1/Teams/1.5.0?{query}&agents={agents}"
    return call(edge.listener.port, "GET", target, headers={**READ, **headers})


def test_an_agents_values_come_with_their_ids(shop):
    answered = get(shop)
    body = answered.json()

    assert set(body) == {"shop", "Headers", "ConfigIDs"}
    assert body["shop"] == {
        "banner": True,
        "title": "Shop",
        "tiles": 49,
        "rate": 1.0,
        "theme": {"bg": "#000", "list": [1, 2]},
    }
    ids = body["ConfigIDs"]["shop"].split(",")
    revision = next(a for a in shop.table if a.subject.service == "shop").revision
    assert f"P-R-banner-{revision}-on" in ids
    assert f"P-D-title-{revision}" in ids
    assert len(ids) == 5
    assert body["Headers"] == {
        "ETag": answered.headers["etag"],
        "Expires": answered.headers["expires"],
        "CountryCode": "",
        "StatusCode": "200",
    }
    assert parsedate_to_datetime(answered.headers["expires"])


def test_what_the_caller_has_is_not_sent_again(shop):
    first = get(shop)

    again = get(shop, **{"if-none-match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert "expires" in again.headers
    other = get(shop, query=QUERY.replace("contoso", "fabrikam"))
    assert other.headers["etag"] != first.headers["etag"]
    assert other.json()["shop"]["banner"] is False


def test_several_services_and_one_that_is_not_there(world, edges, tmp_path):
    everything, kept = token("all", b"a" * 32, Scope(verbs=("read",)))
    world.commit(
        kept,
        PutService("mail", Service()),
        *world.settings(
            "mail",
            {"quota": setting("integer", {"a": 1, "b,c": 2}, "a", is_("ring", "ring1", "b,c"))},
        ),
    )
    with world.serving() as upstream, edges(tmp_path, upstream.port) as edge:
        allowed = {"authorization": f"Bearer {everything}"}
        answered = get(edge, "shop,mail,nowhere", **allowed)
        assert answered.status == 200
        body = answered.json()
        assert body["mail"] == {"quota": 2}
        assert body["ConfigIDs"]["mail"].endswith("-b%2Cc")
        assert body["nowhere"] == {}
        assert answered.headers["holdfast-unknown-agents"] == "nowhere"
        assert get(edge, "nowhere", **allowed).status == 404
        assert get(edge, "shop,mail").status == 403


@pytest.mark.parametrize(
    ("agents", "query"),
    [
        ("", QUERY),
        (",".join(f"a{n}" for n in range(65)), QUERY),
        ("shop", "id=u1"),
        ("shop", QUERY + "&x"),
        ("shop", QUERY + "".join(f"&p{n}=1" for n in range(65))),
    ],
)
def test_what_is_missing_or_too_much_is_a_400(shop, agents, query):
    answered = get(shop, agents, query)

    assert answered.status == 400
    assert answered.json()["error"]["message"]


def test_strangers_and_writers_are_turned_away(shop):
    target = f"/config/v1/Teams/1.5.0?{QUERY}&agents=shop"
    assert call(shop.listener.port, "GET", target).status == 401
    assert call(shop.listener.port, "POST", target, "{}", READ).status == 405


def test_parameters_become_attributes():
    query = b"environment=e&agents=a&audienceGroup=general&id=u&tenantId=t&country=DE&build=7"
    question = ecs.read_question("Teams", "1.2.3", query)

    assert question.context == {
        "ring": "general",
        "user": "u",
        "targetingKey": "u",
        "tenant": "t",
        "country": "DE",
        "build": "7",
        "client": "Teams",
        "version": "1.2.3",
    }
    assert question.country == "DE"


@given(st.binary(max_size=200))
def test_no_query_breaks_the_reader(query):
    with contextlib.suppress(CallerError):
        assert ecs.read_question("c", "v", query).agents
