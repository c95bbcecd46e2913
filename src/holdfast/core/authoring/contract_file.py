"""One contract as a file, YAML or JSON, beside the code of the consumer that needs it.

service: calling
consumer: web-client
needs:
  max-video-tiles: {type: integer, schema: {minimum: 1, maximum: 49}}
"""

from __future__ import annotations

from typing import Final, get_args

import msgspec

from holdfast.core import limits
from holdfast.core.authoring.layout import KEYS, NAMES
from holdfast.core.authoring.shape import (
    Anything,
    Field,
    ListOf,
    MapOf,
    Record,
    Switch,
    Text,
    check,
)
from holdfast.core.authoring.tree import Tree, read_tree, steps
from holdfast.core.errors import Invalid, Problem
from holdfast.core.model import Contract, SettingType
from holdfast.core.needs import check_contract

_SCHEMA: Final = Anything("a JSON Schema", ("object", "boolean"))
_OBJECT: Final = Anything("a mapping", ("object",))
NEED: Final = Record(
    "need",
    {
        "type": Field(
            Text("a type of setting", words=get_args(SettingType)),
            "The type that the consumer reads.",
            required=True,
        ),
        "schema": Field(_SCHEMA, "JSON Schema of all values that the consumer can work with."),
        "required": Field(Switch(), "Whether the setting must be there; true without it."),
    },
)
EXAMPLE: Final = Record(
    "example",
    {
        "context": Field(_OBJECT, "An evaluation context.", required=True),
        "expected": Field(
            MapOf(Anything(), KEYS, "a mapping of settings to values", limits.NEEDS_MAX, least=1),
            "The exact values that the consumer counts on in it.",
            required=True,
        ),
    },
)
FILE: Final = Record(
    "contract",
    {
        "service": Field(NAMES, "The service that is read.", required=True),
        "consumer": Field(NAMES, "Who reads it.", required=True),
        "version": Field(Text(), "The consumer's own version, its build say."),
        "owners": Field(ListOf(Text(), "a list of text", 64), "Who answers for the consumer."),
        "environments": Field(
            ListOf(NAMES, "a list of environments", limits.ENVIRONMENTS_MAX),
            "Where it holds; everywhere without it.",
        ),
        "needs": Field(
            MapOf(NEED, KEYS, "a mapping of settings", limits.NEEDS_MAX, least=1),
            "What is read, by key.",
            required=True,
        ),
        "examples": Field(
            ListOf(EXAMPLE, "a list of examples", limits.EXAMPLES_MAX),
            "Contexts with exact answers.",
        ),
    },
)


class ContractFile(msgspec.Struct, frozen=True):
    """Whose contract a file is, and the contract."""

    service: str
    consumer: str
    contract: Contract


def read_contract(text: bytes, file: str = "") -> ContractFile:
    """Read one contract. Raises `Invalid` with all problems of the file, each with its place."""
    tree = read_tree(text, file)
    clean = check(tree, FILE)
    if tree.problems:
        raise Invalid(tree.problems)
    contract = msgspec.convert(
        {name: value for name, value in clean.items() if name not in ("service", "consumer")},
        Contract,
    )
    found = ContractFile(clean["service"], clean["consumer"], contract)
    problems = [_placed(tree, one) for one in check_contract(found.consumer, contract)]
    if problems:
        raise Invalid(problems)
    return found


def _placed(tree: Tree, problem: Problem) -> Problem:
    path = steps(problem.path, tree.root)
    node = tree.root.find(path) if tree.root else None
    line, column = (node.line, node.column) if node else (0, 0)
    return msgspec.structs.replace(problem, file=tree.file, line=line, column=column)
