"""`report.md`: a preliminary post-incident report, in the form that operators know from clouds.

What happened, when, who was affected, root cause, what stopped it; the figures against their bars,
the timeline, and a picture of it when matplotlib is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from holdfast.core.errors import Unavailable
from holdfast.gameday.drill import Drill, Findings, Note

PICTURE: Final = "timeline.svg"
NOTES_MAX: Final = 60
"""Of the timeline in the report; a longer one is cut in its middle."""
_COLOURS: Final = {
    "step": "#888888",
    "fault": "#c0392b",
    "blocked": "#2471a3",
    "damage": "#7b241c",
    "recovered": "#1e8449",
}


def write_report(drill: Drill, found: Findings, directory: Path) -> Path:
    """Write `report.md` and its picture into `directory`; the report's path.

    Raises `Unavailable` when matplotlib is missing; the text has been written by then.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "report.md"
    path.write_text("\n".join(_lines(drill, found)) + "\n", "utf-8")
    plot(drill, found, directory / PICTURE)
    return path


def _lines(drill: Drill, found: Findings) -> Iterator[str]:
    verdict = "PASS" if found.passed else "FAIL"
    began = datetime.fromtimestamp(found.began_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    mode = "protections on" if found.protected else "protections off"
    yield f"# {drill.title}: {verdict}"
    yield ""
    yield (
        f"Preliminary post-incident report of the game day `{drill.name}` "
        f"({mode}, seed {found.seed}), of {found.build}."
    )
    yield ""
    yield from ("## What happened", "", f"In public: {drill.outage}", "")
    yield from (f"Here: {drill.rehearsal}", "")
    yield from ("## When", "", f"Began {began}, took {found.took_s:.0f} s.", "")
    yield from ("## Who was affected", "", f"{_sentence(found.affected)}", "")
    yield from ("## Root cause", "", _sentence(found.root_cause), "")
    yield from ("## What stopped it", "", _sentence(found.stopped_by or "nothing"), "")
    yield from ("## Figures", "", "| measured | value | bar | |", "|---|---|---|---|")
    for figure in found.figures:
        holds = "holds" if figure.holds else "**missed**"
        yield f"| {_cell(figure.name)} | {_cell(figure.value)} | {_cell(figure.bar)} | {holds} |"
    yield from _faults(found)
    yield from ("", "## Timeline", "", f"![Answers at the clients, and what was done]({PICTURE})")
    yield from ("", "| s | | |", "|---|---|---|")
    for note in _cut(found.notes):
        yield f"| {note.at_s:.1f} | {note.kind} | {_cell(note.text)} |"


def _faults(found: Findings) -> Iterator[str]:
    if not found.rows:
        return
    yield from ("", "## Faults, one by one", "")
    yield from ("| fault | in | blocked by | what it was |", "|---|---|---|---|")
    for row in sorted(found.rows, key=lambda row: (row.blocked, row.name)):
        by = _cell(row.by) if row.blocked else f"**not blocked**: {_cell(row.by)}"
        yield f"| `{_cell(row.name)}` | {row.component} | {by} | {_cell(row.text)} |"


def _cell(value: object) -> str:
    text = f"{value:,.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".") if text else "Unknown."


def _cut(notes: Sequence[Note]) -> list[Note]:
    if len(notes) <= NOTES_MAX:
        return list(notes)
    half = NOTES_MAX // 2
    middle = Note(notes[half].at_s, "step", f"… {len(notes) - 2 * half} lines left out …")
    return [*notes[:half], middle, *notes[-half:]]


def plot(drill: Drill, found: Findings, path: Path) -> None:
    """Answers at the clients in time, and what was done when. Raises `Unavailable`."""
    figure = _figure()
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    times = [tick.at_s for tick in found.ticks]
    above.stackplot(
        times,
        [tick.answered - tick.wrong - tick.failed for tick in found.ticks],
        [tick.wrong for tick in found.ticks],
        [tick.failed for tick in found.ticks],
        labels=("right", "wrong", "failed"),
        colors=("#7fb3d5", "#c0392b", "#f5b041"),
    )
    above.set_ylabel("answers per half second")
    if times:
        above.legend(loc="upper right", fontsize=8)
    verdict = "PASS" if found.passed else "FAIL"
    mode = "protected" if found.protected else "unprotected"
    above.set_title(f"{drill.name}, {mode}: {verdict}", fontsize=10)
    kinds = list(_COLOURS)
    for note in found.notes:
        below.plot(note.at_s, kinds.index(note.kind), "|", color=_COLOURS[note.kind], ms=9, mew=1.5)
    below.set_yticks(range(len(kinds)), kinds, fontsize=8)
    below.set_ylim(-0.7, len(kinds) - 0.3)
    below.set_xlabel("seconds since the drill began")
    figure.savefig(path, metadata={"Date": None})


def _figure() -> Any:
    try:
        from matplotlib import rcParams
        from matplotlib.figure import Figure
    except ImportError:
        raise Unavailable(
            "the picture needs matplotlib: install holdfast[plots]; report.md is written"
        ) from None
    rcParams["svg.hashsalt"] = "holdfast"
    return Figure(figsize=(9, 4.2), layout="constrained")


def overview(all_found: Sequence[tuple[Drill, Findings, str]], folder: str) -> str:
    """Several drills on one page; their reports lie in `folder` beside it, each in its own."""
    lines = [
        "# Reliability: what the game days measured",
        "",
        "Public outages, replayed against real processes on one machine; written by",
        f"`holdfast gameday run all --report docs/{folder}`;",
        "[how to run them](howto/game-days.md).",
        "",
        "| game day | verdict | took | of what |",
        "|---|---|---|---|",
    ]
    for drill, found, place in all_found:
        verdict = "PASS" if found.passed else "FAIL"
        mode = "" if found.protected else " (unprotected)"
        report = f"{folder}/{place}/report.md"
        row = f"| [{drill.name}]({report}){mode} | {verdict} | {found.took_s:.0f} s "
        lines.append(f"{row}| {_cell(drill.title)} |")
    for drill, found, place in all_found:
        lines += ["", f"## {drill.title}", "", _sentence(drill.rehearsal)]
        lines += ["", "| measured | value | bar | |", "|---|---|---|---|"]
        lines += [
            f"| {_cell(each.name)} | {_cell(each.value)} | {_cell(each.bar)} "
            f"| {'holds' if each.holds else '**missed**'} |"
            for each in found.figures
        ]
        lines += ["", f"What stopped it: {_sentence(found.stopped_by or 'nothing')}"]
        lines += ["", f"![{drill.name}]({folder}/{place}/{PICTURE})"]
    return "\n".join(lines) + "\n"
