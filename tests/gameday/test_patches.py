"""Seeded defects: read, applied, and refused when they can't be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import holdfast
from holdfast.core.errors import Invalid
from holdfast.gameday.patches import apply, defects, own, parse, patched_tree
from holdfast.gameday.scenarios.ecs_2022 import DEFECTS_MIN

PATCH = """Title: one is two
Component: edge
What: a digit

--- a/holdfast/core/thing.py
+++ b/holdfast/core/thing.py
@@ -2,3 +2,3 @@
 before
-one
+two
 after
"""
TEXT = "head\nbefore\none\nafter\ntail\n"


def test_there_are_enough_and_every_one_applies_to_the_sources_as_they_are(tmp_path: Path) -> None:
    found = defects(own("defects"))
    assert len(found) >= DEFECTS_MIN
    assert {"control", "edge", "sdk"} == Counter(defect.component for defect in found).keys()
    package = Path(holdfast.__file__).parent.parent
    for defect in [*found, *defects(own("unprotected"))]:
        for path, hunks in defect.hunks.items():
            before = (package / path).read_text()
            assert apply(defect.name, path, before, hunks) != before


def test_a_tree_is_patched_and_the_running_build_is_not(tmp_path: Path) -> None:
    [defect] = [each for each in defects(own("defects")) if each.name == "control-wrong-default"]
    original = Path(holdfast.__file__).parent / "core" / "build.py"
    before = original.read_text()
    tree = patched_tree(tmp_path, defect)
    assert original.read_text() == before
    assert (tree / "holdfast" / "core" / "build.py").read_text() != before
    same = tree / "holdfast" / "core" / "wire.py"
    assert same.read_text() == original.with_name("wire.py").read_text()


def test_a_patch_finds_its_place_when_lines_have_moved() -> None:
    hunks = parse("p", PATCH).hunks["holdfast/core/thing.py"]
    assert apply("p", "f", TEXT, hunks) == TEXT.replace("one", "two")
    moved = "new\n" * 20 + TEXT
    assert apply("p", "f", moved, hunks) == moved.replace("one", "two")


def test_a_patch_bears_other_lines_around_it() -> None:
    hunks = parse("p", PATCH).hunks["holdfast/core/thing.py"]
    other = TEXT.replace("before", "else").replace("after", "otherwise")
    assert apply("p", "f", other, hunks) == other.replace("one", "two")


@pytest.mark.parametrize("text", ["head\nbefore\nthree\nafter\n", TEXT + TEXT])
def test_a_patch_that_has_no_place_or_two_is_refused_by_name(text: str) -> None:
    hunks = parse("p", PATCH).hunks["holdfast/core/thing.py"]
    with pytest.raises(Invalid, match="no longer applies") as refused:
        apply("p", "f", text, hunks)
    [problem] = refused.value.problems
    assert (problem.code, problem.file) == ("stale-patch", "p.patch")


@pytest.mark.parametrize(
    "text",
    [
        "",
        PATCH.replace("Title: ", "Titel: "),
        PATCH.replace("Component: edge", "Component: moon"),
        PATCH.replace("holdfast/core/thing.py", "../../etc/passwd"),
        PATCH.replace("holdfast/core/thing.py", "holdfast/../../x.py"),
    ],
)
def test_what_is_no_patch_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.patch").write_text(text)
    with pytest.raises(Invalid) as refused:
        defects(tmp_path)
    assert refused.value.problems[0].code == "bad-patch"
