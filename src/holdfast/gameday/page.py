"""One page of all drills: the game days and the rows of "Faults and promises", as far as they ran.

Each run leaves its findings beside its report; the page is made of what lies there. So a long row
may run today and a short one tomorrow, and each says when it ran, and of which build.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from holdfast.gameday import promises, scenarios
from holdfast.gameday.drill import Drill, Findings
from holdfast.gameday.report import FINDINGS, PICTURE, UNPROTECTED, cell, figures, kept, sentence


class Ran(msgspec.Struct, frozen=True):
    """A drill, its last run, and its last run without protection where there was one."""

    drill: Drill
    found: Findings
    bare: Findings | None


def every_name() -> tuple[str, ...]:
    """Of all rows, then of all game days; what is both is named once."""
    return (*promises.MODULES, *(n for n in scenarios.MODULES if n not in promises.MODULES))


def find(name: str) -> Drill:
    """A row or a game day. Raises `Invalid` for a name that none has."""
    return (scenarios.drill if name in scenarios.MODULES else promises.promise)(name)


def ran(directory: Path) -> list[Ran]:
    """What lies in `directory`, each drill below its name, in the order of the registries."""
    found = [(name, kept(directory / name / FINDINGS)) for name in every_name()]
    return [
        Ran(find(name), one, kept(directory / name / UNPROTECTED)) for name, one in found if one
    ]


def page(directory: Path) -> str:
    """The page, in Markdown, to lie beside `directory`."""
    runs = ran(directory)
    lines = [
        "# Reliability: what the drills measured",
        "",
        'Public outages replayed, and every fault of the table "Faults and promises" injected,',
        "with real processes and sockets on one machine. Written by `make drill`;",
        "[how to run them](howto/game-days.md).",
        "",
        "| drill | what | verdict | figures that hold | without protection | took | ran | build |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(one, directory.name) for one in runs),
    ]
    for one in runs:
        lines += ["", *_section(one, directory.name)]
    return "\n".join(lines) + "\n"


def _row(one: Ran, folder: str) -> str:
    drill, found = one.drill, one.found
    hold = sum(figure.holds for figure in found.figures)
    cells = (
        f"[{drill.name}]({folder}/{drill.name}/report.md)",
        drill.title,
        _verdict(found) + (f" (sample of {found.sample})" if found.sample else ""),
        f"{hold} of {len(found.figures)}",
        _verdict(one.bare) if one.bare else "",
        f"{found.took_s:.0f} s",
        datetime.fromtimestamp(found.began_s, UTC).strftime("%Y-%m-%d %H:%M"),
        found.build,
    )
    return f"| {' | '.join(cell(each) for each in cells)} |"


def _verdict(found: Findings) -> str:
    return "PASS" if found.passed else "**FAIL**" if found.protected else "FAIL"


def _section(one: Ran, folder: str) -> Iterator[str]:
    drill, found = one.drill, one.found
    yield from (f"## {drill.title}", "")
    if drill.promise:
        yield from (f"Promised: {sentence(drill.promise)}", "")
    yield from (sentence(drill.rehearsal), "", *figures(found))
    if one.bare:
        missed = [f"{f.name}: {f.value}" for f in one.bare.figures if not f.holds]
        yield from ("", f"Without protection: {cell('; '.join(missed)) or 'nothing missed'}.")
    yield from ("", f"What stopped it: {sentence(found.stopped_by or 'nothing')}")
    pictures = [(c.title, f"{c.name}.svg") for c in found.charts]
    if not pictures:
        pictures = [(drill.name, PICTURE)]
    for title, picture in pictures:
        yield from ("", f"![{title}]({folder}/{drill.name}/{picture})")
