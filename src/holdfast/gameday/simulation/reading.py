"""A parameter file: YAML -> `Parameters`, or all that is wrong with it, each with its place."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final

import jsonschema_rs
import msgspec

from holdfast.core.authoring.tree import Path, Tree, read_tree, steps
from holdfast.core.errors import Invalid, Problem
from holdfast.core.pointer import near
from holdfast.core.schema_terms import DRAFT
from holdfast.gameday.simulation.costs import Costs
from holdfast.gameday.simulation.parameters import KINDS, Parameters, problems_of

HINT: Final = "holdfast simulate schema says what there is"


def schema() -> dict[str, Any]:
    """The JSON Schema of a parameter file, as in `docs/reference/simulation.schema.json`."""
    return {"title": "What holdfast simulate plays", **_schema(Parameters)}


def read(text: bytes, file: str) -> Parameters:
    """The parameters in a file. Raises `Invalid` with every problem of it, with line and column."""
    found: Parameters = _read(text, file, Parameters)
    wrong = list(problems_of(found))
    if wrong:
        tree = read_tree(text, file)
        raise Invalid([_placed(tree, each) for each in wrong])
    return found


def read_costs(text: bytes, file: str) -> Costs:
    """What `holdfast simulate calibrate` printed. Raises `Invalid`."""
    found: Costs = _read(text, file, Costs)
    return found


def _read(text: bytes, file: str, of: Any) -> Any:
    tree = read_tree(text, file)
    if tree.problems:
        raise Invalid(tree.problems)
    plain = tree.root.plain() if tree.root else None
    found = list(_wrong(tree, plain, of))
    if found:
        raise Invalid(found)
    return msgspec.convert(plain, of)


def _schema(of: Any) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.json.schema(of)
    for each in made["$defs"].values():
        if "description" in each:
            each["description"] = inspect.cleandoc(each["description"])
    return {"$schema": DRAFT, **made}


def _wrong(tree: Tree, plain: Any, of: Any) -> Iterator[Problem]:
    """What the schemas say: each happening is held to that of its kind, which says it best."""
    happenings = plain.get("happenings") if isinstance(plain, dict) else None
    if of is Parameters and isinstance(happenings, list):
        plain = {**plain, "happenings": []}
        for number, each in enumerate(happenings):
            yield from _of_happening(tree, ("happenings", number), each)
    yield from _errors(tree, plain, of, ())


def _of_happening(tree: Tree, path: Path, happening: Any) -> Iterator[Problem]:
    kind = happening.get("kind") if isinstance(happening, dict) else None
    if isinstance(kind, str) and kind in KINDS:
        yield from _errors(tree, happening, KINDS[kind], path)
        return
    there = ", ".join(KINDS)
    yield tree.problem("simulation", "it is of no known kind", path, f"let kind be one of {there}")


def _errors(tree: Tree, plain: Any, of: Any, path: Path) -> Iterator[Problem]:
    made = _schema(of)
    for error in jsonschema_rs.validator_for(made).iter_errors(plain):
        inside = (*path, *error.instance_path)
        unknown = getattr(error.kind, "unexpected", None)
        if unknown:
            names = {name for each in made["$defs"].values() for name in each.get("properties", ())}
            for name in unknown:
                message = f"there is no {name!r}"
                hint = near(name, names) or HINT
                yield tree.problem("simulation", message, (*inside, name), hint, at_key=True)
        else:
            yield tree.problem("simulation", error.message, inside, HINT)


def _placed(tree: Tree, problem: Problem) -> Problem:
    path = steps(problem.path, tree.root)
    return tree.problem(problem.code, problem.message, path, problem.hint)
