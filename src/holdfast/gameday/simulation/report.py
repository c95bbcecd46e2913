"""The report folder of a run: report.md, result.json, what was asked, and the plots."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from holdfast.gameday.simulation.parameters import Parameters
from holdfast.gameday.simulation.plots import draw_all
from holdfast.gameday.simulation.results import Result
from holdfast.gameday.simulation.tables import headline, tables

REPORT: Final = "report.md"
RESULT: Final = "result.json"
ASKED: Final = "parameters.json"


def write_report(result: Result, asked: Parameters, directory: Path, kind: str) -> Path:
    """Write the folder, plots as `kind` (`svg` or `png`); the report's path.

    Raises `Unavailable` when matplotlib is missing; the texts have been written by then.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in ((RESULT, result), (ASKED, asked)):
        text = msgspec.json.format(msgspec.json.encode(value), indent=1)
        (directory / name).write_bytes(text + b"\n")
    path = directory / REPORT
    lines = [f"# Simulation `{result.name}`", "", f"{headline(result)}.", ""]
    for title, columns, rows in tables(result):
        lines += [f"## {title}", "", _row(columns), _row(("---",) * len(columns))]
        lines += [*map(_row, rows), ""]
    path.write_text("\n".join(lines), "utf-8")
    for title, name in draw_all(result, directory, kind):
        lines += [f"![{title}]({name})", ""]
    path.write_text("\n".join(lines), "utf-8")
    return path


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
