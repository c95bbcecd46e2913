"""A quick look at the evaluator's speed, in ns a read, without the client's other work.

    .venv/bin/python benchmarks/evaluate_micro.py

Six workloads through a client in miniature (`table[key](context)`, a count, a typed slot), then
loading 10,000 settings lazily and eagerly. Not the published figures: those are in `make bench`.
"""

from __future__ import annotations

import json
import time
import timeit
from collections.abc import Callable
from typing import Any

from holdfast.core.evaluate import Evaluator

LOOPS, ROUNDS = 4_000, 60
CONTEXT = {
    "targetingKey": "user-4711",
    "user": "user-4711",
    "tenant": "tenant-00007",
    "version": "1.7.2",
    "region": "eu",
    "ring": "general",
}
TENANTS = [f"tenant-{number:05}" for number in range(100_000)]


def var(name: str) -> dict[str, Any]:
    return {"var": name}


def flag(variants: dict[str, Any], default: str, targeting: Any = None) -> bytes:
    definition = {"state": "ENABLED", "variants": variants, "defaultVariant": default}
    if targeting:
        definition["targeting"] = targeting
    return json.dumps(definition).encode()


SWITCH = {"on": True, "off": False}
TENANT_AND_VERSION = {
    "and": [
        {"in": [var("tenant"), TENANTS[:20]]},
        {"sem_ver": [var("version"), ">=", "1.5.0"]},
    ]
}
FIFTH = {
    "if": [
        {"==": [var("region"), "us"]}, "one",
        {"in": [var("tenant"), TENANTS[100:120]]}, "two",
        {"starts_with": [var("ring"), "ring"]}, "three",
        {"sem_ver": [var("version"), ">=", "2.0.0"]}, "four",
        {"and": [{"==": [var("ring"), "general"]}, {"in": [var("region"), ["eu", "uk"]]}]}, "five",
    ]
}  # fmt: skip
NAMES = ("zero", "one", "two", "three", "four", "five")
OBJECTS = {name: {"tiles": 9, "codec": name} for name in NAMES}
FLAGS = {
    "static": flag(SWITCH, "off"),
    "tenants": flag(SWITCH, "off", {"if": [TENANT_AND_VERSION, "on", "off"]}),
    "split": flag(SWITCH, "off", {"fractional": [var("user"), ["on", 10], ["off", 90]]}),
    "shorthand": flag(SWITCH, "off", {"fractional": [["on", 10], ["off", 90]]}),
    "object": flag(OBJECTS, "zero", FIFTH),
    "many": flag(SWITCH, "off", {"if": [{"in": [var("tenant"), TENANTS]}, "on", "off"]}),
    "absent": flag(SWITCH, "off", {"if": [{"==": [var("nowhere"), "a"]}, "on", "off"]}),
}  # fmt: skip


class Reader:
    """As much of a client as a read passes through."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._table = evaluator.table

    def get_bool(self, key: str, default: bool, context: dict[str, Any]) -> bool:
        try:
            outcome = self._table[key](context)
            outcome.count += 1.0
            return outcome.boolean  # noqa: TRY300 - as the client: an `else` would cost a jump
        except (KeyError, AttributeError):
            return self._slowly(key, default, context, "boolean")

    def get_object(self, key: str, default: Any, context: dict[str, Any]) -> Any:
        try:
            outcome = self._table[key](context)
            outcome.count += 1.0
            return outcome.object  # noqa: TRY300 - as above
        except (KeyError, AttributeError):
            return self._slowly(key, default, context, "object")

    def _slowly(self, key: str, default: Any, context: dict[str, Any], kind: str) -> Any:
        outcome = self._evaluator.function(key)(context)
        return getattr(outcome, kind, default)


def ns(read: Callable[[], Any], reads: int = 1) -> float:
    return min(timeit.repeat(read, number=LOOPS // reads, repeat=ROUNDS)) / (LOOPS // reads) * 1e9


def workloads() -> None:
    evaluator = Evaluator(FLAGS, now_s=time.time)
    reader = Reader(evaluator)
    get, get_object = reader.get_bool, reader.get_object
    for key in FLAGS:
        print(f"  {evaluator.evaluate(key, CONTEXT)}")
    for key in FLAGS:
        read = get_object if key == "object" else get
        figure = ns(lambda read=read, key=key: read(key, None, CONTEXT)) - ns(lambda: None)
        print(f"{key:12} {figure:10.0f} ns")
    keys = ("tenants", "split", "shorthand", "static", "tenants", "many", "split", "static")
    flags = {f"{name}-{index}": FLAGS[name] for index in range(25) for name in keys}
    row = Reader(Evaluator(flags, now_s=time.time)).get_bool
    print(f"{'200':12} {ns(lambda: [row(key, False, CONTEXT) for key in flags], 200):10.0f} ns")


def loading() -> None:
    flags = {f"{name}-{index}": FLAGS[name] for index in range(2_000) for name in list(FLAGS)[:5]}
    start = time.perf_counter()
    evaluator = Evaluator(flags, now_s=time.time)
    lazily = time.perf_counter() - start
    slowest, start = 0.0, time.perf_counter()
    for key in flags:
        before = time.perf_counter()
        evaluator.function(key)
        slowest = max(slowest, time.perf_counter() - before)
    eagerly = time.perf_counter() - start
    print(
        f"10,000 settings: lazily {lazily * 1e3:.2f} ms, all of them {eagerly * 1e3:.0f} ms "
        f"({eagerly * 100:.0f} us each, slowest {slowest * 1e3:.2f} ms)"
    )


if __name__ == "__main__":
    workloads()
    loading()
