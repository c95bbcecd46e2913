"""`holdfast check`: offline, all problems at once, exit codes that scripts can rely on."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from holdfast.apps.cli import run

GOOD = """\
service: calling
owners: [calling-oncall@example.com]
attributes: {tenant: string}
segments:
  pilot: {by: tenant, members: [contoso]}
settings:
  tiles:
    type: integer
    variants: {few: 9, many: 49}
    environments:
      production:
        default: few
        rules:
          - {when: tenant in segment("pilot"), serve: many}
"""
OTHER = "service: mail\nincludes: [calling]\nsettings: {}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "calling.yaml"
    path.write_text(GOOD)
    return path


def test_a_good_file_is_fine(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(file)]) == 0
    assert "1 file checked, no problems" in capsys.readouterr().err


def test_all_problems_of_all_files_come_at_once(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = GOOD.replace("tenant in", "tenat in").replace("serve: many", "serve: manyy")
    file.write_text(bad)
    (file.parent / "mail.yaml").write_text(OTHER.replace("settings: {}", "setings: {}"))
    assert run(["check", str(file.parent)]) == 1
    told = capsys.readouterr().err
    assert f"{file}:14:20: error: no attribute `tenat` is declared" in told
    assert "`manyy`" in told
    assert "mail.yaml:3:1: error:" in told
    assert told.rstrip().endswith("errors")


def test_for_programs_the_problems_are_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD.replace("tenant in", "tenat in"))
    assert run(["check", str(file), "--output", "json"]) == 1
    shown = capsys.readouterr()
    found = msgspec.json.decode(shown.out)
    assert shown.err == ""
    assert (found["ok"], found["files"]) == (False, 1)
    assert [problem["line"] for problem in found["problems"]] == [14]


def test_a_service_that_is_not_among_the_files_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mail.yaml"
    file.write_text(OTHER)
    assert run(["check", str(file)]) == 0
    assert "mail.yaml:2:12: warning: there is no service `calling`" in capsys.readouterr().err
    (tmp_path / "calling.yaml").write_text(GOOD)
    assert run(["check", str(tmp_path)]) == 0
    assert "warning" not in capsys.readouterr().err


def test_what_an_absent_include_could_bring_is_a_warning_in_its_file_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loose = GOOD.replace("attributes: {tenant: string}", "includes: [shared]")
    (tmp_path / "calling.yaml").write_text(loose)
    assert run(["check", str(tmp_path)]) == 0
    (tmp_path / "chat.yaml").write_text(
        GOOD.replace("calling", "chat").replace("tenant: string", "ring: string")
    )
    assert run(["check", str(tmp_path)]) == 1
    told = capsys.readouterr().err.splitlines()
    errors = [line for line in told if ": error: " in line]
    assert errors
    assert all("chat.yaml" in line for line in errors)


def test_a_list_of_members_is_read_beside_its_file(file: Path) -> None:
    file.write_text(GOOD.replace("members: [contoso]", "members_file: pilot.txt"))
    assert run(["check", str(file)]) == 1
    (file.parent / "pilot.txt").write_text("contoso\nfabrikam\n")
    assert run(["check", str(file)]) == 0


@pytest.mark.parametrize("name", ["absent.yaml", "empty"])
def test_nothing_to_check_is_wrong_use(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run(["check", str(tmp_path / name)]) == 2
    assert name in capsys.readouterr().err


def test_a_file_that_is_no_text_is_told_with_its_name(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_bytes(b"service: \xff\n")
    assert run(["check", str(file)]) == 2
    assert "calling.yaml: not UTF-8 at byte 9" in capsys.readouterr().err


def test_hidden_files_are_left_alone(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hidden = file.parent / ".git"
    hidden.mkdir()
    (hidden / "config.yaml").write_text("not: ours\n")
    assert run(["check", str(file.parent)]) == 0
    assert "1 file checked" in capsys.readouterr().err


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["$ref"] == "#/$defs/document"


def test_one_key_in_a_service_and_in_what_it_includes_is_told_with_its_line(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiles = "\n  tiles: {type: integer, variants: {a: 1}}\n"
    (file.parent / "mail.yaml").write_text(OTHER.replace(" {}\n", tiles))
    assert run(["check", str(file.parent)]) == 1
    told = capsys.readouterr().err
    assert f"{file}:7:3: error: `tiles` stands in `calling` and in `mail`" in told


def test_services_that_include_each_other_in_a_circle_are_told_with_their_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, other in (("calling", "mail"), ("mail", "calling")):
        (tmp_path / f"{name}.yaml").write_text(f"service: {name}\nincludes: [{other}]\n")
    assert run(["check", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "calling.yaml:2:1: error: a circle: calling includes mail includes calling" in told
    assert "mail.yaml:2:1: error: a circle" in told
