"""Where the commands find their control plane, and whom they believe about it."""

from __future__ import annotations

import os
from pathlib import Path

import click
import msgspec
import pytest

from holdfast.apps.cli.connection import Connection, DevFile, find_connection

DEV = DevFile("http://127.0.0.1:8010", "http://127.0.0.1:8016", "hf_dev_0")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    file = tmp_path / ".holdfast" / "dev.json"
    file.parent.mkdir()
    file.write_bytes(msgspec.json.encode(DEV))
    file.chmod(0o600)
    return tmp_path


def test_a_fresh_checkout_finds_what_dev_left(checkout: Path) -> None:
    below = checkout / "docs" / "tutorial"
    below.mkdir(parents=True)
    assert find_connection((), None, below) == Connection(DEV.server, DEV.token, DEV.edge)


def test_flags_win_over_the_file(checkout: Path) -> None:
    found = find_connection(("http://control:8010/",), "hf_a_1", checkout)
    assert found == Connection("http://control:8010", "hf_a_1")


def test_the_token_of_dev_goes_to_no_other_server(checkout: Path) -> None:
    assert find_connection(("http://elsewhere:8010",), None, checkout).token == ""
    assert find_connection((DEV.server + "/",), None, checkout).token == DEV.token


def test_several_nodes_are_tried_in_the_order_given(tmp_path: Path) -> None:
    given = ("http://a:8010, http://b:8010/", "http://c:8010", "http://a:8010")
    found = find_connection(given, "hf_a_1", tmp_path, at_least=12)
    assert found.servers == ("http://a:8010", "http://b:8010", "http://c:8010")
    assert found.at_least == 12


def test_the_file_may_name_several_nodes(checkout: Path) -> None:
    file = checkout / ".holdfast" / "dev.json"
    several = msgspec.structs.replace(DEV, server=f"{DEV.server},http://127.0.0.1:8011")
    file.write_bytes(msgspec.json.encode(several))
    assert find_connection((), None, checkout).others == ("http://127.0.0.1:8011",)
    assert find_connection(("http://127.0.0.1:8011",), None, checkout).token == DEV.token
    mixed = (DEV.server, "http://elsewhere:8010")
    assert find_connection(mixed, None, checkout).token == ""  # nothing of it goes elsewhere


def test_more_nodes_than_anybody_has_are_wrong_use(tmp_path: Path) -> None:
    given = [f"http://node-{number}:8010" for number in range(17)]
    with pytest.raises(click.UsageError, match="16"):
        find_connection(given, None, tmp_path)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8010", "control", "ftp://control", "http://", "http://control:99999"]
)
def test_what_is_no_url_is_wrong_use(tmp_path: Path, url: str) -> None:
    with pytest.raises(click.UsageError, match="http://HOST:PORT"):
        find_connection([f"http://control:8010,{url}"], None, tmp_path)


@pytest.mark.parametrize(
    "url", ["http://user:S3cret@control", "http://control?token=S3cret", "http://control#S3cret"]
)
def test_what_may_be_secret_in_a_url_is_neither_taken_nor_shown(tmp_path: Path, url: str) -> None:
    """It would be shown with every failure, and sent to nobody: tokens say who asks."""
    with pytest.raises(click.UsageError, match="http://HOST:PORT") as refused:
        find_connection([url], None, tmp_path)
    assert "S3cret" not in refused.value.message


def test_without_any_the_way_out_is_told(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="holdfast dev"):
        find_connection((), "hf_a_1", tmp_path)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_is_passed_over(checkout: Path, mode: int) -> None:
    (checkout / ".holdfast" / "dev.json").chmod(mode)
    with pytest.raises(click.UsageError):
        find_connection((), None, checkout)


def test_the_owner_of_the_file_matters(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(click.UsageError):
        find_connection((), None, checkout)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"server": 1}', b"x" * 70_000])
def test_a_broken_file_is_passed_over(checkout: Path, body: bytes) -> None:
    (checkout / ".holdfast" / "dev.json").write_bytes(body)
    with pytest.raises(click.UsageError):
        find_connection((), None, checkout)
