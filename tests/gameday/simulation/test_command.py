"""`holdfast simulate`, as people and programs call it."""

from __future__ import annotations

import json
from pathlib import Path

from holdfast.apps.cli import PROBLEMS_FOUND, WRONG_USE, run

FLEET = """\
clients: 40
run_s: 40
settle_s: 20
start_within_s: 5
settings: 2
pace: {poll_interval_s: 5}
regions:
  - {name: eu, share: 0.5, edges: 1}
  - {name: us, share: 0.5, edges: 1}
happenings:
  - {kind: change, at_s: 5}
  - {kind: outage, at_s: 10, for_s: 10, region: us}
  - {kind: rollout, at_s: 12, requests_per_s: 5, stages: [{percent: 100, bake_s: 5}]}
"""


def test_a_run_is_data_for_programs_and_a_folder_for_people(tmp_path: Path, capsys) -> None:
    file, folder = tmp_path / "fleet.yaml", tmp_path / "report"
    file.write_text(FLEET, "utf-8")
    assert run(["simulate", "run", str(file), "--report", str(folder), "-o", "json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["name"], result["clients"], result["counted"]) == ("fleet", 40, True)
    plots = {"busy.svg", "clients.svg", "propagation.svg", "requests.svg", "rollouts.svg"}
    assert {each.name for each in folder.iterdir()} == plots | {
        "parameters.json",
        "report.md",
        "result.json",
    }
    report = (folder / "report.md").read_text("utf-8")
    assert all(f"({name})" in report for name in plots)
    assert "us killed" in report
    assert json.loads((folder / "result.json").read_text("utf-8")) == result


def test_a_file_that_is_wrong_is_told_and_nothing_is_played(tmp_path: Path, capsys) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET.replace("region: us", "region: mars"), "utf-8")
    assert run(["simulate", "run", str(file)]) == PROBLEMS_FOUND
    said = capsys.readouterr().err
    assert "there is no region mars" in said
    assert f"{file}:12:" in said
    assert run(["simulate", "run", str(file.with_name("none.yaml"))]) == WRONG_USE
    file.write_text(FLEET, "utf-8")
    assert run(["simulate", "run", str(file), "--clients", "0"]) == WRONG_USE
