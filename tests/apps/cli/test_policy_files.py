"""Policy files: their published schema is up to date, and takes what the commands take."""

from __future__ import annotations

import json
from pathlib import Path

import click
import jsonschema_rs
import msgspec
import pytest

from holdfast.apps.cli import run
from holdfast.apps.cli.proposals import seconds_at
from holdfast.core.policies import STANDARD, Policy

KEPT = Path(__file__).parents[3] / "docs" / "reference" / "policy.schema.json"


def test_the_kept_schema_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "schema"]) == 0
    assert KEPT.read_text() == capsys.readouterr().out, "make docs writes it"


@pytest.mark.parametrize("policy", [Policy(), STANDARD])
def test_policies_are_what_the_schema_says(policy: Policy) -> None:
    schema = json.loads(KEPT.read_bytes())
    jsonschema_rs.Draft202012Validator(schema).validate(msgspec.to_builtins(policy))
    wrong = {**msgspec.to_builtins(policy), "aprovals": 1}
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.Draft202012Validator(schema).validate(wrong)


@pytest.mark.parametrize(
    ("text", "at_s"),
    [
        ("2026-11-30T08:00Z", 1_796_025_600),
        ("2026-11-30T08:00", 1_796_025_600),
        ("2026-11-30T09:00+01:00", 1_796_025_600),
        ("2026-11-30", 1_795_996_800),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text: str, at_s: int) -> None:
    assert seconds_at(text) == at_s


@pytest.mark.parametrize("text", ["", "soon", "+2", "+2w", "25:00", "2026-13-01"])
def test_what_is_no_time_is_wrong_use(text: str) -> None:
    with pytest.raises(click.UsageError, match="is no time"):
        seconds_at(text)


@pytest.mark.parametrize(
    "command",
    [
        ["policy", "set", "production"],
        ["policy", "set", "production", "x.yaml", "--standard"],
        ["change", "schedule", "some-id"],
        ["apply", "x.yaml", "--propose", "--break-glass", "why"],
        ["apply", "x.yaml", "--schedule", "soon"],
    ],
)
def test_options_that_contradict_each_other_are_wrong_use(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--server", "http://127.0.0.1:9"]) == 2
    assert capsys.readouterr().err
