"""Seeded defects: unified diffs with a header, applied to a copy of the sources of this build.

    Title: the last rule of a setting is dropped
    Component: control
    What: rules are counted from one, and the loop ends one early

    --- a/holdfast/core/lower.py
    +++ b/holdfast/core/lower.py
    @@ -65,3 +65,3 @@
     …

Anybody adds one by putting a file into `defects/`; it must change an answer (`proof`). Applying
needs no other program: lines may have moved, and up to two lines of context at each end of a hunk
may differ, but what a hunk replaces must be there exactly once.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast

import msgspec

import holdfast
from holdfast.core.errors import Invalid, Problem

Component: TypeAlias = Literal["control", "edge", "sdk"]

COMPONENTS: Final = ("control", "edge", "sdk")
FUZZ_MAX: Final = 2
PATCHES_MAX: Final = 1_000
_HUNK: Final = re.compile(r"^@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")
_HEADER: Final = re.compile(r"^(Title|Component|What): (.+)$")


class Hunk(msgspec.Struct, frozen=True):
    """`old` is replaced by `new`, near `line`; `lead` and `trail` are lines of context around."""

    line: int
    old: tuple[str, ...]
    new: tuple[str, ...]
    lead: int
    trail: int


class Defect(msgspec.Struct, frozen=True):
    """One patch; `hunks` by path below the directory of packages (`holdfast/core/…`)."""

    name: str
    title: str
    component: Component
    what: str
    hunks: dict[str, tuple[Hunk, ...]]


def own(folder: str) -> Path:
    """A folder of the package's own patches: `defects`, or `unprotected`."""
    return Path(str(files("holdfast.gameday") / folder))


def defects(place: Path) -> list[Defect]:
    """All patches of a directory, by name.

    Raises `Invalid` with every file that is no patch with a header.
    """
    found: list[Defect] = []
    problems: list[Problem] = []
    for path in sorted(place.glob("*.patch"))[:PATCHES_MAX]:
        try:
            found.append(parse(path.stem, path.read_text("utf-8")))
        except Invalid as error:
            problems += error.problems
    if problems:
        raise Invalid(problems)
    return found


def parse(name: str, text: str) -> Defect:
    """Read a patch. Raises `Invalid`."""
    head, separator, diff = text.partition("\n--- ")
    facts = {m[1]: m[2] for line in head.splitlines() if (m := _HEADER.match(line))}
    if not separator or len(facts) < 3 or facts["Component"] not in COMPONENTS:
        raise _bad(name, "a patch begins with Title:, Component: control|edge|sdk and What:")
    hunks: dict[str, tuple[Hunk, ...]] = {}
    for part in ("\n--- " + diff).split("\n--- ")[1:]:
        _, target, *lines = part.splitlines()
        path = target.removeprefix("+++ ").split("\t")[0].removeprefix("b/")
        if not path.startswith("holdfast/") or ".." in path:
            raise _bad(name, f"it changes {path!r}: only files below holdfast/ may be changed")
        hunks[path] = tuple(_hunks(lines))
    return Defect(name, facts["Title"], cast("Component", facts["Component"]), facts["What"], hunks)


def _hunks(lines: Sequence[str]) -> Iterator[Hunk]:
    begins = [number for number, line in enumerate(lines) if _HUNK.match(line)]
    for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        body = [line for line in lines[begin + 1 : end] if not line.startswith("\\")]
        kinds = [line[:1] or " " for line in body]
        changed = [number for number, kind in enumerate(kinds) if kind in "+-"]
        match = _HUNK.match(lines[begin])
        yield Hunk(
            line=int(match[1]) if match else 0,
            old=tuple(line[1:] for line, kind in zip(body, kinds, strict=True) if kind in " -"),
            new=tuple(line[1:] for line, kind in zip(body, kinds, strict=True) if kind in " +"),
            lead=changed[0] if changed else 0,
            trail=len(body) - 1 - changed[-1] if changed else 0,
        )


def patched_tree(to: Path, *patches: Defect) -> Path:
    """A copy of the running build's sources below `to`, patched; what to put before `sys.path`.

    Raises `Invalid` when the patch does not apply any more.
    """
    package = Path(holdfast.__file__).parent
    shutil.copytree(package, to / "holdfast", copy_function=_linked, dirs_exist_ok=True)
    for patch in patches:
        for path, hunks in patch.hunks.items():
            target = to / path
            if not target.is_file():
                raise _stale(patch.name, path, "the file is gone")
            text = apply(patch.name, path, target.read_text("utf-8"), hunks)
            target.unlink()  # it may be a link to the file of the running build
            target.write_text(text, "utf-8")
    return to


def _linked(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # another file system
        shutil.copy2(source, target)


def apply(name: str, path: str, text: str, hunks: Sequence[Hunk]) -> str:
    """The text with all hunks applied. Raises `Invalid`."""
    lines = text.splitlines()
    for hunk in hunks:
        place = _find(lines, hunk)
        if place is None:
            wanted = hunk.old[hunk.lead] if hunk.old else ""
            raise _stale(name, path, f"near line {hunk.line}, {wanted.strip()!r} is not there once")
        at, skip, cut = place
        end = len(hunk.new) - cut
        lines[at : at + len(hunk.old) - skip - cut] = hunk.new[skip:end]
    return "\n".join(lines) + "\n"


def _find(lines: Sequence[str], hunk: Hunk) -> tuple[int, int, int] | None:
    """(where, context left out before, and after); none when it is nowhere, or twice alike."""
    for fuzz in range(FUZZ_MAX + 1):
        skip, cut = min(fuzz, hunk.lead), min(fuzz, hunk.trail)
        wanted = list(hunk.old[skip : len(hunk.old) - cut])
        found = [
            at
            for at in range(len(lines) - len(wanted) + 1)
            if lines[at : at + len(wanted)] == wanted
        ]
        if len(found) == 1:
            return found[0], skip, cut
        if found:
            return None
    return None


def _bad(name: str, message: str) -> Invalid:
    hint = "see the other files of that directory"
    return Invalid([Problem(code="bad-patch", message=message, file=f"{name}.patch", hint=hint)])


def _stale(name: str, path: str, message: str) -> Invalid:
    problem = Problem(
        code="stale-patch",
        message=f"it no longer applies to {path}: {message}",
        file=f"{name}.patch",
        hint="write the defect anew against the sources as they are, or drop it",
    )
    return Invalid([problem])
