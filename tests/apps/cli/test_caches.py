"""`holdfast cache`: pinning by hand, with nobody alive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.sdk.publisher import SHOP, Publisher

from holdfast.adapters.disk_cache import DiskCache
from holdfast.adapters.ed25519 import verify
from holdfast.apps.cli import cli
from holdfast.sdk.follower import Follower, Following


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cache, publisher = DiskCache(tmp_path), Publisher()
    for tiles in (9, 49):
        bundle = publisher.publish(tiles=tiles)
        cache.save(SHOP, publisher.revision, bundle)
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["cache", *arguments])
    return result.exit_code, result.output


def revision(folder: Path) -> int:
    """What a consumer that starts now answers from."""
    following = Following(sources=list, cache=DiskCache(folder), verify=verify, subjects=(SHOP,))
    follower = Follower(following)
    follower.start()
    follower.close()
    generation = follower.generation(SHOP)
    assert generation is not None
    return generation.revision


def test_what_is_kept_is_listed(folder: Path) -> None:
    code, output = run("list", str(folder), "--output", "json")
    assert code == 0
    rows = [(row["subject"], row["revision"], row["trust"]) for row in json.loads(output)]
    assert rows == [(str(SHOP), 2, "probation"), (str(SHOP), 1, "probation")]


def test_a_pin_holds_until_it_is_taken_away(folder: Path) -> None:
    assert revision(folder) == 2
    assert run("pin", str(folder), str(SHOP), "1", "--reason", "incident 7")[0] == 0
    assert revision(folder) == 1
    assert "incident 7" in run("list", str(folder), "--output", "json")[1]
    assert run("unpin", str(folder), str(SHOP))[0] == 0
    assert revision(folder) == 2


def test_what_is_not_there_can_not_be_pinned(folder: Path) -> None:
    code, output = run("pin", str(folder), str(SHOP), "7")
    assert code == 1
    assert "there are: 2, 1" in output


def test_errors_say_what_to_do(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert run("unpin", str(folder), str(SHOP))[0] == 1
    assert run("pin", str(folder), "shop", "1")[0] == 2
    code, output = run("list", str(tmp_path_factory.mktemp("empty")))
    assert code == 1
    assert "no cache" in output
