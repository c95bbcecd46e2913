"""Help: of every command, with examples; quick; and the page made of it up to date."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from holdfast.apps.cli import cli, run
from holdfast.apps.cli.pages import reference

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
HEAVY = ("asyncio", "httpx2", "litestar", "msgspec", "rich", "uvicorn", "yaml", "cel_expr_python")
NAMED_IN_THE_ISSUE = [
    "dev",
    "control",
    "edge",
    "check",
    "plan",
    "apply",
    "get",
    "explain",
    "history",
    "diff",
    "revert",
    "status",
]


def commands(
    group: click.Group = cli, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield (*above, name), command


COMMANDS = dict(commands())


def test_every_command_that_was_promised_is_there() -> None:
    assert [name for name in NAMED_IN_THE_ISSUE if (name,) not in COMMANDS] == []
    for name in (("import", "flagd"), ("export", "flagd"), ("keys", "init"), ("keys", "rotate")):
        assert name in COMMANDS
    for verb in ("create", "list", "revoke"):
        assert ("token", verb) in COMMANDS


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_every_command_says_what_it_does_with_an_example(
    name: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example" in shown
    examples = shown.split("Example")[1]
    assert f"holdfast {' '.join(name)}" in examples
    bare = [
        option.name
        for option in COMMANDS[name].params
        if isinstance(option, click.Option) and not option.hidden and not option.help
    ]
    assert bare == []


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "make docs writes it"


def test_help_imports_nothing_heavy() -> None:
    """What makes it quick, said without a clock."""
    code = (
        "import sys; from holdfast.apps.cli import run; run(['--help']);"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Run:" in shown.stdout
    assert shown.stderr.split() == []


def test_an_unknown_command_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["aply"]) == 2
    assert "aply" in capsys.readouterr().err


def test_without_a_control_plane_the_way_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("HOLDFAST_SERVER", "HOLDFAST_TOKEN", "HOLDFAST_DATA"):
        monkeypatch.delenv(variable, raising=False)
    assert run(["get"]) == 2
    assert "holdfast dev" in capsys.readouterr().err


def test_a_control_plane_that_is_not_there_is_a_problem_of_the_system(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["get", "--server", "http://127.0.0.1:9"]) == 1
    told = capsys.readouterr().err
    assert "http://127.0.0.1:9 does not answer" in told
    assert "help: is it running?" in told


def test_bad_flags_of_dev_are_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "flags.json"
    file.write_text("{}")
    assert run(["dev", "--import", str(file)]) == 2
    assert "--service" in capsys.readouterr().err
    assert run(["dev", "--service", "shop"]) == 2
    assert "--import" in capsys.readouterr().err


def test_a_token_that_is_none_is_told_before_anything_is_sent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["get", "--server", "http://127.0.0.1:9", "--token", "é\nx"]) == 2
    assert "the token has characters that no token has" in capsys.readouterr().err


@pytest.mark.parametrize("interval", ["-1", "0", "nan", "1e9"])
def test_an_interval_that_nobody_can_mean_is_wrong_use(
    interval: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["edge", "--poll-interval", interval]) == 2
    assert "no interval to poll at" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["revert", "0"], ["history", "0"], ["diff", "--", "-1"]])
def test_a_revision_that_can_not_be_is_wrong_use(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 2
    assert "is not in the range" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["control", "edge"])
def test_a_taken_port_is_told_before_anything_is_made(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made"
    place = {"control": ["--development", "--data"], "edge": ["--cache"]}[command]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run([command, "--port", port, *place, str(made)]) == 1
    told = capsys.readouterr().err
    assert f"127.0.0.1:{port} can't be used" in told
    assert "is it running?" not in told
    if command == "control":
        assert not made.exists()
