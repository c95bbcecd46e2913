"""The rows of "Faults and promises" about disks, clocks, tokens and inputs, in their short forms.

Each with its protections and without them; what they measure is their own business, this is about
verdicts. The other rows have tests of their own.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.core.errors import Invalid
from holdfast.gameday.promises import MODULES, promise
from holdfast.gameday.syscalls import Create, Disk, Remove, Rename, Sync, Truncate, Write

SHORT = {
    "control-plane-dead": 1,
    "cold-start": 3,
    "power-loss": 60,
    "disk-full": 1,
    "torn-cache": 200,
    "clock-skew": 1,
    "fuzzed-input": 200,
    "authentication": 1,
    "overload": 1,
}
"""Row -> its sample."""
SLOW_UNPROTECTED = {"clock-skew", "disk-full", "overload"}
"""Their damage has no end: they wait for as long as it may take to be over."""


def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
    command = (sys.executable, "-m", "holdfast.apps.cli", "drill", "run", *arguments)
    done = subprocess.run(
        (*command, "--output", "json"), capture_output=True, text=True, check=False, timeout=600
    )
    return done.returncode, msgspec.json.decode(done.stdout) if done.stdout else {}, done.stderr


def missed(found: dict[str, Any]) -> list[str]:
    figures = found["figures"]
    return [each["name"] for each in figures if each["decides"] and not each["holds"]]


ALONE = {"overload", "clock-skew"}
"""They make more load than the machine bears, on purpose; or start processes again on ports that
others may have taken by then, and wait for what arrives within seconds."""


def marked(name: str, *marks: pytest.MarkDecorator) -> Any:
    return pytest.param(name, marks=[*marks, *([pytest.mark.alone] if name in ALONE else [])])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [marked(n) for n in SHORT])
def test_a_row_passes(name: str, tmp_path: Path) -> None:
    code, found, told = run(name, "--sample", str(SHORT[name]), "--report", str(tmp_path / "all"))
    assert (code, missed(found)) == (0, []), (found["notes"], told)
    assert f"| [{name}](all/{name}/report.md) |" in (tmp_path / "all.md").read_text()
    assert "Promised: " in (tmp_path / "all" / name / "report.md").read_text()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name",
    [marked(n, *([pytest.mark.long] if n in SLOW_UNPROTECTED else [])) for n in SHORT],
)
def test_without_protection_it_fails(name: str) -> None:
    code, found, _ = run(name, "--sample", str(SHORT[name]), "--unprotected")
    assert code == 1
    assert missed(found)
    assert "the drill ran to its end" not in missed(found), found["notes"]


def test_every_row_says_what_is_promised_and_what_it_does() -> None:
    for name in MODULES:
        told = promise(name)
        assert told.name == name
        assert told.promise or told.outage
        assert told.rehearsal


def test_an_unknown_row_is_told_which_there_are() -> None:
    with pytest.raises(Invalid, match="no drill 'x'"):
        promise("x")


# -- what a power loss leaves


def played(*calls: Any) -> Disk:
    disk = Disk()
    for call in calls:
        disk.play(call)
    return disk


def test_what_was_synced_is_there_and_nothing_else_must_be() -> None:
    disk = played(
        Create("a", 1), Sync(0), Write(1, 0, b"one"), Sync(1), Write(1, 3, b"two"), Create("b", 2)
    )
    chance = random.Random(1)
    assert disk.after_power_loss("nothing", chance) == {"a": b"one"}
    assert disk.after_power_loss("everything", chance) == {"a": b"onetwo", "b": b""}


def test_each_sector_of_what_was_not_synced_may_be_there_or_not() -> None:
    disk = played(Create("a", 1), Sync(0), Write(1, 0, b"x" * 2_048))
    chance, seen = random.Random(1), set()
    for _ in range(200):
        content = disk.after_power_loss("some", chance)["a"].ljust(2_048, b"\0")
        sectors = [content[at : at + 512] for at in range(0, 2_048, 512)]
        assert all(sector in {b"x" * 512, bytes(512)} for sector in sectors)
        seen.add(content)
    assert len(seen) == 16


def test_names_come_in_their_order_and_contents_by_themselves() -> None:
    disk = played(Create("a.new", 1), Write(1, 0, b"body"), Rename("a.new", "a"), Remove("b"))
    chance = random.Random(1)
    found = [disk.after_power_loss("some", chance) for _ in range(200)]
    assert {frozenset(one) for one in found} == {
        frozenset(),
        frozenset({"a.new"}),
        frozenset({"a"}),
    }
    assert b"" in {one["a"] for one in found if "a" in one}, "renamed, and not written"


def test_a_file_is_cut_and_grows_again() -> None:
    disk = played(Create("a", 1), Sync(0), Write(1, 0, b"long body"), Truncate(1, 4), Sync(1))
    assert disk.after_power_loss("nothing", random.Random(1)) == {"a": b"long"}
