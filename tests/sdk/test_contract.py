"""A contract made of the type that a program fills from its settings."""

from __future__ import annotations

import dataclasses
import enum
from typing import Annotated, Any, Literal

import msgspec
import pytest

from holdfast.core.errors import Invalid
from holdfast.core.model import Example, Need
from holdfast.core.needs import check_contract
from holdfast.core.targeting.outcome import Outcome
from holdfast.sdk.bind import fill
from holdfast.sdk.contract import contract_of


class Codec(enum.Enum):
    H264 = "h264"
    VP9 = "vp9"


class Stack(msgspec.Struct):
    bitrate_kbps: Annotated[int, msgspec.Meta(ge=50)]
    layers: list[Literal["low", "mid"]] = []


class Calling(msgspec.Struct):
    max_video_tiles: Annotated[int, msgspec.Meta(ge=1, le=49)]
    codec: Codec
    stack: Stack
    banner: bool = False
    ratio: float = 0.5
    share: int | float = 1
    region: Literal["eu", "us"] | None = None
    labels: dict[str, str] = {}


def test_types_ranges_and_defaults_become_needs() -> None:
    contract = contract_of(Calling, version="7", environments=["production"], owners=["a@b"])
    needs = contract.needs
    assert needs["max-video-tiles"] == Need(
        "integer", {"type": "integer", "minimum": 1, "maximum": 49}
    )
    assert needs["banner"] == Need("boolean", None, required=False)
    assert needs["ratio"] == Need("number", None, required=False)
    assert needs["codec"].schema["$defs"]["Codec"]["enum"] == ["h264", "vp9"]
    assert (needs["codec"].type, needs["codec"].required) == ("string", True)
    assert (needs["stack"].type, needs["share"].type) == ("object", "number")
    assert (needs["region"].type, needs["labels"].type) == ("string", "object")
    assert (contract.version, contract.environments, contract.owners) == (
        "7",
        ("production",),
        ("a@b",),
    )
    assert check_contract("web", contract) == []


def test_what_the_contract_lets_through_can_be_bound() -> None:
    import jsonschema_rs

    values: dict[str, list[Any]] = {
        "max-video-tiles": [1, 49, 0, 50, "9"],
        "codec": ["h264", "av1"],
        "stack": [{"bitrate_kbps": 50}, {"bitrate_kbps": 49}, {"layers": []}, {}],
    }
    fine = {"max-video-tiles": 9, "codec": "vp9", "stack": {"bitrate_kbps": 60}}
    contract = contract_of(Calling)
    for key, candidates in values.items():
        validator = jsonschema_rs.validator_for(contract.needs[key].schema)
        for value in candidates:
            settings = {**fine, key: value}

            def read(name: str, settings: dict[str, Any] = settings) -> Outcome | None:
                return (
                    Outcome(name, "STATIC", value=settings[name], variant="v")
                    if name in settings
                    else None
                )

            if validator.is_valid(value):
                assert fill(Calling, read)
            else:
                with pytest.raises(Invalid):
                    fill(Calling, read)


def test_a_dataclass_keys_and_examples() -> None:
    @dataclasses.dataclass
    class Shop:
        dark_mode: bool
        tiles: int = 9

    example = Example({"tenant": "contoso"}, {"darkMode": True})
    contract = contract_of(Shop, keys={"dark_mode": "darkMode"}, examples=[example])
    assert contract.needs == {
        "darkMode": Need("boolean"),
        "tiles": Need("integer", None, required=False),
    }
    assert contract.examples == (example,)


def test_what_no_setting_holds_is_told_for_every_field() -> None:
    class Odd(msgspec.Struct):
        names: list[str]
        anything: Any
        mixed: int | str
        fine: bool

    with pytest.raises(Invalid) as told:
        contract_of(Odd)
    assert [problem.path for problem in told.value.problems] == ["/names", "/anything", "/mixed"]
    with pytest.raises(TypeError):
        contract_of(int)
