"""Style as a test: what a reviewer would otherwise have to say again and again."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "holdfast"
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "base", "tools"}
PRINTS = ("apps/cli", "gameday/command.py", "gameday/simulation/command.py")
"""The only places whose business is to print."""
BEFORE_THREADS = ("apps/provision.py", "engine/backup.py")
"""What runs in one thread: the first start, a backup."""
NAMED_IN_TEXT = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")

MODULES = sorted(path for path in SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return {name_of(path): ast.parse(path.read_text()) for path in MODULES}


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_modules_stay_short_enough_to_be_read_at_once() -> None:
    long = {
        name_of(path): lines
        for path in MODULES
        if (lines := path.read_text().count("\n")) > MODULE_LINES_MAX
    }
    assert long == {}


def test_functions_fit_on_a_screen(trees: dict[str, ast.Module]) -> None:
    long = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in trees.items()
        for node in functions(tree)
        if (node.end_lineno or node.lineno) - node.lineno >= FUNCTION_LINES_MAX
    ]
    assert long == []


def test_module_names_say_what_is_inside() -> None:
    assert [name_of(path) for path in MODULES if path.stem in SAYS_NOTHING] == []
    assert [name_of(path) for path in MODULES if path.parent.name in SAYS_NOTHING] == []


def test_every_module_says_what_it_is_for(trees: dict[str, ast.Module]) -> None:
    silent = [name for name, tree in trees.items() if tree.body and not ast.get_docstring(tree)]
    assert silent == []


def test_only_the_cli_prints(trees: dict[str, ast.Module]) -> None:
    printing = [
        f"{name}:{node.lineno}"
        for name, tree in trees.items()
        if not name.startswith(PRINTS)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == "print")
            or (isinstance(node.func, ast.Attribute) and ast.unparse(node.func) == "click.echo")
        )
    ]
    assert printing == []


def test_only_the_apps_and_game_days_are_async(trees: dict[str, ast.Module]) -> None:
    asynchronous = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in trees.items()
        if not name.startswith(("apps/", "gameday/"))
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef)
    ]
    assert asynchronous == []


def test_decoders_are_made_before_threads_need_them(trees: dict[str, ast.Module]) -> None:
    """msgspec learns a type at its first use, and dies of two threads that both are the first."""
    calls = [
        f"{name}:{node.lineno}"
        for name, tree in trees.items()
        if not name.startswith(("apps/cli", "gameday")) and name not in BEFORE_THREADS
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "decode"
        and any(each.arg == "type" for each in node.keywords)
    ]
    assert calls == []


def test_there_is_one_write_door(trees: dict[str, ast.Module]) -> None:
    writing = [
        name
        for name, tree in trees.items()
        if not name.startswith(("adapters/", "gameday/"))  # drills force entries past the door
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "append"
        and "journal" in ast.unparse(node.func.value)
    ]
    # the first is the port on another one, and hands on what the door appends
    assert writing == ["apps/control/store_metrics.py", "engine/publish.py"]


def test_nothing_is_left_for_later_in_a_comment() -> None:
    later = [
        f"{name_of(path)}:{number}"
        for path in MODULES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if NAMED_IN_TEXT.search(line)
    ]
    assert later == []


def test_every_exemption_from_lint_names_its_rule() -> None:
    bare = [
        f"{name_of(path)}:{number}"
        for path in MODULES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"#\s*(noqa(?!:)|type: ignore(?!\[))", line)
    ]
    assert bare == []


def test_decision_records_are_numbered_and_listed() -> None:
    folder = ROOT / "docs" / "adr"
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [int(name[:3]) for name in records] == list(range(1, len(records) + 1))
    index = (folder / "index.md").read_text()
    assert [name for name in records if f"({name})" not in index] == []


def test_links_between_our_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert dead == []


def test_every_page_is_found_from_the_index() -> None:
    folder = ROOT / "docs"
    index = (folder / "index.md").read_text()
    pages = {page.relative_to(folder).as_posix() for page in folder.rglob("*.md")}
    of_their_own_index = {page for page in pages if re.match(r"adr/\d|reliability/", page)}
    wanted = pages - of_their_own_index - {"index.md"}
    assert {page for page in wanted if f"]({page})" not in index} == set()


def test_the_layers_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    held = subprocess.run(
        [linter, "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert held.returncode == 0, held.stdout


def test_a_layer_that_is_broken_would_be_seen(tmp_path: Path) -> None:
    """With the protection fed a core that reads the clock, it refuses: the contract can fail."""
    package = tmp_path / "holdfast"
    for layer in ("core", "engine", "adapters", "sdk", "apps", "gameday"):
        (package / layer).mkdir(parents=True)
        (package / layer / "__init__.py").touch()
    for module in ("core/authoring", "core/cel", "adapters/sqlite_journal"):
        (package / f"{module}.py").touch()
    (package / "__init__.py").touch()
    (package / "ports.py").touch()
    (package / "core" / "clock.py").write_text("import time\n")
    linter = Path(sys.executable).with_name("lint-imports")
    held = subprocess.run(
        [linter, "--no-logo", "--no-cache", "--config", str(ROOT / "pyproject.toml")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert held.returncode != 0
    assert "holdfast.core.clock" in held.stdout
