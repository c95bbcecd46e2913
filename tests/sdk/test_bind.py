"""A typed configuration out of settings, once or live."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from tests.sdk.edge import Edge
from tests.sdk.publisher import Publisher, flag
from tests.sdk.waiting import until

from holdfast import Client
from holdfast.core.errors import Invalid


class Theme(msgspec.Struct):
    color: Literal["blue", "red"]
    dark: bool = False


class Calling(msgspec.Struct):
    max_tiles: int
    theme: Theme
    ratio: float = 0.25
    regions: tuple[str, ...] = ()
    nowhere: str = "kept"


@dataclasses.dataclass
class Plain:
    max_tiles: int
    theme: dict[str, Any]
    nowhere: str = "kept"
    made: list[str] = dataclasses.field(default_factory=list)


def client_of(tmp_path: Path, **flags: Any) -> Client:
    named = {key.replace("_", "-"): each for key, each in flags.items()}
    (tmp_path / "flags.json").write_text(json.dumps({"flags": named}))
    return Client.from_file(tmp_path / "flags.json")


TILES = {
    **flag(9, many=49),
    "targeting": {"if": [{"==": [{"var": "tenant"}, "contoso"]}, "many", None]},
}


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return client_of(
        tmp_path, max_tiles=TILES, theme=flag({"color": "blue"}), regions=flag(["eu", "us"])
    )


def test_a_struct_is_filled(client: Client) -> None:
    assert client.bind(Calling) == Calling(9, Theme("blue"), 0.25, ("eu", "us"), "kept")


def test_the_context_decides(client: Client) -> None:
    assert client.bind(Calling, {"tenant": "contoso"}).max_tiles == 49


def test_a_dataclass_is_filled(client: Client) -> None:
    assert client.bind(Plain) == Plain(9, {"color": "blue"}, "kept", [])


def test_an_exact_key_comes_first(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text(json.dumps({"flags": {"a_b": flag(1), "a-b": flag(2)}}))
    shape = msgspec.defstruct("Shape", [("a_b", int)])
    assert Client.from_file(tmp_path / "f.json").bind(shape).a_b == 1


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    client = client_of(tmp_path, theme=flag({"color": "green"}), ratio=flag("half"))
    with pytest.raises(Invalid) as caught:
        client.bind(Calling)
    assert {problem.path for problem in caught.value.problems} == {"/max_tiles", "/theme", "/ratio"}


def test_a_disabled_setting_leaves_the_default(tmp_path: Path) -> None:
    shape = msgspec.defstruct("Shape", [("x", int, 5)])
    assert client_of(tmp_path, x={**flag(1), "state": "DISABLED"}).bind(shape).x == 5


def test_what_is_no_shape_is_said(client: Client) -> None:
    with pytest.raises(TypeError, match="neither a dataclass nor"):
        client.bind(dict)
    with pytest.raises(TypeError, match="neither a dataclass nor"):
        client.bind(Plain(9, {}))  # type: ignore[arg-type]


@dataclasses.dataclass
class Even:
    max_tiles: Annotated[int, msgspec.Meta(ge=1, le=49)]

    def __post_init__(self) -> None:
        if self.max_tiles % 2:
            raise ValueError("an odd number of tiles")


@pytest.mark.parametrize(("tiles", "said"), [(50, "<= 49"), (9, "an odd number of tiles")])
def test_what_a_dataclass_asks_of_its_values_is_held(tmp_path: Path, tiles: int, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        client_of(tmp_path, max_tiles=flag(tiles)).bind(Even)
    assert client_of(tmp_path, max_tiles=flag(8)).bind(Even) == Even(8)


def test_a_type_that_nothing_converts_to_is_named_with_its_field(client: Client) -> None:
    shape = msgspec.defstruct("Shape", [("theme", Theme | Calling), ("nowhere", int)])
    with pytest.raises(Invalid) as caught:
        client.bind(shape)
    assert {problem.path for problem in caught.value.problems} == {"/theme", "/nowhere"}


def test_a_live_one_keeps_what_it_had_when_its_own_check_refuses(tmp_path: Path) -> None:
    with Edge(Publisher()) as edge:
        edge.publish(max_tiles=8)
        client = Client([edge.url], service="demo-shop", cache_dir=tmp_path, poll_interval_s=0.1)
        assert client.wait_until_ready(20)
        live = client.bind_live(Even)
        edge.publish(max_tiles=9)
        until(lambda: live() == Even(8) and live.problems)
        edge.publish(max_tiles=10)
        until(lambda: live() == Even(10))
        client.close()


def test_a_live_one_follows_and_keeps_the_last_that_fitted(tmp_path: Path) -> None:
    with Edge(Publisher()) as edge:
        edge.publish(max_tiles=9, theme={"color": "blue"})
        client = Client([edge.url], service="demo-shop", cache_dir=tmp_path, poll_interval_s=0.1)
        assert client.wait_until_ready(20)
        live = client.bind_live(Calling)
        assert live() is live(), "not filled again while nothing changed"
        edge.publish(max_tiles=10)
        until(lambda: live().max_tiles == 10)
        edge.publish(max_tiles="many")
        until(lambda: live() and live.problems)
        assert live().max_tiles == 10
        edge.publish(max_tiles=11)
        until(lambda: live().max_tiles == 11)
        assert live.problems == ()
        client.close()
