"""`holdfast contract` and `holdfast can-deploy` against a real control plane."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.end_to_end.processes import CONTOSO, Dev

from holdfast.apps.cli import run

Command = Callable[..., tuple[int, str, str]]
CONTRACT = """\
service: {service}
consumer: web
environments: [production]
needs:
  tiles: {{type: integer, schema: {{maximum: 49}}}}
"""
SETTINGS = """\
service: {service}
settings:
  tiles: {{type: integer, variants: {{few: 9, many: {many}}}, environments: {{production: {{default: many}}}}}}
"""  # noqa: E501  # one line of YAML


@pytest.fixture
def holdfast(
    shop: Dev, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """Run one command: (exit code, standard output, standard error)."""
    monkeypatch.setenv("HOLDFAST_DATA", str(shop.data_dir))
    for variable in ("HOLDFAST_SERVER", "HOLDFAST_TOKEN", "HOLDFAST_EDGES"):
        monkeypatch.delenv(variable, raising=False)

    def command(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return command


def written(directory: Path, name: str, text: str) -> str:
    file = directory / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return str(file)


def test_a_contract_from_its_file_to_its_end(holdfast: Command, tmp_path: Path) -> None:
    service = "contract-life"
    contract = written(tmp_path, "contracts/web.yaml", CONTRACT.format(service=service))
    settings = written(tmp_path, "life.yaml", SETTINGS.format(service=service, many=49))
    wide = written(tmp_path, "wide.yaml", SETTINGS.format(service=service, many=50))

    code, _, err = holdfast("contract", "publish", contract)
    assert code == 1
    assert "unknown-service" in err
    assert holdfast("apply", settings, "--yes")[0] == 0
    code, out, _ = holdfast("can-deploy", contract, "-e", "production")
    assert (code, out.splitlines()[1].split("\t")) == (
        0,
        ["web with contract-life", "production", "yes"],
    )
    code, _, err = holdfast("contract", "publish", contract, "--version", "1.5.0")
    assert (code, "holds from revision" in err) == (0, True), err
    assert "stands so already" in holdfast("contract", "publish", contract, "--version", "1.5.0")[2]

    code, out, err = holdfast("can-deploy", wide)
    assert code == 1
    assert out.splitlines()[1].endswith("\tno")
    assert "contract-value" in err
    assert "`web`" in err
    assert holdfast("apply", wide, "--yes")[0] == 1
    code, out, _ = holdfast("can-deploy", settings, "--output", "json")
    assert (code, msgspec.json.decode(out)["ok"]) == (0, True)

    _, out, _ = holdfast("contract", "list", service)
    assert out.splitlines()[1].split("\t")[:3] == ["web", "1.5.0", "production"]
    _, out, _ = holdfast("contract", "show", service, "web")
    again = written(tmp_path, "shown.yaml", out)
    assert "stands so already" in holdfast("contract", "publish", again)[2]
    assert holdfast("can-deploy", "-s", service, "-c", "web")[0] == 0
    assert holdfast("can-deploy")[0] == 0
    assert holdfast("contract", "delete", service, "web")[0] == 0
    assert holdfast("apply", wide, "--yes")[0] == 0
    code, out, err = holdfast("can-deploy", contract)
    assert (code, "contract-value" in err) == (1, True)


def test_a_contract_of_a_programs_own_type(
    holdfast: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = "contract-type"
    settings = written(tmp_path, "type.yaml", SETTINGS.format(service=service, many=49))
    written(
        tmp_path,
        "reading_tiles.py",
        "import msgspec\nfrom typing import Annotated\n"
        "class Narrow(msgspec.Struct):\n    tiles: Annotated[int, msgspec.Meta(le=25)]\n"
        "class Wide(msgspec.Struct):\n    tiles: Annotated[int, msgspec.Meta(le=49)]\n",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert holdfast("apply", settings, "--yes")[0] == 0
    who = ("-s", service, "-c", "web", "-e", "production")
    assert holdfast("can-deploy", "reading_tiles:Narrow", *who)[0] == 1
    assert holdfast("contract", "publish", "reading_tiles:Narrow", *who)[0] == 1
    assert holdfast("contract", "publish", "reading_tiles:Wide", *who)[0] == 0
    assert holdfast("contract", "publish", "reading_tiles:Wide")[0] == 2
    assert holdfast("contract", "publish", "reading_tiles:Other", *who)[0] == 2
    assert holdfast("contract", "delete", service, "web")[0] == 0


def test_wrong_files_and_wrong_use_are_told(holdfast: Command, tmp_path: Path) -> None:
    bad = written(tmp_path, "bad.yaml", "service: a\nconsumer: web\nneeds: {x: {type: date}}\n")
    code, _, err = holdfast("contract", "publish", bad)
    assert code == 1
    assert "bad.yaml:3:" in err
    settings = written(tmp_path, "settings.yaml", SETTINGS.format(service="a", many=1))
    assert holdfast("contract", "publish", settings)[0] == 2
    assert holdfast("can-deploy", "--service", "a")[0] == 2
    assert holdfast("contract", "publish")[0] == 2


def test_the_example_is_kept_by_the_examples(holdfast: Command) -> None:
    folder = str(CONTOSO / "contracts")
    code, _, err = holdfast("contract", "publish", folder)
    assert code == 0, err
    assert holdfast("can-deploy", folder)[0] == 0
    code, _, err = holdfast("can-deploy", str(CONTOSO))
    assert code == 0, err
    assert holdfast("contract", "delete", "calling", "web-client")[0] == 0
