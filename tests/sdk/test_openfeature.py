"""The provider, through OpenFeature's own API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.provider import ProviderStatus
from tests.sdk.edge import Edge
from tests.sdk.publisher import Publisher
from tests.sdk.test_client import FLAGS
from tests.sdk.waiting import until

from holdfast import Client
from holdfast.core.snapshot import Pacing
from holdfast.openfeature import HoldfastProvider


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    api.clear_providers()
    api.set_evaluation_context(EvaluationContext())


@pytest.fixture
def offline(tmp_path: Path) -> OpenFeatureClient:
    (tmp_path / "flags.json").write_text(json.dumps({"flags": FLAGS}))
    api.set_provider_and_wait(HoldfastProvider(Client.from_file(tmp_path / "flags.json")))
    return api.get_client()


def test_every_type(offline: OpenFeatureClient) -> None:
    assert offline.get_boolean_value("on", False) is True
    assert offline.get_string_value("name", "") == "nine"
    assert offline.get_integer_value("tiles", 0) == 9
    assert offline.get_float_value("ratio", 0.0) == 0.5
    assert offline.get_float_value("tiles", 0.0) == 9.0
    assert offline.get_object_value("theme", {}) == {"color": "blue"}
    assert offline.get_object_value("list", []) == [1, 2]


def test_details(offline: OpenFeatureClient) -> None:
    said = offline.get_boolean_details(
        "by-tenant", False, EvaluationContext("u", {"tenant": "contoso"})
    )
    assert (said.value, said.variant, said.reason) == (True, "yes", "TARGETING_MATCH")
    assert said.error_code is None


@pytest.mark.parametrize(
    ("key", "reason", "code"),
    [
        ("nope", "ERROR", ErrorCode.FLAG_NOT_FOUND),
        ("name", "ERROR", ErrorCode.TYPE_MISMATCH),
        ("broken", "ERROR", ErrorCode.PARSE_ERROR),
        ("gone", "DISABLED", None),
        ("open", "DEFAULT", None),
    ],
)
def test_without_an_answer_the_default_is_given(
    offline: OpenFeatureClient, key: str, reason: str, code: ErrorCode | None
) -> None:
    said = offline.get_boolean_details(key, True, EvaluationContext("u"))
    assert (said.value, said.reason, said.error_code) == (True, reason, code)


def test_contexts_are_merged(offline: OpenFeatureClient) -> None:
    api.set_evaluation_context(EvaluationContext(None, {"tenant": "contoso"}))
    assert offline.get_boolean_value("by-tenant", False) is True
    other = EvaluationContext("u", {"tenant": "fabrikam"})
    assert offline.get_boolean_value("by-tenant", True, other) is False


def test_the_targeting_key_reaches_splits(offline: OpenFeatureClient) -> None:
    assert offline.get_boolean_value("by-user", False, EvaluationContext("user-1")) is True


def test_async_reads(offline: OpenFeatureClient) -> None:
    assert asyncio.run(offline.get_integer_value_async("tiles", 0)) == 9


def test_its_name(offline: OpenFeatureClient) -> None:
    assert api.get_provider_metadata().name == "Holdfast"


def test_events_and_status(tmp_path: Path) -> None:
    told: list[tuple[str, EventDetails]] = []

    def note(name: str) -> Callable[[EventDetails], None]:
        return lambda details: told.append((name, details))

    for event in ProviderEvent:
        api.add_handler(event, note(event.value))
    with Edge(Publisher()) as edge:
        edge.publish(tiles=9)
        client = Client(
            [edge.url], service="demo-shop", cache_dir=tmp_path, poll_interval_s=0.05, streams=False
        )
        api.set_provider_and_wait(HoldfastProvider(client, ready_s=20))
        openfeature = api.get_client()
        assert openfeature.get_provider_status() == ProviderStatus.READY
        edge.publish(tiles=10)
        changed = until(lambda: [d for name, d in told if name == "PROVIDER_CONFIGURATION_CHANGED"])
        assert changed[0].flags_changed == ["tiles"]
        edge.publisher.pacing = Pacing(stale_after_s=0)
        edge.publish(tiles=11)
        until(lambda: openfeature.get_provider_status() == ProviderStatus.STALE)
        assert openfeature.get_integer_value("tiles", 0) == 11
        edge.publisher.pacing = Pacing()
        edge.publish(tiles=12)
        until(lambda: openfeature.get_provider_status() == ProviderStatus.READY)
        api.shutdown()
        assert client.status().state == "closed"


def test_no_settings_in_time_is_an_error_that_heals(tmp_path: Path) -> None:
    with Edge(Publisher()) as edge:
        client = Client([edge.url], service="demo-shop", cache_dir=tmp_path, poll_interval_s=0.05)
        provider = HoldfastProvider(client, ready_s=0.05)
        with pytest.raises(ProviderNotReadyError):
            api.set_provider_and_wait(provider)
        assert api.get_client().get_provider_status() == ProviderStatus.ERROR
        edge.publish(tiles=9)
        until(lambda: api.get_client().get_provider_status() == ProviderStatus.READY)
        assert api.get_client().get_integer_value("tiles", 0) == 9
