"""What the gate of rollouts can see: false halts, and requests until an effect is found.

python benchmarks/power.py      writes docs/explanation/gate-power.png and prints the figures
"""

from __future__ import annotations

import random
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

from holdfast.core.policies import Gates
from holdfast.core.power import Traffic, halts, power

OUT = Path(__file__).parents[1] / "docs" / "explanation" / "gate-power.png"
ALPHA = Gates().alpha
NULL_RUNS, LOOKS = 2_000, 40
EFFECTS = (
    ("0.1 % -> 50 %", Traffic(0.001, 500.0, 0.01, 500)),
    ("1 % -> 10 %", Traffic(0.01, 10.0, 0.01, 1_000)),
    ("1 % -> 5 %", Traffic(0.01, 5.0, 0.01, 1_000)),
    ("1 % -> 3 %", Traffic(0.01, 3.0, 0.01, 2_000)),
    ("1 % -> 2 %", Traffic(0.01, 2.0, 0.01, 5_000)),
    ("1 % -> 1.5 %", Traffic(0.01, 1.5, 0.01, 20_000)),
)


def null_runs() -> None:
    print(f"false halts, alpha {ALPHA}, {NULL_RUNS} harmless rollouts, {LOOKS} looks each:")
    for rate in (0.001, 0.01, 0.1):
        for share in (0.01, 0.1, 0.5):
            traffic = Traffic(rate, 1.0, share, 2_000)
            draw = random.Random(f"{rate} {share}").random
            found = halts(traffic, draw, runs=NULL_RUNS, looks=LOOKS, alpha=ALPHA)
            halted = sum(one is not None for one in found)
            print(f"  errors {rate:.1%}, share {share:.0%}: {halted} ({halted / NULL_RUNS:.2%})")


def effects() -> None:
    figure, axes = plt.subplots(figsize=(7.5, 4.2), dpi=150)
    print("exposed requests until the halt, at a share of 1 %, 500 rollouts each:")
    for name, traffic in EFFECTS:
        draw = random.Random(name).random
        found = sorted(
            one for one in halts(traffic, draw, runs=500, looks=120, alpha=ALPHA) if one is not None
        )
        half, most = found[len(found) // 2], found[len(found) * 9 // 10]
        print(f"  {name}: half within {half}, nine in ten within {most}, {len(found)} of 500")
        curve = power(traffic, random.Random(name).random, runs=500, looks=120, alpha=ALPHA)
        axes.plot(*zip(*curve, strict=True), label=name, linewidth=1.6)
    axes.set_xscale("log")
    axes.set_xlabel("exposed requests")
    axes.set_ylabel("share of rollouts halted")
    axes.set_title(f"Power of the error gate (alpha {ALPHA}, 1 % of requests exposed)", fontsize=10)
    axes.grid(visible=True, alpha=0.25)
    axes.legend(
        title="errors, before -> exposed",
        fontsize=8,
        title_fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
    )
    figure.tight_layout()
    figure.savefig(OUT)


if __name__ == "__main__":
    null_runs()
    effects()
