"""The drills with real stores, in their short forms, with their protections and without them.

Real servers and processes, so seconds each; what they measure is their own business, this is about
verdicts.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

SHORT = {"aws-2025": 3, "stale-leader": 2, "store-leader-killed": 2, "store-stopped": 1}
"""Drill -> its sample."""
ALONE = {"store-leader-killed"}
"""Three members, three nodes and five processes that write and watch: it fills a small machine."""
SLOW_UNPROTECTED = {"store-leader-killed", "store-stopped"}
"""Their damage has no end: they wait for as long as it may take to be over."""


def marked(name: str, *, protected: bool) -> Any:
    alone = [pytest.mark.alone] if name in ALONE else []
    slow = [] if protected or name not in SLOW_UNPROTECTED else [pytest.mark.long]
    return pytest.param(name, marks=[*alone, *slow])


def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
    command = (sys.executable, "-m", "holdfast.apps.cli", "drill", "run", *arguments)
    done = subprocess.run(
        (*command, "--output", "json"), capture_output=True, text=True, check=False, timeout=600
    )
    return done.returncode, msgspec.json.decode(done.stdout) if done.stdout else {}, done.stderr


def missed(found: dict[str, Any]) -> list[str]:
    figures = found["figures"]
    return [each["name"] for each in figures if each["decides"] and not each["holds"]]


def notes(found: dict[str, Any], told: str = "") -> str:
    """What the drill saw, a line each: pytest shortens what is not one text."""
    return "\n".join([*(f"{each['at_s']} s: {each['text']}" for each in found["notes"]), told])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [marked(name, protected=True) for name in SHORT])
def test_a_drill_passes(name: str, tmp_path: Path) -> None:
    code, found, told = run(name, "--sample", str(SHORT[name]), "--report", str(tmp_path / "all"))
    assert (code, missed(found)) == (0, []), notes(found, told)
    assert "PASS" in (tmp_path / "all" / name / "report.md").read_text()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [marked(name, protected=False) for name in SHORT])
def test_without_protection_it_fails(name: str) -> None:
    code, found, _ = run(name, "--sample", str(SHORT[name]), "--unprotected")
    assert code == 1
    assert missed(found)
    assert "the drill ran to its end" not in missed(found), notes(found)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_engine_is_stopped() -> None:
    code, found, told = run("store-stopped", "--sample", "3")
    assert (code, missed(found)) == (0, []), notes(found, told)
    engines = {each["name"].split(":")[0] for each in found["figures"]}
    assert engines == {"etcd", "postgresql", "sqlite"}
