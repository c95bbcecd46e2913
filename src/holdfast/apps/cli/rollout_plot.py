"""A rollout as a picture (matplotlib, from the extra `plots`), or as bars in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from holdfast.core.errors import Invalid, Problem

if TYPE_CHECKING:
    from holdfast.apps.control.rollout_schemas import RolloutDetail
    from holdfast.engine.watched import Point

KINDS: Final = frozenset({".png", ".svg", ".pdf"})
WIDTH: Final = 60
SPARKS: Final = "▁▂▃▄▅▆▇█"
EXPOSED: Final = "#c0392b"
BASELINE: Final = "#2c6fbb"


def draw(found: RolloutDetail, path: Path) -> None:
    """Write the picture. Raises `Invalid` without matplotlib, or for a file that can't be one."""
    if path.suffix not in KINDS:
        hint = f"name a file that ends with one of {', '.join(sorted(KINDS))}"
        raise _unable(f"{path} is no picture that can be written", hint)
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        hint = "pip install 'holdfast[plots]', or take the figures: --output json"
        raise _unable("drawing needs matplotlib, which is not installed", hint) from None
    if not found.points:
        hint = "the control plane has its history since its start: look at --output json"
        raise _unable(f"nothing was told of {found.rollout.id} yet", hint)
    figure, (rates, gate) = plt.subplots(2, 1, sharex=True, figsize=(8, 6), layout="constrained")
    _draw_rates(rates, found)
    _draw_gate(gate, found)
    figure.suptitle(f"rollout {found.rollout.id}: {found.rollout.status}")
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise _unable(f"{path} can't be written: {error}", "give another file") from None
    finally:
        plt.close(figure)


def bars(found: RolloutDetail) -> Iterator[str]:
    """The gate and both error rates in a line each, oldest first; nothing without points."""
    points = found.points[-WIDTH:]
    if len(points) < 2:
        return
    yield ""
    for name, values in (
        ("exposed errors ", [_rate(each, exposed=True) for each in points]),
        ("baseline errors", [_rate(each, exposed=False) for each in points]),
        ("error gate E   ", [each.errors_e for each in points]),
    ):
        yield f"{name}  {sparks(values)}  {values[-1]:.3g}"


def sparks(values: list[float]) -> str:
    """One character for each value, from nothing to the largest."""
    largest = max(values, default=0.0)
    if largest <= 0:
        return SPARKS[0] * len(values)
    return "".join(SPARKS[min(7, int(8 * value / largest))] for value in values)


def _draw_rates(axes: Any, found: RolloutDetail) -> None:
    from holdfast.core.gate import interval

    for exposed, colour, label in ((True, EXPOSED, "exposed"), (False, BASELINE, "baseline")):
        points = [each for each in found.points if _requests(each, exposed=exposed)]
        if not points:
            continue
        times = _times(found, points)
        bounds = [
            interval(_errors(each, exposed=exposed), _requests(each, exposed=exposed))
            for each in points
        ]
        axes.plot(
            times,
            [100 * _rate(each, exposed=exposed) for each in points],
            color=colour,
            label=label,
        )
        axes.fill_between(
            times,
            [100 * low for low, _ in bounds],
            [100 * high for _, high in bounds],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    axes.set_ylabel("errors of requests, %\n(bounds valid at every look)")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", frameon=False)
    _draw_stages(axes, found)


def _draw_gate(axes: Any, found: RolloutDetail) -> None:
    axes.plot(
        _times(found, found.points),
        [max(each.errors_e, 1e-3) for each in found.points],
        color="black",
        label="E, errors",
    )
    axes.axhline(found.rollout.halt_e, color=EXPOSED, linestyle="--", label="rolls back")
    axes.set_yscale("log")
    axes.set_ylabel("evidence E")
    axes.set_xlabel("seconds since it began")
    axes.legend(loc="center left", frameon=False)
    _draw_stages(axes, found)


def _draw_stages(axes: Any, found: RolloutDetail) -> None:
    for each in found.moves:
        axes.axvline((each.at_ms - found.rollout.started_ms) / 1000, color="grey", linewidth=0.7)


def _times(found: RolloutDetail, points: Any) -> list[float]:
    return [(each.at_ms - found.rollout.started_ms) / 1000 for each in points]


def _requests(point: Point, *, exposed: bool) -> int:
    return point.exposed_requests if exposed else point.baseline_requests


def _errors(point: Point, *, exposed: bool) -> int:
    return point.exposed_errors if exposed else point.baseline_errors


def _rate(point: Point, *, exposed: bool) -> float:
    requests = _requests(point, exposed=exposed)
    return _errors(point, exposed=exposed) / requests if requests else 0.0


def _unable(message: str, hint: str) -> Invalid:
    return Invalid([Problem(code="no-plot", message=message, hint=hint)])
