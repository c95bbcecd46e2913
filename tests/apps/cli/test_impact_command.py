"""`lint` and `impact` on the command line: what is printed, drawn and refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from holdfast.apps.cli import run
from holdfast.apps.cli.impact import check_picture, impact_lines, read_contexts, show
from holdfast.core.impact import Downstream, Impact, Move, Reached, SettingImpact, SubjectImpact

EXAMPLES = Path(__file__).parents[3] / "examples" / "contoso"
SECRET = "q83vEjRWeJCrze8BI0VniQ"
BAD = f"""\
service: shop
owners: [me]
attributes: {{tenant: string}}
settings:
  banner:
    type: object
    variants: {{a: {{password: {SECRET}}}, b: {{}}, c: {{}}}}
    environments:
      production:
        default: a
        rules:
          - {{serve: b}}
          - {{when: tenant == "x", serve: a}}
"""

Capture = pytest.CaptureFixture[str]


def test_lint_of_good_files_says_so(capfd: Capture) -> None:
    assert run(["lint", str(EXAMPLES)]) == 0
    assert "No findings" in capfd.readouterr().err


def test_lint_places_its_findings_and_shows_no_secret(tmp_path: Path, capfd: Capture) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(BAD)
    assert run(["lint", str(file)]) == 1
    told = capfd.readouterr().err
    assert f"{file}:7:" in told
    assert f"{file}:13:" in told
    for code in ("secret", "unreachable-variant", "dead-rule"):
        assert f"[{code}]" in told
    assert SECRET not in told


def test_lint_as_json(tmp_path: Path, capfd: Capture) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(BAD)
    assert run(["lint", str(file), "--output", "json"]) == 1
    found = json.loads(capfd.readouterr().out)["findings"]
    assert {each["line"] for each in found} == {7, 13}
    assert SECRET not in str(found)


def test_findings_are_warnings_of_a_check(tmp_path: Path, capfd: Capture) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(BAD)
    assert run(["check", str(file)]) == 0
    assert "3 warnings" in capfd.readouterr().err


def test_lint_takes_files_or_an_environment(capfd: Capture) -> None:
    assert run(["lint"]) == 2
    assert run(["lint", str(EXAMPLES), "--environment", "production"]) == 2


# Impact

REACHED = Reached(requests=1_200, percent=12.5, tenants=3, users=40)
FOUND = Impact(
    subjects=(
        SubjectImpact(
            environment="production",
            service="calling",
            seen=Reached(9_600, 100.0, 10, 500),
            moved=REACHED,
            settings=(
                SettingImpact(
                    "tiles", "calling", REACHED,
                    (Move(9, 49, "few", "many", REACHED, ({"tenant": "contoso"},)),),
                ),
                SettingImpact(
                    "gone", "calling", REACHED, (Move(True, None, "on", None, REACHED),),
                    removed=True,
                ),
            ),
            unmoved=2,
        ),
    ),
    downstream=(Downstream("production", "meetings", ("calling",), REACHED),),
    unseen=("production/chat",),
    seen=Reached(9_600, 100.0, 10, 500),
    moved=REACHED,
    notes=("A note.",),
)  # fmt: skip


def test_impact_as_text() -> None:
    text = click.unstyle("\n".join(impact_lines(FOUND)))
    for part in (
        "12.50 % of 9,600 seen requests move: 1,200 requests, 3 tenants, 40 users.",
        "production/calling  ███░",
        "9 -> 49: 1,200 requests, 3 tenants, 40 users",
        'as for {"tenant":"contoso"}',
        "(goes away)",
        "true -> the caller's default",
        "2 other settings differ and move nobody who was seen",
        "production: meetings -> calling; 12.50 % of its requests are by moved tenants",
        "Nothing was seen of production/chat",
        "A note.",
    ):
        assert part in text
    assert list(impact_lines(Impact())) == ["No answer moves."]


def test_impact_as_json(capfd: Capture) -> None:
    show(FOUND, "json", None)
    assert msgspec.json.decode(capfd.readouterr().out, type=Impact) == FOUND


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_impact_as_a_picture(tmp_path: Path, kind: str, capfd: Capture) -> None:
    file = tmp_path / f"impact.{kind}"
    show(FOUND, "text", file)
    first = file.read_bytes()
    assert first[:5] in {b"<?xml", b"\x89PNG\r"}
    assert str(file) in capfd.readouterr().err
    show(Impact(), "json", file)
    if kind == "svg":
        show(FOUND, "json", file)
        assert file.read_bytes() == first, "the same impact is the same picture"


def test_a_picture_that_can_not_be_drawn_is_wrong_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(click.UsageError, match=r"\.svg"):
        check_picture(Path("impact.gif"))
    with pytest.raises(click.UsageError, match="No such file"):
        show(FOUND, "json", tmp_path / "nowhere" / "impact.svg")
    find = importlib.util.find_spec

    def without(name: str, *more: Any) -> Any:
        return None if name == "matplotlib" else find(name, *more)

    monkeypatch.setattr("holdfast.apps.cli.picture.find_spec", without)
    with pytest.raises(click.UsageError, match="plots"):
        check_picture(Path("impact.svg"))


def test_contexts_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "contexts.jsonl"
    file.write_text('{"tenant": "a"}\n{"context": {"tenant": "b"}, "count": 7}\n')
    two = [{"context": {"tenant": "a"}}, {"context": {"tenant": "b"}, "count": 7}]
    assert read_contexts(file) == two
    file.write_text(json.dumps([{"tenant": "a"}, two[1]]))
    assert read_contexts(file) == two
    for wrong in ("{", "7", "[7]", '"x"'):
        file.write_text(wrong)
        with pytest.raises(click.UsageError, match=r"contexts\.jsonl"):
            read_contexts(file)
