"""The runbooks' commands are ones that this version has, and `deploy/` fits to them.

Every command of a block of shell is taken apart, and what is ours is given to our own parser: its
name, each option, each argument. A runbook is read when nothing works; a typo costs the night.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from holdfast.apps.cli import cli

ROOT = Path(__file__).parents[3]
HOWTO = ROOT / "docs" / "howto"
DEPLOY = ROOT / "deploy"
RUNBOOKS = (
    "deploy-three-machines",
    "rolling-upgrade",
    "lost-node",
    "lost-quorum",
    "disaster-recovery",
    "rotate-keys",
    "move-from-sqlite",
)
OTHERS = frozenset(
    {".", "apt-get", "chown", "cp", "createdb", "createuser", "curl", "echo", "etcdctl", "install"}
    | {"journalctl", "ln", "ls", "mv", "nginx", "openssl", "pip", "python3", "rm", "scp", "sed"}
    | {"set", "systemctl", "systemd-sysusers", "tar"}
)
"""What else an operator's machine has."""
OPERATORS = frozenset({";", "|", "||", "&", "&&"})
NOT_OURS = frozenset({"etcd", "nginx"})
"""Units of others."""
SECRETS = frozenset({"HOLDFAST_STREAM_SECRET", "HOLDFAST_EDGES", "HOLDFAST_SERVER"})
"""Variables that are no option of a process."""


def shell_lines(page: Path) -> Iterator[str]:
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        yield from filter(None, block.replace("\\\n", " ").splitlines())


def commands(line: str) -> Iterator[list[str]]:
    """The simple commands of a line, without what runs them elsewhere or as somebody else."""
    tokens = shlex.shlex(line, posix=True, punctuation_chars=True)
    tokens.whitespace_split = True
    simple: list[str] = []
    for token in [*tokens, ";"]:
        if token not in OPERATORS:
            simple.append(token)
            continue
        yield own(simple)
        simple = []


def own(simple: list[str]) -> list[str]:
    if simple[:2] == ["sudo", "-u"]:
        return own(simple[3:])
    if simple[0] == "ssh":
        return own(simple[2:])
    return simple


def parse(arguments: list[str]) -> None:
    """Give a command to click, and stop short of running it. Raises its usage errors."""
    command: click.Command = cli
    context = click.Context(cli, info_name="holdfast")
    while True:
        options, rest, _ = command.make_parser(context).parse_args(arguments)
        if "help" in options:
            return
        if not isinstance(command, click.Group) or not rest:
            break
        found = command.get_command(context, rest[0])
        if found is None:
            raise click.UsageError(f"{context.command_path} has no command {rest[0]!r}", context)
        context = click.Context(found, context, info_name=rest[0])
        command, arguments = found, rest[1:]
    if rest:
        raise click.UsageError(f"{context.command_path} takes no {rest!r}", context)
    for parameter in command.params:
        value = options.get(parameter.name or "")
        given = isinstance(value, str | list | tuple) and bool(value)
        if parameter.required and not given:
            raise click.MissingParameter(ctx=context, param=parameter)
        if given and not isinstance(parameter.type, click.Path):
            parameter.type_cast_value(context, value)  # choices, numbers and ranges


@pytest.mark.parametrize("name", RUNBOOKS)
def test_every_command_of_a_runbook_is_one_that_there_is(name: str) -> None:
    ours = 0
    for line in shell_lines(HOWTO / f"{name}.md"):
        for command in commands(line):
            program = command[0].rpartition("/")[2]
            if program == "holdfast":
                ours += 1
                try:
                    parse(command[1:])
                except click.UsageError as wrong:
                    pytest.fail(f"{name}: {line}\n{wrong.format_message()}")
            else:
                assert program in OTHERS, line
    assert ours >= 3


@pytest.mark.parametrize("name", RUNBOOKS)
def test_what_a_runbook_names_of_deploy_is_there(name: str) -> None:
    for line in shell_lines(HOWTO / f"{name}.md"):
        for path in re.findall(r"deploy/\S+", line):
            assert list(ROOT.glob(path)), line
        for unit in re.findall(r"systemctl (?:start|stop|restart|reload|status) (\S+)", line):
            assert unit in NOT_OURS or (DEPLOY / "systemd" / f"{unit}.service").exists(), line


def test_the_parser_of_this_test_does_refuse() -> None:
    for wrong in (
        ["store", "backip", "f"],
        ["store", "restore", "f"],
        ["status", "--serevr", "http://a"],
        ["token", "create", "ci", "--verb", "fly"],
        ["history", "-n", "many"],
        ["keys", "show", "more"],
    ):
        with pytest.raises(click.UsageError):
            parse(wrong)


def variables_of(name: str) -> set[str]:
    """The variables that `holdfast NAME` reads for its options."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return {str(each.envvar) for each in command.params if each.envvar}


@pytest.mark.parametrize(
    ("file", "command"),
    [("control.env", "control"), ("edge.env", "edge"), ("edge.secret.env", "edge")],
)
def test_variables_of_the_env_files_are_read(file: str, command: str) -> None:
    text = (DEPLOY / "env" / file).read_text()
    given = set(re.findall(r"^(HOLDFAST_\w+)=", text, re.MULTILINE))
    assert given
    assert given <= variables_of(command) | SECRETS


def test_with_a_password_each_unit_that_opens_the_store_is_given_it() -> None:
    _, _, section = (HOWTO / "deploy-three-machines.md").read_text().partition("## With PostgreSQL")
    opening = [unit for unit in units() if "/control.env" in unit.read_text()]
    assert len(opening) == 2
    for unit in opening:
        assert f"/etc/systemd/system/{unit.name}.d/store-password.conf" in section


def units() -> list[Path]:
    return sorted((DEPLOY / "systemd").glob("holdfast-*.service"))


def test_units_start_what_there_is() -> None:
    assert len(units()) == 3
    for unit in units():
        found = re.findall(r"/opt/holdfast/bin/holdfast ([^\"'\n]*)", unit.read_text())
        assert found, unit
        for arguments in found:
            parse(shlex.split(arguments + ('"file"' if arguments.endswith("backup ") else "")))


@pytest.mark.parametrize("unit", ["holdfast-control", "holdfast-edge"])
def test_a_service_comes_back_and_may_do_little(unit: str) -> None:
    read = configparser.ConfigParser(strict=False, interpolation=None)
    read.optionxform = str  # type: ignore[assignment,method-assign]  # systemd minds the case
    read.read_string((DEPLOY / "systemd" / f"{unit}.service").read_text())
    service = read["Service"]
    assert service["Restart"] == "always"
    assert read["Unit"]["StartLimitIntervalSec"] == "0"
    assert service["User"] not in ("", "root")
    for hardened in ("NoNewPrivileges", "PrivateDevices", "PrivateTmp", "RestrictNamespaces"):
        assert service[hardened] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["StateDirectoryMode"] == "0700"


def test_systemd_itself_takes_the_units(tmp_path: Path) -> None:
    """Where systemd is; its checker wants the program to be there, so this one's stands in."""
    checker = shutil.which("systemd-analyze")
    program = Path(sys.executable).with_name("holdfast")
    for unit in [*units(), *(DEPLOY / "systemd").glob("*.timer")]:
        text = unit.read_text().replace("/opt/holdfast/bin/holdfast", str(program))
        (tmp_path / unit.name).write_text(text)
    copies = sorted(tmp_path.iterdir())
    assert len(copies) == 4
    if checker is not None:
        done = subprocess.run(
            [checker, "verify", "--man=no", *map(str, copies)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
        )
        assert done.returncode == 0, done.stderr
