"""The row `node-lost` in its short form: the node that leads is killed, on a real etcd."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest


def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
    command = (sys.executable, "-m", "holdfast.apps.cli", "drill", "run", "node-lost")
    done = subprocess.run(
        (*command, *arguments, "--output", "json"),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    return done.returncode, msgspec.json.decode(done.stdout), done.stderr


def missed(found: dict[str, Any]) -> set[str]:
    figures = found["figures"]
    return {each["name"] for each in figures if each["decides"] and not each["holds"]}


@pytest.mark.timeout(600)
def test_nothing_is_lost_with_the_node_that_leads() -> None:
    code, found, told = run("--sample", "1")
    assert (code, missed(found)) == (0, set()), (found["notes"], told)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_without_the_lease_several_lead_at_once() -> None:
    code, found, _ = run("--sample", "1", "--unprotected")
    assert code == 1
    assert "nodes that led at once" in missed(found)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_nothing_is_lost_with_any_node() -> None:
    code, found, told = run()
    assert (code, missed(found)) == (0, set()), (found["notes"], told)
