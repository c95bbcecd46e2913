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
OTHER = "service: mail\nincludes: [calling]\nsettings: {}\nowners: [mail@example.com]\n"


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


NO_TEXT = {
    "encoding": GOOD.encode("utf-16"),
    "too-large": b"# " + b"x" * 10_000_000 + b"\n" + GOOD.encode(),
}


@pytest.mark.parametrize("code", NO_TEXT)
def test_a_file_that_is_no_text_is_a_problem_among_those_of_the_others(
    tmp_path: Path, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "calling.yaml").write_bytes(NO_TEXT[code])
    (tmp_path / "mail.yaml").write_text("service: mail\nsetings: {}\n")
    assert run(["check", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert f"{tmp_path / 'calling.yaml'}: error: " in told
    assert f"[{code}]" in told
    assert "mail.yaml:2:1: error: " in told
    assert run(["check", str(tmp_path), "--output", "json"]) == 1
    found = msgspec.json.decode(capsys.readouterr().out)
    assert (found["ok"], found["files"]) == (False, 2)
    assert {problem["code"] for problem in found["problems"]} == {code, "unknown-key"}


@pytest.mark.parametrize("command", ["plan", "apply"])
@pytest.mark.parametrize("code", NO_TEXT)
def test_a_file_that_is_no_text_is_not_sent(
    tmp_path: Path, command: str, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "calling.yaml").write_bytes(NO_TEXT[code])
    (tmp_path / "mail.yaml").write_text("service: mail\nsetings: {}\n")
    nobody = ("--server", "http://127.0.0.1:9")
    assert run([command, str(tmp_path), *nobody]) == 1
    told = capsys.readouterr().err
    assert "Usage" not in told
    assert f"[{code}]" in told
    assert "[unknown-key]" in told
    assert run([command, str(tmp_path), *nobody, "-o", "json"]) == 1
    shown = capsys.readouterr()
    assert shown.err == ""
    found = msgspec.json.decode(shown.out)
    assert not found["ok"]
    assert {problem["code"] for problem in found["problems"]} == {code, "unknown-key"}


def test_files_that_are_too_much_for_one_change_are_told_before_they_are_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("calling", "chat", "mail"):
        text = f"service: {name}\n# " + "x" * 3_000_000
        (tmp_path / f"{name}.yaml").write_text(text)
    assert run(["check", str(tmp_path)]) == 0
    assert "warning: 3 files together come to 9000" in capsys.readouterr().err
    assert run(["plan", str(tmp_path), "--server", "http://127.0.0.1:9"]) == 1
    told = capsys.readouterr().err
    assert "error: 3 files together come to 9000" in told
    assert "4 MiB per change" in told
    assert "apply them in parts" in told


@pytest.mark.parametrize("way", ["up", "absolute", "symlink"])
def test_a_list_elsewhere_is_not_read(
    tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret.txt").write_text("contoso\n")
    here = tmp_path / "settings"
    here.mkdir()
    (here / "link.txt").symlink_to(tmp_path / "secret.txt")
    absolute = str(tmp_path / "secret.txt")
    path = {"up": "../secret.txt", "absolute": absolute, "symlink": "link.txt"}[way]
    (here / "calling.yaml").write_text(GOOD.replace("members: [contoso]", f"members_file: {path}"))
    assert run(["check", str(here)]) == 1
    told = capsys.readouterr().err
    assert "calling.yaml:5:37: error: " in told
    assert "[members-file-outside]" in told
    assert "help: put the list beside this file or below it" in told
    # Nobody answers there: it is refused before anything is sent.
    assert run(["plan", str(here), "--server", "http://127.0.0.1:9"]) == 1
    assert "[members-file-outside]" in capsys.readouterr().err


def test_a_list_below_and_a_settings_directory_behind_a_link_are_fine(
    file: Path, tmp_path: Path
) -> None:
    file.write_text(GOOD.replace("members: [contoso]", "members_file: lists/../lists/pilot.txt"))
    (file.parent / "lists").mkdir()
    (file.parent / "lists" / "pilot.txt").write_text("contoso\n")
    assert run(["check", str(file)]) == 0
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(tmp_path)
    assert run(["check", str(link / file.name)]) == 0


def test_a_path_that_is_none_is_a_problem(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD.replace("members: [contoso]", 'members_file: "a\\0b"'))
    assert run(["check", str(file)]) == 1
    assert "[members-file]" in capsys.readouterr().err


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
