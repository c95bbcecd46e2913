"""How a page of figures is written: tables, numbers, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
OURS = "#0b7285"
"""The colour of Holdfast in every picture."""
FLOOR = "#adb5bd"
OTHER = "#e8590c"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if value >= 1000:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def save(figure: Any, name: str) -> None:
    import matplotlib.pyplot as plt

    folder = DOCS / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
    plt.close(figure)
