"""Why an answer is what it is: the interpreter's own run, written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import cbor2
import msgspec

from holdfast.core.model import JSON, Bucketing
from holdfast.core.targeting import bucket
from holdfast.core.targeting.interpret import Run
from holdfast.core.targeting.outcome import Outcome
from holdfast.core.targeting.prepare import NULL, Call, Node
from holdfast.core.targeting.segments import SegmentTable
from holdfast.core.targeting.values import truth

STEPS_MAX: Final = 1_000
"""Operators written down for one answer; what comes after is evaluated, but not shown."""
TEXT_CHARS_MAX: Final = 200
ITEMS_MAX: Final = 20
DEPTH_MAX: Final = 4


class Step(msgspec.Struct):
    """One operator that was evaluated: `logic` as its author wrote it, cut to 200 characters.

    `parts` are the operators among its arguments that were evaluated, in order: what a false part
    of an `and` follows is not there. `failed` names the error when there is no value.
    """

    op: str
    logic: str
    value: JSON = None
    failed: str = ""
    parts: list[Step] = []


class RuleTrace(msgspec.Struct):
    """One rule that was looked at, by its index in the setting's targeting.

    `held` is the truth of its condition, none when evaluating it failed. `condition` is none for a
    constant one; `serve` has the steps to the answer, when the rule decided and there are any.
    """

    index: int
    name: str = ""
    held: bool | None = None
    condition: Step | None = None
    serve: Step | None = None


class Share(msgspec.Struct):
    """One arm of a split."""

    variant: JSON
    weight: int
    chosen: bool


class Bucketed(msgspec.Struct):
    """One split that was made: `bucket = (hash * total_weight) >> 32`.

    `key` is what was hashed, `key_hex` its bytes: UTF-8 in v2, CBOR in v3.
    """

    key: JSON
    key_hex: str
    hash: int
    bucket: int
    total_weight: int
    shares: list[Share]


class Explanation(msgspec.Struct):
    """An answer and the way to it.

    - `rule`: index of the rule that decided; none where the default or the whole targeting did.
    - `rules`: those looked at, the deciding one last.
    - `attributes`: what was read of the context; null for what is not there.
    - `complete`: false when there were more steps than are written down.

    Lists, texts and objects are cut to a readable size.
    """

    key: str
    value: JSON
    variant: str | None
    reason: str
    error_code: str | None
    error_message: str | None
    metadata: dict[str, JSON]
    bucketing: Bucketing
    rule: int | None = None
    rule_name: str = ""
    rules: list[RuleTrace] = []
    attributes: dict[str, JSON] = {}
    buckets: list[Bucketed] = []
    complete: bool = True


class Recorded(dict[str, Any]):
    """The context of one evaluation, which notes what is read of it."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__(data)
        self.read: dict[str, Any] = {}

    def get(self, key: Any, default: Any = None) -> Any:
        value = super().get(key, default)
        if isinstance(key, str) and key != "$flagd":
            self.read[key] = shown(value)
        return value


class Trace(Run):
    """A run that writes down its steps and its splits."""

    __slots__ = ("_left", "_parts", "buckets")

    def __init__(self, bucketing: Bucketing, segments: Mapping[str, SegmentTable]) -> None:
        super().__init__(bucketing, segments)
        self._left = STEPS_MAX
        self._parts: list[Step] = []
        self.buckets: list[Bucketed] = []

    @property
    def complete(self) -> bool:
        return self._left > 0

    def apply(self, node: Node, data: Any) -> Any:
        if type(node) is not Call or self._left <= 0:
            return super().apply(node, data)
        self._left -= 1
        step = Step(node.op, _written(node.raw))
        around, self._parts = self._parts, step.parts
        around.append(step)
        try:
            value = super().apply(node, data)
        except Exception as error:
            step.failed = type(error).__name__
            raise
        finally:
            self._parts = around
        step.value = shown(value)
        return value

    def last_step(self) -> Step | None:
        """The step last made at the outside; it is taken away."""
        return self._parts.pop() if self._parts else None

    def saw_bucket(
        self, key: bytes, arms: list[Any], weights: list[int], number: int, arm: int
    ) -> None:
        if len(self.buckets) >= ITEMS_MAX:
            return
        self.buckets.append(
            Bucketed(
                key=key.decode() if self.bucketing == "v2" else shown(cbor2.loads(key)),
                key_hex=key[:TEXT_CHARS_MAX].hex(),
                hash=bucket.hash32(key),
                bucket=number,
                total_weight=sum(weights),
                shares=[
                    Share(variant=shown(each[0]), weight=weight, chosen=index == arm)
                    for index, (each, weight) in enumerate(zip(arms, weights, strict=True))
                ],
            )
        )


def follow(
    root: Node, trace: Trace, data: Any, names: Sequence[str], rules: list[RuleTrace]
) -> Any:
    """The value of a setting's targeting; each rule that is looked at goes into `rules`.

    Raises what the operators raise.
    """
    if type(root) is not Call or root.op not in ("if", "?:"):
        rule = RuleTrace(0, _name(names, 0), held=True)
        rules.append(rule)
        return _serve(root, trace, data, rule)
    args = root.args
    for index in range(0, len(args) - 1, 2):
        rule = RuleTrace(index // 2, _name(names, index // 2))
        rules.append(rule)
        try:
            rule.held = truth(trace.apply(args[index], data))
        finally:
            rule.condition = trace.last_step()
        if rule.held:
            return _serve(args[index + 1], trace, data, rule)
    if len(args) % 2 == 0:
        return None
    last = RuleTrace(len(args) // 2, _name(names, len(args) // 2), held=True)
    rules.append(last)
    return _serve(args[-1] if args else NULL, trace, data, last)


def _serve(node: Node, trace: Trace, data: Any, rule: RuleTrace) -> Any:
    try:
        return trace.apply(node, data)
    finally:
        rule.serve = trace.last_step()


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else ""


def explanation(outcome: Outcome, bucketing: Bucketing) -> Explanation:
    """What is to say of an answer that no rule had a part in."""
    return Explanation(
        key=outcome.key,
        value=outcome.value,
        variant=outcome.variant,
        reason=outcome.reason,
        error_code=outcome.error_code,
        error_message=outcome.error_message,
        metadata=dict(outcome.metadata),
        bucketing=bucketing,
    )


def shown(value: Any, depth: int = 0) -> JSON:
    """A copy of a value that is JSON, whatever it was, and no larger than a reader wants."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _cut(value)
    if depth >= DEPTH_MAX:
        return "…"
    if isinstance(value, dict):
        items = list(value.items())[:ITEMS_MAX]
        return {_cut(str(name)): shown(item, depth + 1) for name, item in items}
    if isinstance(value, list | tuple):
        cut = [shown(item, depth + 1) for item in value[:ITEMS_MAX]]
        return [*cut, f"… {len(value) - ITEMS_MAX} more"] if len(value) > ITEMS_MAX else cut
    return f"<{type(value).__name__}>"


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARS_MAX else text[:TEXT_CHARS_MAX] + "…"


def _written(logic: JSON) -> str:
    return _cut(msgspec.json.encode(shown(logic)).decode())
