"""The drills themselves, in their short forms, each with its protections and without them.

Real processes, so seconds each; what they measure is their own business, this is about verdicts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

SHORT = {
    "ecs-2022": 4,
    "crowdstrike-2024": 0,
    "cloudflare-2025-11": 2,
    "cloudflare-2025-12": 0,
    "google-2025": 30,
    "atlassian-2022": 0,
    "bad-value": 0,
    "azure-ddos-2024": 1,
    "roblox-2021": 1,
    "launchdarkly-2025": 1,
    "facebook-2021": 1,
    "fastly-2021": 0,
}
"""Drill -> its sample; 0 runs all of it."""
SLOW_UNPROTECTED = {"bad-value", "crowdstrike-2024", "fastly-2021", "azure-ddos-2024"}
"""Their damage has no end: they watch it for as long as they would wait for it to be over."""


def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        (
            sys.executable,
            "-m",
            "holdfast.apps.cli",
            "gameday",
            "run",
            *arguments,
            "--output",
            "json",
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    return done.returncode, msgspec.json.decode(done.stdout) if done.stdout else {}, done.stderr


def missed(found: dict[str, Any]) -> list[str]:
    figures = found["figures"]
    return [each["name"] for each in figures if each["decides"] and not each["holds"]]


ALONE = {"azure-ddos-2024", "launchdarkly-2025", "roblox-2021", "google-2025"}
"""They make more load than the machine bears, on purpose."""


def marked(name: str, *marks: pytest.MarkDecorator) -> Any:
    return pytest.param(name, marks=[*marks, *([pytest.mark.alone] if name in ALONE else [])])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [marked(n) for n in SHORT])
def test_a_drill_passes(name: str, tmp_path: Path) -> None:
    code, found, told = run(name, "--sample", str(SHORT[name]), "--report", str(tmp_path))
    assert (code, missed(found)) == (0, []), (found["rows"], found["notes"], told)
    assert found["passed"]
    assert "PASS" in (tmp_path / "report.md").read_text()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name",
    [marked(n, *([pytest.mark.long] if n in SLOW_UNPROTECTED else [])) for n in SHORT],
)
def test_without_protection_it_fails(name: str) -> None:
    code, found, _ = run(name, "--sample", str(SHORT[name]), "--unprotected")
    assert code == 1
    assert not found["passed"]
    assert missed(found)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_every_seeded_defect_is_blocked() -> None:
    code, found, _ = run("ecs-2022")
    assert (code, [row["name"] for row in found["rows"] if not row["blocked"]]) == (0, [])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_a_drill_however_it_ends(number: signal.Signals, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "holdfast.apps.cli", "gameday", "run", "bad-value")
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    drill = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, text=True
    )
    assert drill.stderr
    while "clients in" not in (line := drill.stderr.readline()):
        assert line, "the drill ended by itself"
    assert len(started_below(tmp_path)) > 4
    drill.send_signal(number)
    drill.stderr.close()
    drill.wait(60)
    end = time.monotonic() + 60
    while left := started_below(tmp_path):
        assert time.monotonic() < end, f"still there: {left}"
        time.sleep(0.05)


def started_below(directory: Path) -> list[str]:
    """Command lines of processes that were told of a file below `directory`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode()
            state = (path.parent / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if str(directory) in command and state != "Z":
            found.append(command)
    return found
