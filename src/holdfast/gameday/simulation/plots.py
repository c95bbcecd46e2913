"""The plots of a result (matplotlib, from the extra `plots`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from holdfast.core.errors import Unavailable
from holdfast.gameday.simulation.results import Curve, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = ("#2c6fbb", "#c0392b", "#1e8449", "#b7770d", "#6c3483", "#117a8b", "#7f8c8d")
SHADE: Final = "#ffe3e3"
OTHERS: Final = "#ced4da"
LABELLED_MAX: Final = 7
"""Lines of one plot with a name of their own."""
DECADE: Final = 10.0


def draw_all(result: Result, directory: Path, kind: str) -> list[tuple[str, str]]:
    """Write the plots; (title, file name) of each. Raises `Unavailable` without matplotlib."""
    plots: list[tuple[str, str, Callable[[Axes, Result], object]]] = [
        ("Requests per second at the edges, by region", "requests", _requests),
        ("How changes reach the clients", "propagation", _propagation),
        ("CPU of the servers of each layer", "busy", _busy),
        ("Clients that are answered and that listen", "clients", _clients),
    ]
    if result.rollouts:
        plots.append(("Stages of the rollouts", "rollouts", _rollouts))
    return [
        (title, _draw(result, directory / f"{name}.{kind}", title, plot))
        for title, name, plot in plots
    ]


def _draw(result: Result, path: Path, title: str, plot: Callable[[Any, Result], object]) -> str:
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise Unavailable("plots need matplotlib: pip install 'holdfast[simulation]'") from None
    with mpl.rc_context({"svg.hashsalt": "holdfast"}):  # the same picture in the same bytes
        figure = Figure(figsize=(8, 3.8), layout="constrained")
        axis = figure.subplots()
        plot(axis, result)
        axis.yaxis.set_major_formatter("{x:,.10g}")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
        axis.set_title(title, fontsize=10, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#ececec", zorder=0)
        handles, _ = axis.get_legend_handles_labels()
        if handles:
            axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=150, metadata=metadata)
    return path.name


def _times(result: Result, points: int) -> list[float]:
    return [number * result.slot_s for number in range(points)]


def _shade(axis: Axes, result: Result) -> None:
    """Outages, and the moments of commits."""
    for number, herd in enumerate(result.herds):
        label = "outage" if not number else None
        axis.axvspan(herd.began_s, herd.healed_s, color=SHADE, zorder=0, label=label)
    commits = sorted({each.at_s for each in result.propagation})
    for number, at_s in enumerate(commits):
        label = "commit" if not number else None
        axis.axvline(at_s, color="#adb5bd", lw=0.8, ls=":", zorder=1, label=label)
    axis.set_xlim(0, result.run_s)
    axis.set_xlabel("seconds")


def _of(result: Result, layer: str) -> list[Curve]:
    return [curve for curve in result.curves if curve.layer == layer]


def _lines(axis: Axes, result: Result, lines: Sequence[tuple[str, Sequence[float]]]) -> None:
    """One line by slot for each; those without a name of their own behind the others, in grey."""
    for number, (name, values) in enumerate(lines):
        named = number < LABELLED_MAX
        others = f"{len(lines) - LABELLED_MAX} more" if number == LABELLED_MAX else None
        axis.plot(
            _times(result, len(values)),
            values,
            lw=1.2,
            label=name if named else others,
            color=COLOURS[number] if named else OTHERS,
            zorder=2 if named else 1.5,
        )


def _requests(axis: Axes, result: Result) -> None:
    curves = _of(result, "edges")
    _lines(axis, result, [(curve.region, curve.requests_per_s) for curve in curves])
    refused = [sum(at) for at in zip(*(curve.refused_per_s for curve in curves), strict=True)]
    if any(refused):
        axis.plot(
            _times(result, len(refused)), refused, lw=1, ls="--", color="#000000", label="refused"
        )
    _shade(axis, result)
    levels = [value for curve in curves for value in curve.requests_per_s]
    middle = sorted(levels)[len(levels) // 2] if levels else 0.0
    if levels and max(levels) > 20 * max(middle, 1.0):
        axis.set_yscale("symlog", linthresh=max(middle, 1.0))
    axis.set_ylim(bottom=0)
    axis.set_ylabel("requests/s")


def _propagation(axis: Axes, result: Result) -> None:
    for number, (name, points) in enumerate(result.cdfs.items()):
        axis.plot(
            [max(at, 1e-3) for at, _ in points],
            [100 * share for _, share in points],
            lw=1.3,
            label=name,
            color=COLOURS[number % len(COLOURS)],
        )
    times = [at for points in result.cdfs.values() for at, _ in points]
    if times and max(times) > DECADE * max(min(times), 1e-3):
        from matplotlib.ticker import LogLocator

        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    else:
        axis.set_xlim(left=0)
    axis.set_ylim(0, 101)
    axis.set(xlabel="seconds after the commit", ylabel="% of the clients reached")


def _busy(axis: Axes, result: Result) -> None:
    lines = [
        (f"{curve.layer} {curve.region}".strip(), [100 * share for share in curve.busy])
        for curve in result.curves
    ]
    _lines(axis, result, lines)
    _shade(axis, result)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("% of one CPU, each server")


def _clients(axis: Axes, result: Result) -> None:
    times = [(number + 1) * result.slot_s for number in range(len(result.well))]
    axis.plot(times, result.well, lw=1.3, label="answered", color=COLOURS[0])
    axis.plot(times, result.listening, lw=1.3, label="listening", color=COLOURS[2])
    _shade(axis, result)
    axis.set_ylim(0, 1.03 * result.clients)
    axis.set_ylabel("clients")


def _rollouts(axis: Axes, result: Result) -> None:
    for number, course in enumerate(result.rollouts):
        times = [stage.at_s for stage in course.stages]
        percents = [stage.percent for stage in course.stages]
        ends = {"completed", "rolled-back"}
        over = course.stages[-1].status in ends
        axis.step(
            [*times, result.run_s],
            [*percents, percents[-1]],
            where="post",
            lw=1.5,
            label=f"{course.service}: {course.stages[-1].status if over else 'running'}",
            color=COLOURS[number % len(COLOURS)],
        )
    axis.set_xlim(0, result.run_s)
    axis.set_ylim(-2, 103)
    axis.set(xlabel="seconds", ylabel="% exposed")
