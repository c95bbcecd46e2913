"""A few contexts that stand for many: between them every answer that the many get, once.

Greedy, in the order given: a context is kept when a setting answers in it as in none before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from holdfast.core.context_check import CONTEXTS_MAX
from holdfast.core.evaluate import Evaluator
from holdfast.core.model import JSON

EVALUATIONS_MAX: Final = 500_000
"""Answers looked at for one choice; contexts beyond them are passed over."""


def representative(
    evaluator: Evaluator, contexts: Iterable[dict[str, JSON]], most: int = CONTEXTS_MAX
) -> tuple[dict[str, JSON], ...]:
    """At most `most` of the contexts, those that came first preferred."""
    functions = [evaluator.function(key) for key in evaluator.keys()]  # noqa: SIM118
    kept: list[dict[str, JSON]] = []
    seen: set[int] = set()
    left = EVALUATIONS_MAX
    for context in contexts:
        left -= len(functions)
        if len(kept) >= most or left < 0:
            break
        # Answers are shared objects of the evaluator: one is itself wherever it is given.
        answers = {id(function(context)) for function in functions}
        if not answers <= seen:
            seen |= answers
            kept.append(context)
    return tuple(kept)
