"""`holdfast verify`: a build is held to what was published before it is deployed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from a_data_dir import grown, opened, plant_a_defect, setting

from holdfast.apps.cli import run
from holdfast.core import replay
from holdfast.core.evaluate import Evaluator
from holdfast.core.model import PutSetting


def verified(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    code = run(["verify", *map(str, arguments), "--output", "json"])
    return code, msgspec.json.decode(capsys.readouterr().out)


def test_the_build_that_published_makes_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = verified(capsys, grown(tmp_path / "data", 4))
    assert (code, found["ok"]) == (0, True)
    assert found["revision"] == 5
    assert found["unrecorded"] == 0
    assert found["compared"] >= 4
    assert found["probes"] > 0


def test_it_reads_beside_a_running_node_and_of_a_read_only_backup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = grown(tmp_path / "data")
    with opened(data) as node:
        assert verified(capsys, data)[0] == 0
        node.commit(PutSetting("shop", "tiles", setting(30)))
        assert verified(capsys, data)[1]["revision"] == 5
    backup = tmp_path / "backup"
    backup.mkdir()
    shutil.copy(data / "journal.db", backup)
    backup.chmod(0o500)
    before = (backup / "journal.db").read_bytes()
    code, found = verified(capsys, backup / "journal.db")
    assert code == 0
    assert found["unrecorded"] == 1, "the newest digest is not in the journal yet"
    assert (backup / "journal.db").read_bytes() == before
    backup.chmod(0o700)


@pytest.mark.parametrize("last", [1, 100])
def test_a_build_with_a_defect_is_named_with_its_settings(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    last: int,
) -> None:
    data = grown(tmp_path / "data", 3)
    plant_a_defect(monkeypatch)
    code, found = verified(capsys, data, "--last", last)
    assert code == 1
    revisions = [one["revision"] for one in found["departures"]]
    assert revisions == ([4] if last == 1 else [2, 3, 4])
    assert found["departures"][-1]["settings"] == ["tiles"]


def test_an_evaluator_with_a_defect_fails_probes_and_recorded_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, answers = grown(tmp_path / "data"), tmp_path / "answers.jsonl"
    code, found = verified(capsys, data, "--record", answers)
    assert code == 0
    assert found["recorded"] == found["probes"] == len(answers.read_bytes().splitlines())
    with opened(data) as node:  # what was recorded is repeated at its own revision
        node.commit(PutSetting("shop", "tiles", setting(33)))
    code, found = verified(capsys, data, "--evaluations", answers, "--last", 1)
    assert (code, found["evaluations"]) == (0, len(answers.read_bytes().splitlines()))

    whole = Evaluator.evaluate

    def forgets_the_tenant(self: Evaluator, key: str, context: Any = {}) -> Any:  # noqa: B006
        return whole(self, key, {k: v for k, v in context.items() if k != "tenant"})

    monkeypatch.setattr(replay.Evaluator, "evaluate", forgets_the_tenant)
    code, found = verified(capsys, data, "--evaluations", answers)
    assert code == 1
    assert found["departures"] == []
    assert {key for one in found["failed_probes"] for key in one["settings"]} == {"rows", "tiles"}
    assert {one["key"] for one in found["moved"]} == {"rows", "tiles"}
    assert "contoso" in found["moved"][0]["how"]


def test_what_is_no_journal_and_no_record_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", str(tmp_path / "nothing")]) == 1
    assert "is not there" in capsys.readouterr().err
    (tmp_path / "journal.db").write_bytes(b"no database" * 100)
    assert run(["verify", str(tmp_path)]) == 1
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"environment": 1}\n')
    assert run(["verify", str(grown(tmp_path / "data")), "--evaluations", str(bad)]) == 1
    assert "bad.jsonl:1" in capsys.readouterr().err
