"""Counter-examples: found where there is a plain one, and always true."""

from __future__ import annotations

from random import Random
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from test_subset import pair_of

from holdfast.core.counter_example import counter_example
from holdfast.core.subset import subset

OBJECT = {
    "type": "object",
    "required": ["codec"],
    "properties": {"codec": {"enum": ["h264", "vp9"]}, "kbps": {"type": "integer", "minimum": 50}},
}


@pytest.mark.parametrize(
    ("narrow", "wide", "found"),
    [
        ({"type": "integer", "maximum": 50}, {"maximum": 49}, 50),
        ({"type": "integer"}, {"minimum": 1}, 0),
        ({"type": "number"}, {"type": "integer"}, 0.5),
        ({"enum": ["a", "b"]}, {"enum": ["a"]}, "b"),
        ({"type": "string"}, {"maxLength": 3}, "aaaa"),
        ({"type": "string"}, {"minLength": 1}, ""),
        ({"type": "array"}, {"minItems": 1}, []),
        (
            {"type": "array", "items": {"enum": ["low", "mid"]}},
            {"items": {"const": "low"}},
            ["mid"],
        ),
        (OBJECT, {**OBJECT, "required": ["codec", "kbps"]}, {"codec": "vp9"}),
        (OBJECT, {"properties": {"kbps": {"minimum": 51}}}, {"codec": "h264", "kbps": 50}),
        (OBJECT, {"properties": {"codec": {"const": "h264"}}}, {"codec": "vp9"}),
        (
            OBJECT,
            {"properties": {"codec": True}, "additionalProperties": False},
            {"codec": "vp9", "kbps": 51},
        ),
        (
            {"properties": {"deep": OBJECT}, "required": ["deep"], "type": "object"},
            {"properties": {"deep": {"properties": {"codec": {"const": "h264"}}}}},
            {"deep": {"codec": "vp9"}},
        ),
        ({"anyOf": [{"const": 1}, {"type": "string"}]}, {"type": "integer"}, ""),
    ],
)
def test_a_plain_one_is_found(narrow: Any, wide: Any, found: Any) -> None:
    raw = counter_example(narrow, wide)
    assert raw is not None
    assert msgspec.json.decode(raw) == found


def test_values_that_stand_are_tried() -> None:
    pattern = {"type": "string", "pattern": "^[a-z]+-[0-9]{3}$"}
    assert counter_example(pattern, {"pattern": "^a"}) is None
    found = counter_example(pattern, {"pattern": "^a"}, known=["b-123", "a-123"])
    assert found is not None
    assert bytes(found) == b'"b-123"'


@pytest.mark.parametrize("seed", range(2))
def test_what_is_shown_is_true(seed: int) -> None:
    chance, shown = Random(seed), 0
    for _ in range(12):
        narrow, wide = pair_of(chance)
        raw = counter_example(narrow, wide)
        if raw is None:
            continue
        shown += 1
        value = msgspec.json.decode(raw)
        assert jsonschema_rs.validator_for(narrow).is_valid(value)
        assert not jsonschema_rs.validator_for(wide).is_valid(value)
        assert not subset(narrow, wide).known
    assert shown > 1
