"""Making probes: which contexts reach which rule and which arm, and what then comes out.

For each setting contexts are proposed from the conditions of its rules (`core.solve`), and kept
where the interpreter, which is the reference, reaches with them what none before reached. The
values are the interpreter's too: consumers replay them with generated code.

Deterministic: no chance, no clock. Rules that read the time have no probes, and neither do those
that look into the tables of large segments, which a build doesn't have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any, Final, Literal

import msgspec

from holdfast.core.errors import Invalid
from holdfast.core.model import JSON, TARGETING_KEY, Bucketing
from holdfast.core.probes import CONTEXT_BYTES_MAX, Carried, carried
from holdfast.core.solve import (
    attributes,
    filled,
    nodes,
    proposals,
    reads_more,
    split_attribute,
    units,
)
from holdfast.core.targeting import flags as definitions
from holdfast.core.targeting.answers import Answers
from holdfast.core.targeting.interpret import Run
from holdfast.core.targeting.prepare import BadRule, Call, Node, Rules
from holdfast.core.targeting.values import truth
from holdfast.core.wire import canonical

REACHED_MAX: Final = 64
"""Contexts kept for one setting."""
PROPOSED_MAX: Final = 400
"""Contexts tried for one setting."""
UNITS_MAX: Final = 256
"""Values of a split's attribute tried for one split until every arm was met."""
NO_SEGMENTS: Final[Mapping[str, Any]] = {}

Way = tuple[tuple[int, int], ...]
"""Which branch of which `if`, and which arm of which split, in the order of evaluation."""
NOBODY: Final = (-1, -1)
"""On the way of the empty context: that nothing is there is a way of its own."""
_Proposed = tuple[Literal["rule", "sampled"], dict[str, JSON]]


CONTEXTS_MAX: Final = 64
"""Contexts from traffic tried for one setting, before those that are made up."""


class Probed:
    """One setting, ready to be probed: its answers are the interpreter's.

    `testable` says whether its answers follow from contexts alone.
    """

    def __init__(
        self,
        key: str,
        body: bytes | msgspec.Raw,
        rules: Rules,
        bucketing: Bucketing,
        type: str | None,  # noqa: A002 - the document's own word for it
    ) -> None:
        self.key = key
        self._bucketing: Bucketing = bucketing
        self._root: Node | None = None
        self._answers: Answers | None = None
        self.testable = True
        try:
            flag = definitions.decode(body)
            self._root = rules.prepare(flag.targeting)
        except (definitions.BadFlag, BadRule):
            self.testable = False
            return
        if flag.state == "ENABLED":
            self._answers = Answers(key, flag.variants, flag.default_variant, {}, type)
            self.testable = self._root is None or not reads_more(self._root)

    def answer(self, context: Mapping[str, JSON]) -> bytes | None:
        """The canonical JSON that comes out; none for an error."""
        return self._follow(context)[0]

    def reach(self, seen: Sequence[dict[str, JSON]]) -> Iterator[Carried]:
        """For each way through the rules that was found, one context that takes it.

        Contexts `seen` in traffic come before those that are made up.
        """
        if not self.testable:
            return
        met: set[tuple[Way, bytes]] = set()
        real: Iterator[_Proposed] = (("sampled", one) for one in seen[:CONTEXTS_MAX])
        made: Iterator[_Proposed] = (("rule", one) for one in self._proposed())
        for origin, context in chain(real, made):
            answer, way = self._follow(context)
            if not context:
                way = (*way, NOBODY)
            if answer is None or (way, answer) in met or not fits(context):
                continue
            met.add((way, answer))
            yield carried(context, answer, origin)
            if len(met) >= REACHED_MAX:
                return

    def _proposed(self) -> Iterator[dict[str, JSON]]:
        if self._root is None or self._answers is None:
            yield {TARGETING_KEY: "probe"}
            return
        tried: set[int] = set()
        names = attributes(self._root)
        for found in islice(proposals(self._root), PROPOSED_MAX):
            # Whole contexts come first: generated rules hand incomplete ones to the interpreter.
            context = filled(found, names)
            yield context
            yield found
            passed = {node for node, _ in self._follow(context)[1]}
            for split in self._splits(passed - tried):
                tried.add(id(split))
                yield from self._arms(split, context)
        yield {}

    def _splits(self, wanted: Collection[int]) -> Iterator[Call]:
        """The splits with these identities."""
        if wanted and self._root is not None:
            for node in nodes(self._root):
                if type(node) is Call and node.op == "fractional" and id(node) in wanted:
                    yield node

    def _arms(self, split: Call, context: dict[str, JSON]) -> Iterator[dict[str, JSON]]:
        """The context with other values of what the split is sticky by, one for each arm."""
        met: set[int] = set()
        arms = len(split.args) - (split_attribute(split) is not None)
        for varied in units(split, context, UNITS_MAX):
            run = _Followed(self._bucketing)
            with suppress(Exception):  # what fails here fails in the whole rule, and is told there
                run.apply(split, self._data(varied))
            fresh = {arm for _, arm in run.way} - met
            if fresh:
                met |= fresh
                yield varied
            if len(met) >= arms:
                return

    def _data(self, context: Mapping[str, JSON]) -> dict[str, JSON]:
        return {
            **context,
            "$flagd": {"flagKey": self.key, "timestamp": 0},
            TARGETING_KEY: context.get(TARGETING_KEY),
        }

    def _follow(self, context: Mapping[str, JSON]) -> tuple[bytes | None, Way]:
        """What comes out, and the way there."""
        if self._answers is None:
            return (b"null" if self.testable else None), ()
        run = _Followed(self._bucketing)
        try:
            outcome = self._answers.static
            if self._root is not None:
                outcome = self._answers.resolve(run.apply(self._root, self._data(context)))
            if outcome.error_code is not None:
                return None, tuple(run.way)
            return canonical(outcome.value), tuple(run.way)
        except Exception:  # noqa: BLE001 - whatever fails on this context fails at consumers too
            return None, tuple(run.way)


class _Followed(Run):
    """A run that remembers its branches and arms."""

    __slots__ = ("_split", "way")

    def __init__(self, bucketing: Bucketing) -> None:
        super().__init__(bucketing, NO_SEGMENTS)
        self.way: list[tuple[int, int]] = []
        self._split = 0

    def apply(self, node: Node, data: Any) -> Any:
        if type(node) is Call and node.op in ("if", "?:"):
            return self._branch(node, data)
        if type(node) is Call and node.op == "fractional":
            around, self._split = self._split, id(node)
            try:
                return super().apply(node, data)
            finally:
                self._split = around
        return super().apply(node, data)

    def _branch(self, node: Call, data: Any) -> Any:
        args = node.args
        last = len(args) - 1
        for index in range(0, last, 2):
            if truth(self.apply(args[index], data)):
                self.way.append((id(node), index))
                return self.apply(args[index + 1], data)
        self.way.append((id(node), last + 1))
        return self.apply(args[last], data) if len(args) % 2 else None

    def saw_bucket(
        self,
        key: bytes,  # noqa: ARG002 - the signature of those who explain
        arms: list[Any],  # noqa: ARG002
        weights: list[int],  # noqa: ARG002
        number: int,  # noqa: ARG002
        arm: int,
    ) -> None:
        self.way.append((self._split, arm))


def fits(context: Mapping[str, JSON]) -> bool:
    """Whether a context can be carried: canonical JSON of a bounded size."""
    try:
        return len(canonical(dict(context))) <= CONTEXT_BYTES_MAX
    except Invalid:
        return False
