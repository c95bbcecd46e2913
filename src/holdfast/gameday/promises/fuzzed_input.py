"""`fuzzed-input`: 10,000 changes and snapshots with something wrong in them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from holdfast.adapters.signing import Keys
from holdfast.core.model import PutSetting, Setting
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fuzzing import (
    Harm,
    Place,
    decoded,
    force,
    forge,
    good,
    keys_in,
    offer,
    spoiled,
)

INPUTS: Final = 10_000
SLOWEST_MS_MAX: Final = 250.0
"""Of one evaluation, on a machine where others run beside: a bound, not a speed."""
HARMS_MAX: Final = 20
RENEWED: Final = 0.05
"""Chance that a place begins anew after an input that it took."""


def run(day: Day) -> None:
    keys = keys_in(day.directory / "keys")
    came, harms = Counter[str](), list[str]()
    inputs = day.sample or INPUTS
    slowest_s = max(
        _changes(day, keys, inputs * 6 // 10, came, harms),
        _snapshots(day, keys, inputs * 4 // 10, came, harms),
    )
    for text, count in sorted(came.items()):
        day.note("step", f"{text}: {count}")
    for harm in harms[:HARMS_MAX]:
        day.note("damage", harm)
    _judge(day, came, harms, slowest_s)


def _changes(day: Day, keys: Keys, inputs: int, came: Counter[str], harms: list[str]) -> float:
    """Spoiled changes at the door, and past it; the slowest evaluation, s."""
    chance = random.Random(day.seed)  # noqa: S311  a drill's chance
    whole = msgspec.to_builtins(good())
    checked = Place(keys, checked=day.protected, protected=day.protected)
    forced = Place(keys, checked=False, protected=day.protected)
    slowest_s = 0.0
    for _ in range(inputs):
        edits = decoded(spoiled([chance.choice(whole)], chance))
        if edits is None:
            came["changes: refused as they are read"] += 1
            continue
        what = _harmless(harms, partial(offer, checked, edits))
        came[f"changes: {what}"] += 1
        if what == "refused by the door":
            past = _harmless(harms, partial(force, forced, edits))
            came[f"past the door: {past}"] += 1
            forced = Place(keys, checked=False, protected=day.protected)
        elif what == "harm" or chance.random() < RENEWED:
            checked = Place(keys, checked=day.protected, protected=day.protected)
        slowest_s = max(slowest_s, checked.slowest_s, forced.slowest_s)
    return slowest_s


def _snapshots(day: Day, keys: Keys, inputs: int, came: Counter[str], harms: list[str]) -> float:
    """Spoiled snapshots, signed with the real key; the slowest evaluation, s."""
    chance = random.Random(day.seed + 1)  # noqa: S311  a drill's chance
    place = Place(keys, checked=True, protected=day.protected)
    place.publish((PutSetting("shop", "more", Setting("integer", {"n": 1})),))
    body: Any = msgspec.json.decode(place.newest()[1])
    for _ in range(inputs):
        wrong = spoiled(body, chance)
        what = _harmless(harms, partial(forge, place, wrong, {"more"}))
        came[f"signed snapshots: {what}"] += 1
    return place.slowest_s


def _harmless(harms: list[str], trial: Callable[[], str]) -> str:
    try:
        return trial()
    except Harm as harm:
        harms.append(str(harm))
    except Exception as error:  # noqa: BLE001  whatever it is, an input caused it
        harms.append(f"it broke: {error!r}")
    return "harm"


def _judge(day: Day, came: Counter[str], harms: list[str], slowest_s: float) -> None:
    total = sum(count for text, count in came.items() if not text.startswith("past the door"))
    refused = sum(count for text, count in came.items() if "refused" in text)
    day.measure(
        "inputs with something wrong in them", total, "10,000, or a sample", holds=total > 0
    )
    day.measure(
        "refused, at the door or by the consumer", refused, "more than 0", holds=refused > 0
    )
    day.measure(
        "taken, and an answer is wrong, fails or moved unnamed", len(harms), "0", holds=not harms
    )
    slowest_ms = round(slowest_s * 1_000, 1)
    day.measure(
        "the slowest evaluation of what was taken, ms",
        slowest_ms, f"at most {SLOWEST_MS_MAX:.0f}", holds=slowest_ms <= SLOWEST_MS_MAX,
    )  # fmt: skip
    day.affected = "nobody" if not harms else f"{len(harms)} answers"
    day.root_cause = "inputs that are invalid, oversized, deep, or wrong in what they mean"
    day.stopped_by = "strict decoding and checks at the door; schema, shape and probes at consumers"


DRILL = Drill(
    name="fuzzed-input",
    title="Fuzzed input: invalid, semantically wrong, oversized, deep",
    promise="refused with all problems named; else NACKed; evaluation bounded",
    rehearsal=(
        "good changes are spoiled in one or two places of their JSON and offered; what the door "
        "refuses is forced past it; spoiled snapshots are signed with the real key and handed to a "
        "consumer. What is taken must answer by its type, and move only what it names."
    ),
    run=run,
)
