"""Problems like a compiler's; nothing but text into pipes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from holdfast.apps.cli import FINE, PROBLEMS_FOUND, cli, output, run
from holdfast.core.errors import Problem

SOURCE = "service: calling\nsettings:\n  tiles:\n    when: tenat in segment('pilot')\n"
PROBLEM = Problem(
    code="unknown-attribute",
    message="the attribute 'tenat' is not declared",
    path="/settings/tiles/when",
    hint="write tenant, or declare it under attributes",
    file="calling.yaml",
    line=4,
    column=11,
)


def plain(problem: Problem, sources: dict[str, str]) -> list[str]:
    return click.unstyle(output.problem_text(problem, sources)).splitlines()


def test_a_problem_shows_its_place_its_line_and_the_way_out() -> None:
    assert plain(PROBLEM, {"calling.yaml": SOURCE}) == [
        "calling.yaml:4:11: error: the attribute 'tenat' is not declared [unknown-attribute]",
        "  4 |     when: tenat in segment('pilot')",
        "    |           ^",
        "   at /settings/tiles/when",
        "   help: write tenant, or declare it under attributes",
    ]


def test_the_source_is_read_from_disk_when_it_was_not_given(tmp_path: Path) -> None:
    file = tmp_path / "calling.yaml"
    file.write_text(SOURCE)
    problem = Problem(code="x", message="m", file=str(file), line=1)
    assert plain(problem, {})[1] == "  1 | service: calling"


def test_a_problem_without_a_file_shows_its_path() -> None:
    problem = Problem(code="not-found", message="there is no such setting", path="/shop/x")
    assert plain(problem, {}) == ["/shop/x: error: there is no such setting [not-found]"]


def test_a_line_that_is_not_there_is_left_out() -> None:
    problem = Problem(code="x", message="m", file="a.yaml", line=99)
    assert plain(problem, {"a.yaml": "one line"}) == ["a.yaml:99: error: m [x]"]


def test_the_middle_of_a_long_line_is_shown_with_the_mark_under_its_column() -> None:
    text = "a" * 1_000 + "X" + "b" * 1_000
    problem = Problem(code="x", message="m", file="a.json", line=1, column=1_001)
    _, shown, mark = plain(problem, {"a.json": text})
    assert len(shown) < 200
    assert shown[mark.index("^")] == "X"


def test_a_file_can_not_write_to_the_terminal() -> None:
    evil = "\x1b]0;title\x07"
    problem = Problem(code="x", message=f"m{evil}", file="a", line=1, hint=evil)
    assert "\x1b" not in click.unstyle(output.problem_text(problem, {"a": evil}))


def test_problems_are_counted_by_severity(capsys: pytest.CaptureFixture[str]) -> None:
    warning = Problem(code="w", message="later", severity="warning")
    output.print_problems([PROBLEM, warning, warning], {"calling.yaml": SOURCE})
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[-1] == "1 error, 2 warnings"


def test_no_problems_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_problems([])
    assert capsys.readouterr() == ("", "")


def test_a_pipe_gets_tabs_and_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(["key", "revision"], [["a b", 12], ["c", None]])
    assert capsys.readouterr().out == "key\trevision\na b\t12\nc\t\n"


def test_json_keeps_the_order_of_fields(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"z": 1, "a": ["ü"]})
    assert capsys.readouterr().out == '{\n  "z": 1,\n  "a": [\n    "ü"\n  ]\n}\n'


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (3.4, "3 s"), (90, "2 min"), (7_200, "2 h"), (864_000, "10 d")],
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert output.age(seconds) == text


def test_moments_are_in_utc() -> None:
    assert output.moment(1_770_000_000_000) == "2026-02-02 02:40:00"


class Terminal:
    def isatty(self) -> bool:
        return True


def test_colours_go_to_a_terminal_unless_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.wants_colour(Terminal())  # type: ignore[arg-type]
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.wants_colour(Terminal())  # type: ignore[arg-type]


def test_a_directory_that_can_not_be_made_is_told_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run(["keys", "init", "--data", str(tmp_path / "file" / "data")]) == PROBLEMS_FOUND
    told = capsys.readouterr().err
    assert str(tmp_path / "file" / "data") in told
    assert "Not a directory" in told


def test_output_that_nobody_can_take_is_told() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "holdfast.apps.cli", "schema"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert ended.returncode == PROBLEMS_FOUND
    assert ended.stderr.startswith("holdfast: error: ")
    assert "No space left on device" in ended.stderr


@pytest.mark.parametrize("refused", [True, False])
def test_what_the_commands_print_is_as_plain_as_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refused: bool
) -> None:
    """Lines that are styled by hand, and tables, whose headings are bold."""

    @click.command()
    def show() -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        click.echo(click.style("changed", fg="green", bold=True))
        output.print_table(["id"], [["1"]])

    monkeypatch.setitem(cli.__dict__, "get_command", lambda *_: show)
    monkeypatch.setenv("TERM", "xterm")
    if refused:
        monkeypatch.setenv("NO_COLOR", "1")
    else:
        monkeypatch.delenv("NO_COLOR", raising=False)
    assert run(["show"]) == FINE
    shown = capsys.readouterr().out
    assert (click.unstyle(shown) == shown) is refused


def test_a_narrow_terminal_cuts_nothing_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The id in the first column is what the next command takes."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    long = ["rolled-back", "calling/video-codec", "holdfast dev (bc44c2fcea88088d)", "a verdict"]
    output.print_table(["id", "status", "of", "by", "why"], [["production.14", *long]])
    shown = click.unstyle(capsys.readouterr().out)
    assert "production.14" in shown
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 60
