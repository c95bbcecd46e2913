"""`report.md`: a preliminary post-incident report, in the form that operators know from clouds.

What happened, when, who was affected, root cause, what stopped it; the figures against their bars,
the timeline, and pictures when matplotlib is there. Beside it `findings.json`, for `page`; a run
without protection leaves `unprotected.json` and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from holdfast.core.errors import Unavailable
from holdfast.gameday.drill import Chart, Drill, Findings, Note

PICTURE: Final = "timeline.svg"
FINDINGS: Final = "findings.json"
UNPROTECTED: Final = "unprotected.json"
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
    """Write `report.md`, its pictures and `findings.json` into `directory`; the report's path.

    Raises `Unavailable` when matplotlib is missing; the texts have been written by then.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "report.md"
    path.write_text("\n".join(_lines(drill, found)) + "\n", "utf-8")
    keep(found, directory / (FINDINGS if found.protected else UNPROTECTED))
    plot(drill, found, directory / PICTURE)
    for chart in found.charts:
        draw(chart, directory / f"{chart.name}.svg")
    return path


def keep(found: Findings, path: Path) -> None:
    """What a page tells of it: all but what the pictures and the report's timeline are made of."""
    charts = tuple(msgspec.structs.replace(chart, lines={}) for chart in found.charts)
    short = msgspec.structs.replace(found, notes=(), ticks=(), charts=charts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(short)) + b"\n")


def kept(path: Path) -> Findings | None:
    """What `keep` wrote; none where there is none, or of another build's shape."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Findings)
    except (OSError, msgspec.MsgspecError):
        return None


def _lines(drill: Drill, found: Findings) -> Iterator[str]:
    verdict = "PASS" if found.passed else "FAIL"
    began = datetime.fromtimestamp(found.began_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    kind = "the game day" if drill.outage else "the drill"
    part = f", a sample of {found.sample}" if found.sample else ""
    mode = "protections on" if found.protected else "protections off"
    yield f"# {drill.title}: {verdict}"
    yield ""
    yield (
        f"Preliminary post-incident report of {kind} `{drill.name}` "
        f"({mode}, seed {found.seed}{part}), of {found.build}."
    )
    yield from ("", "## What happened", "")
    if drill.outage:
        yield from (f"In public: {drill.outage}", "")
    if drill.promise:
        yield from (f"Promised: {drill.promise}", "")
    yield from (f"Here: {drill.rehearsal}", "")
    yield from ("## When", "", f"Began {began}, took {found.took_s:.0f} s.", "")
    yield from ("## Who was affected", "", f"{sentence(found.affected)}", "")
    yield from ("## Root cause", "", sentence(found.root_cause), "")
    yield from ("## What stopped it", "", sentence(found.stopped_by or "nothing"), "")
    yield from ("## Figures", "", *figures(found))
    for chart in found.charts:
        yield from ("", f"![{chart.title}]({chart.name}.svg)")
    yield from _faults(found)
    yield from ("", "## Timeline", "", f"![Answers at the clients, and what was done]({PICTURE})")
    yield from ("", "| s | | |", "|---|---|---|")
    for note in _cut(found.notes):
        yield f"| {note.at_s:.1f} | {note.kind} | {cell(note.text)} |"


def figures(found: Findings) -> Iterator[str]:
    """The table of what was measured, in Markdown."""
    yield from ("| measured | value | bar | |", "|---|---|---|---|")
    for figure in found.figures:
        holds = "holds" if figure.holds else "**missed**"
        holds += "" if figure.decides else ", not judged in short"
        yield f"| {cell(figure.name)} | {cell(figure.value)} | {cell(figure.bar)} | {holds} |"


def _faults(found: Findings) -> Iterator[str]:
    if not found.rows:
        return
    yield from ("", "## Faults, one by one", "")
    yield from ("| fault | in | blocked by | what it was |", "|---|---|---|---|")
    for row in sorted(found.rows, key=lambda row: (row.blocked, row.name)):
        by = cell(row.by) if row.blocked else f"**not blocked**: {cell(row.by)}"
        yield f"| `{cell(row.name)}` | {row.component} | {by} | {cell(row.text)} |"


def cell(value: object) -> str:
    """A value as it stands in a table of Markdown."""
    text = f"{value:,.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def sentence(text: str) -> str:
    """With a capital and a full stop."""
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


def draw(chart: Chart, path: Path) -> None:
    """One chart of a drill's own. Raises `Unavailable`."""
    figure = _figure()
    axes = figure.subplots()
    for name, points in chart.lines.items():
        axes.plot([x for x, _ in points], [y for _, y in points], label=name, lw=1.2)
    if chart.bar is not None:
        axes.axhline(chart.bar, color="#888888", ls="--", lw=1)
    axes.set_title(chart.title, fontsize=10)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    axes.set_ylim(bottom=0)
    if len(chart.lines) > 1:
        axes.legend(fontsize=8)
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
