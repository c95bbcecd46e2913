"""`holdfast export flagd --from`: settings files as flag definitions, with no control plane."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from holdfast import Client
from holdfast.apps.cli import run
from holdfast.core.errors import Damaged
from holdfast.core.limits import INLINE_MEMBERS_MAX

CALLING = """\
service: calling
includes: [shared]
settings:
  tiles:
    type: integer
    variants: {few: 9, many: 49}
    environments:
      production:
        default: few
        rules:
          - {when: tenant in segment("pilot"), serve: many}
          - {when: tenant in segment("large"), serve: many}
"""
SHARED = """\
service: shared
attributes: {tenant: string}
segments:
  pilot: {by: tenant, members: [contoso]}
  large: {by: tenant, members_file: large.txt}
settings:
  banner: {type: string, variants: {none: ""}, environments: {production: {default: none}}}
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two services, in a place from where no control plane is known."""
    monkeypatch.chdir(tmp_path)
    for name in ("HOLDFAST_SERVER", "HOLDFAST_DATA"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "settings"
    folder.mkdir()
    (folder / "calling.yaml").write_text(CALLING)
    (folder / "shared.yaml").write_text(SHARED)
    members = (f"tenant-{number}\n" for number in range(INLINE_MEMBERS_MAX + 1))
    (folder / "large.txt").write_text("".join(members))
    return folder


def test_a_program_is_tested_on_its_settings_files(tree: Path, tmp_path: Path) -> None:
    flags = tmp_path / "calling.json"
    assert run(["export", "flagd", "--from", str(tree), "-s", "calling", "--to", str(flags)]) == 0
    client = Client.from_file(flags)
    assert client.get_int("tiles", 0, {"tenant": "contoso"}) == 49
    assert client.get_int("tiles", 0, {"tenant": "tenant-7"}) == 49
    assert client.get_int("tiles", 0, {"tenant": "fabrikam"}) == 9
    assert client.get_str("banner", "default") == ""


def test_a_file_that_is_missing_is_asked_for(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", "flagd", "--from", str(tree / "calling.yaml"), "-s", "calling"]) == 1
    told = capsys.readouterr().err
    assert "there is no service `shared`" in told
    assert "give its file too" in told


def test_what_no_file_speaks_of_is_not_found(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", "flagd", "--from", str(tree), "-s", "calling"]
    assert run([*command, "-e", "staging"]) == 1
    assert "there is no staging/calling" in capsys.readouterr().err


def test_a_client_on_a_settings_file_says_how_to_get_there(tree: Path) -> None:
    as_json = tree / "calling.json"
    as_json.write_bytes(msgspec.json.encode({"service": "calling", "settings": {}}))
    for path in (tree / "calling.yaml", as_json):
        with pytest.raises(Damaged, match="holdfast export flagd --from"):
            Client.from_file(path)
