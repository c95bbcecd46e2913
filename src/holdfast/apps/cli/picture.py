"""Impact as a picture: a bar for each service and each of its widest settings. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from holdfast.core.impact import Impact, Reached

SUFFIXES = (".svg", ".png", ".pdf")
BARS_MAX = 40
SETTINGS_MAX = 8
"""Of one service."""
LABEL_CHARS_MAX = 48
SERVICE_COLOUR = "#1f4e79"
SETTING_COLOUR = "#7fa8cf"


def check(picture: Path) -> None:
    """Raises a usage error for a file of another kind, or without what draws it."""
    if picture.suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"{picture}: a picture ends in {', '.join(SUFFIXES)}.")
    if find_spec("matplotlib") is None:
        raise click.UsageError("A picture takes matplotlib: pip install 'holdfast[plots]'.")


def draw(found: Impact, picture: Path) -> None:
    """Draw into the file. Raises a usage error for one that can't be written."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "holdfast"  # the same impact is the same file
    from matplotlib.figure import Figure

    bars = list(_bars(found))[:BARS_MAX]
    figure = Figure(figsize=(9, 1.4 + 0.3 * max(len(bars), 1)), layout="constrained")
    axes: Any = figure.subplots()
    places = range(len(bars))
    axes.barh(
        places,
        [reached.percent for _, reached, _ in bars],
        color=[SETTING_COLOUR if inner else SERVICE_COLOUR for _, _, inner in bars],
    )
    axes.set_yticks(places, [label for label, _, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("seen requests that move, percent")
    for place, (_, reached, _) in zip(places, bars, strict=True):
        inside = reached.percent > 70
        axes.annotate(
            f"{reached.percent:.1f} %, {reached.users:,} users, {reached.tenants:,} tenants",
            (reached.percent, place),
            xytext=(-4 if inside else 4, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center",
            fontsize=7,
            color="white" if inside else "black",
        )
    axes.set_title(_title(found), fontsize=10)
    metadata = {"Date": None} if picture.suffix.lower() == ".svg" else None
    try:
        figure.savefig(picture, dpi=150, metadata=metadata)
    except OSError as failed:
        raise click.UsageError(f"{picture}: {failed.strerror or failed}") from None


def _bars(found: Impact) -> Iterator[tuple[str, Reached, bool]]:
    """(label, how many, whether it is a setting) from top to bottom."""
    for subject in sorted(found.subjects, key=lambda one: -one.moved.percent):
        yield f"{subject.environment}/{subject.service}", subject.moved, False
        for one in subject.settings[:SETTINGS_MAX]:
            yield _cut(one.key) + (" (new)" if one.added else ""), one.reached, True


def _title(found: Impact) -> str:
    moved, seen = found.moved, found.seen
    if not found.subjects:
        return "No answer moves"
    return f"{moved.percent:.2f} % of {seen.requests:,} seen requests move: {moved.users:,} users"


def _cut(text: str) -> str:
    return text if len(text) <= LABEL_CHARS_MAX else f"{text[: LABEL_CHARS_MAX - 1]}…"
