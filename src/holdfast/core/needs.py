"""Contracts by themselves: is one well-formed, where does it hold, what do snapshots say of it.

Whether what stands keeps a contract is for `core.contracts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import msgspec

from holdfast.core import limits
from holdfast.core.content import check_key, check_name, fits, validator_of, word
from holdfast.core.errors import Problem
from holdfast.core.json_check import check_json, check_text
from holdfast.core.model import JSON, Contract, Example, Need, SettingType, Subject
from holdfast.core.pointer import below, near, pointer, short
from holdfast.core.state import State
from holdfast.core.wire import canonical, digest

_encode = msgspec.json.encode


class ContractFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A contract as a snapshot names it: whose it is, and the digest of its canonical bytes."""

    consumer: str
    digest: str


def contract_digest(contract: Contract) -> str:
    """What tells one version of a contract from another."""
    return digest(canonical(contract))


def holds_in(contract: Contract, environment: str) -> bool:
    return not contract.environments or environment in contract.environments


def in_force(state: State, subject: Subject) -> dict[str, Contract]:
    """The contracts that hold for a subject, by consumer, in the order of their names."""
    return {
        consumer: kept.contract
        for consumer, kept in sorted(state.contracts.get(subject.service, {}).items())
        if holds_in(kept.contract, subject.environment)
    }


def contract_facts(state: State, subject: Subject) -> tuple[msgspec.Raw, ...]:
    """`holdfast.contracts` of a subject's snapshot."""
    return tuple(
        msgspec.Raw(canonical(ContractFacts(consumer, contract_digest(contract))))
        for consumer, contract in in_force(state, subject).items()
    )


def check_contract(consumer: str, contract: Contract) -> list[Problem]:
    """Everything about one contract that needs no other part of the state."""
    found = [*check_name(consumer, "a consumer")]
    found += check_text(contract.version, "/version")
    for number, owner in enumerate(contract.owners):
        found += check_text(owner, f"/owners/{number}")
    for number, environment in enumerate(contract.environments):
        found += check_name(environment, "an environment", f"/environments/{number}")
    found += _counted(contract)
    for key, need in contract.needs.items():
        path = pointer(("needs", key))
        found += below(path, check_key(key))
        found += below(path, _need(need))
    for number, example in enumerate(contract.examples):
        found += below(f"/examples/{number}", _example(example, contract))
    return found


def _counted(contract: Contract) -> Iterator[Problem]:
    for what, count, least, most in (
        ("needs", len(contract.needs), 1, limits.NEEDS_MAX),
        ("examples", len(contract.examples), 0, limits.EXAMPLES_MAX),
    ):
        if not least <= count <= most:
            message = f"{count} {what}; {least} to {most} are possible"
            hint = f"say what the consumer reads, in at most {most}"
            yield Problem(code="too-many", message=message, path=f"/{what}", hint=hint)


def _need(need: Need) -> Iterator[Problem]:
    if need.type not in get_args(SettingType):
        hint = f"write one of {', '.join(get_args(SettingType))}"
        message = f"`{need.type}` is not a type of setting"
        yield Problem(code="wrong-value", message=message, path="/type", hint=hint)
    if need.schema is None:
        return
    problems = [*check_json(need.schema, "/schema")]
    yield from problems
    if problems:
        return
    if len(_encode(need.schema)) > limits.VALUE_BYTES_MAX:
        message = f"the schema has more than {limits.VALUE_BYTES_MAX} bytes"
        yield Problem(code="too-large", message=message, path="/schema", hint="need less")
    validator = validator_of(need.schema)
    if isinstance(validator, str):
        hint = "write a JSON Schema (2020-12) without references to other files"
        yield Problem(code="schema", message=validator, path="/schema", hint=hint)


def _example(example: Example, contract: Contract) -> Iterator[Problem]:
    problems = [*check_json(example.context, "/context")]
    yield from problems
    if not problems and len(_encode(example.context)) > limits.CONTEXT_BYTES_MAX:
        message = f"the context has more than {limits.CONTEXT_BYTES_MAX} bytes"
        yield Problem(code="too-large", message=message, path="/context", hint="need less of it")
    if not example.expected:
        hint = "name a setting and the value that comes out"
        yield Problem(code="example", message="it expects nothing", path="/expected", hint=hint)
    for key, value in example.expected.items():
        yield from below(pointer(("expected", key)), _expected(key, value, contract))


def _expected(key: str, value: JSON, contract: Contract) -> Iterator[Problem]:
    need = contract.needs.get(key)
    if need is None:
        hint = near(key, contract.needs) or "say in `needs` what its type is"
        message = f"`{short(key)}` is expected, and not needed"
        yield Problem(code="example", message=message, hint=hint)
        return
    yield from check_json(value, "")
    if need.type in get_args(SettingType) and not fits(value, need.type):
        message = f"{word(value)} is expected of a setting of type {need.type}"
        yield Problem(code="example", message=message, hint="change the one or the other")
