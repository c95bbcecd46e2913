"""An edge tells of the contexts that it evaluated in: as little as a client does."""

from __future__ import annotations

import json
from typing import Any

from tests.sdk.publisher import Publisher

from holdfast.apps import ofrep
from holdfast.apps.edge.table import Active, Table
from holdfast.core.evaluate import Evaluator
from holdfast.core.sampling import hashed


def active(**changes: Any) -> Active:
    publisher = Publisher()
    publisher.put(tiles=1)
    snapshot = publisher.snapshot(**changes)
    evaluator = Evaluator(snapshot.flags, now_s=lambda: 0.0)
    return Active(snapshot, "d" * 64, evaluator, 0.0)


def ask(one: Active, context: dict[str, Any]) -> None:
    body = json.dumps({"context": context}).encode()
    answer = ofrep.bulk(one, body, None, ofrep.tail(one, {"url": "/"}))
    assert answer.status == 200


def test_what_is_declared_is_told_and_keys_are_hashed() -> None:
    table = Table()
    one = active(attributes=("tenant",))
    table.put(one)
    ask(one, {"tenant": "contoso", "email": "ann@example.com", "targetingKey": "ann"})
    (sample,) = one.sampler.take()
    assert sample.context == {"tenant": "contoso", "targetingKey": hashed("demo-shop", "ann")}
    assert one.sampler.take() == ()


def test_what_was_seen_survives_an_activation() -> None:
    table = Table()
    one, two = active(attributes=("tenant",)), active(attributes=("tenant",))
    table.put(one)
    ask(one, {"tenant": "contoso"})
    table.put(two)
    ask(two, {"tenant": "contoso"})
    (sample,) = two.sampler.take()
    assert sample.count == 2


def test_what_was_rehearsed_was_seen_by_nobody() -> None:
    one = active(attributes=("tenant",))
    ask(one, {"tenant": "contoso"})
    Table().put(one)
    assert one.sampler.take() == ()
