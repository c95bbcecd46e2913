"""Policies, approvals, schedules and broken glass on the command line, against real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.processes import Dev, eventually

SETTINGS = """\
service: {service}
settings:
  tiles:
    type: integer
    variants: {{few: {few}, many: 49}}
    environments: {{{environment}: {{default: few}}}}
"""
ENVIRONMENTS = ("guarded", "burning", "timed", "strict")


class Desk:
    """One person at a command line."""

    def __init__(self, dev: Dev, token: str) -> None:
        self._dev = dev
        self._token = token

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = self._dev.holdfast(*arguments, HOLDFAST_TOKEN=self._token)
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--output", "json"))


@pytest.fixture
def root(shop: Dev) -> Desk:
    return Desk(shop, shop.token)


@pytest.fixture
def bob(shop: Dev, root: Desk) -> Desk:
    token = root.json("token", "create", "bob", "--verb", "write")["token"]
    return Desk(shop, token)


def guarded(root: Desk, folder: Path, environment: str, policy: str) -> Path:
    """An environment with a policy, a service in it, and the file of a change."""
    root("env", "put", environment)
    file = folder / "settings.yaml"
    text = SETTINGS.format(service=environment, environment=environment, few=9)
    file.write_text(text)
    root("apply", str(file))
    (folder / "policy.json").write_text(policy)
    root("policy", "set", environment, str(folder / "policy.json"))
    file.write_text(text.replace("few: 9", "few: 8"))
    return file


def test_a_change_is_proposed_approved_and_committed(root: Desk, bob: Desk, tmp_path: Path) -> None:
    file = guarded(root, tmp_path, "guarded", '{"approvals": 1}')
    told = root("apply", str(file), code=1)
    assert "approval-needed" in told
    assert "--propose" in told
    change = root.json("apply", str(file), "--propose", "--reason", "fewer")["id"]
    assert change in bob("change", "list")
    assert "0 of 1 that it takes" in bob("change", "show", change)
    assert "of their own" in root("change", "approve", change, code=2)
    bob("change", "approve", change)
    revision = str(root.json("change", "commit", change)["revision"])
    assert "bob" in root("history", revision)
    assert "guarded" not in root("change", "list")
    weaker = tmp_path / "none.yaml"
    weaker.write_text("approvals: 0\n")
    assert "approval-needed" in root("policy", "set", "guarded", str(weaker), code=1)


def test_broken_glass_is_shown_until_everybody_has_seen_it(root: Desk, tmp_path: Path) -> None:
    file = guarded(root, tmp_path, "burning", '{"approvals": 2}')
    assert "BREAK-GLASS" not in root("status")
    root("apply", str(file), "--break-glass", "tiles are on fire")
    assert "BREAK-GLASS: tiles are on fire" in root("history", "--limit", "1")
    (broken,) = root.json("status")["broken"]
    assert (broken["environment"], broken["reason"]) == ("burning", "tiles are on fire")


def test_a_scheduled_change_is_committed_by_the_control_plane(root: Desk, tmp_path: Path) -> None:
    file = guarded(root, tmp_path, "timed", "{}")
    root("apply", str(file), "--schedule", "soon", code=2)
    head = root.json("status")["control"]["revision"]
    root("apply", str(file), "--schedule", "+0m")
    eventually(lambda: root.json("status")["control"]["revision"] > head, "the scheduled commit")
    assert root.json("change", "list") == []


def test_a_wrong_policy_file_is_told_with_the_way_out(root: Desk, tmp_path: Path) -> None:
    root("env", "put", "strict")
    file = tmp_path / "policy.yaml"
    file.write_text("aprovals: 1\n")
    told = root("policy", "set", "strict", str(file), code=1)
    assert "aprovals" in told
    assert "holdfast policy schema" in told
    root("policy", "set", "strict", "--standard")
    assert root.json("policy", "show", "strict")["approvals"] == 1


def test_what_was_written_in_the_editor_is_kept_when_it_is_wrong(
    shop: Dev, root: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_text("aprovals: 1\n")
    monkeypatch.setenv("VISUAL", f"cp {tmp_path / 'mine'}")
    told = root("policy", "edit", "production", code=1)
    kept = shop.data_dir / "production.policy.yaml.edited"
    assert kept.name in told
    assert kept.read_text() == "aprovals: 1\n"
