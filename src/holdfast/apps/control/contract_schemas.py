"""The shapes of contracts in the control API's bodies; contracts themselves are `core.model`'s."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from holdfast.apps.control.schemas import ChangeBody, Name, Reason
from holdfast.core import limits
from holdfast.core.errors import Problem
from holdfast.core.model import Contract


class ContractBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What one consumer of a service needs, from now on."""

    contract: Contract
    reason: Reason = ""


class ContractLine(Struct, frozen=True):
    """One contract in a list; without `environments` it holds in all of them."""

    consumer: str
    version: str
    owners: tuple[str, ...]
    environments: tuple[str, ...]
    need_count: int
    example_count: int
    digest: str
    revision: int


class Contracts(Struct, frozen=True):
    """In the order of consumers; `cursor` continues, null at the end."""

    contracts: tuple[ContractLine, ...]
    cursor: str | None


class ContractDetail(Struct, frozen=True):
    """One contract, its digest, and the revision that put it."""

    service: str
    consumer: str
    contract: Contract
    digest: str
    revision: int


class ReaderBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A consumer that is to be deployed; without `contract` the one that was published counts."""

    service: Name
    consumer: Name
    contract: Contract | None = None


class CanDeployBody(Struct, frozen=True, forbid_unknown_fields=True):
    """One of two questions, or with neither a third one: is every contract kept as things stand?

    `reader`: may this consumer run against what stands? `change`: may this change go out, given
    all live contracts? Without `environments`: wherever the contract holds.
    """

    reader: ReaderBody | None = None
    change: ChangeBody | None = None
    environments: Annotated[tuple[Name, ...], Meta(max_length=limits.ENVIRONMENTS_MAX)] = ()


class CanDeploy(Struct, frozen=True):
    """The answer at `revision`. `ok` is false when a problem is an error.

    `contracts` is how many were looked at, in `environments`.
    """

    ok: bool
    problems: tuple[Problem, ...]
    revision: int
    contracts: int
    environments: tuple[str, ...]
