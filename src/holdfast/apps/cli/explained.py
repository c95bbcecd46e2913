"""An explanation as a tree: the answer, the rules in their order, each condition with its value."""

from __future__ import annotations

import click
import msgspec
from rich.text import Text
from rich.tree import Tree

from holdfast.core.targeting.explain import Bucketed, Explanation, RuleTrace, Step

VALUE_CHARS_MAX = 80
YES, NO, FAILED = ("yes", "green"), ("no", "red"), ("failed", "bold red")


def tree_of(place: str, explained: Explanation) -> Tree:
    """The whole of it, `place` at the root."""
    tree = Tree(_answer(place, explained), guide_style="dim")
    if explained.error_code:
        tree.add(Text(f"{explained.error_code}: {explained.error_message or ''}", "bold red"))
    if explained.attributes:
        read = tree.add(Text("read of the context", "dim"))
        for name, value in explained.attributes.items():
            read.add(Text(f"{name} = {_json(value)}"))
    for rule in explained.rules:
        _add_rule(tree, rule, decided=rule.index == explained.rule)
    for bucketed in explained.buckets:
        _add_split(tree, bucketed, explained.bucketing)
    if explained.rule is None and not explained.error_code:
        tree.add(Text(_why_no_rule(explained)))
    if not explained.complete:
        tree.add(Text("… and more steps than are written down", "dim"))
    return tree


def _answer(place: str, explained: Explanation) -> Text:
    if explained.error_code:
        return Text(f"{place}: no value, the caller's default stands", "bold")
    text = Text(f"{place} = {_json(explained.value)}", "bold")
    variant = f"variant {explained.variant}, " if explained.variant else ""
    return text.append(f"   {variant}{explained.reason}", "not bold dim")


def _why_no_rule(explained: Explanation) -> str:
    if explained.reason == "STATIC":
        return "it has no rules: the default"
    if explained.reason == "DISABLED":
        return "it is disabled: the caller's default"
    if explained.reason == "DEFAULT":
        return "no rule decided: the default"
    return "the targeting as a whole decided"


def _add_rule(tree: Tree, rule: RuleTrace, *, decided: bool) -> None:
    name = f" {rule.name!r}" if rule.name else ""
    word, style = FAILED if rule.held is None else YES if rule.held else NO
    label = Text(f"rule {rule.index + 1}{name}: ").append(word, style)
    branch = tree.add(label.append(", it decided" if decided else "", "bold"))
    for step in (rule.condition, rule.serve):
        if step is not None:
            _add_step(branch, step)


def _add_step(tree: Tree, step: Step) -> None:
    label = Text(f"{_cut(step.logic)}  → ")
    if step.failed:
        label.append(step.failed, "bold red")
    else:
        label.append(_json(step.value), "cyan")
    branch = tree.add(label)
    for part in step.parts:
        _add_step(branch, part)


def _add_split(tree: Tree, bucketed: Bucketed, bucketing: str) -> None:
    branch = tree.add(
        Text(f"split by {_json(bucketed.key)}: bucket {bucketed.bucket}")
        .append(f" of {bucketed.total_weight}")
        .append(f"   (hash {bucketed.hash}, {bucketing})", "dim")
    )
    start = 0
    for share in bucketed.shares:
        end = start + share.weight
        text = Text(f"{start} to {end}: {_json(share.variant)}")
        branch.add(text.append("  ← here", "green") if share.chosen else text)
        start = end


def _json(value: object) -> str:
    return _cut(msgspec.json.encode(value).decode())


def _cut(text: str) -> str:
    shown = click.unstyle(text)
    return shown if len(shown) <= VALUE_CHARS_MAX else shown[: VALUE_CHARS_MAX - 1] + "…"
