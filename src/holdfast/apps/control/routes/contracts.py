"""Contracts: what consumers need of a service, and whether something may go out."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import delete, get, post, put
from litestar.params import JSONBody, PathParameter

from holdfast.apps.control import schemas
from holdfast.apps.control.contract_schemas import (
    CanDeploy,
    CanDeployBody,
    ContractBody,
    ContractDetail,
    ContractLine,
    Contracts,
)
from holdfast.apps.control.deployability import ask, ask_for_change
from holdfast.apps.control.door import needs, require_somewhere
from holdfast.apps.control.openapi import READING, WRITING, errors
from holdfast.apps.control.routes.parameters import Caller, Cursor, Limit, ServiceName, TheControl
from holdfast.apps.control.routes.services import paged, service_of
from holdfast.core.errors import NotFound
from holdfast.core.model import DeleteContract, PutContract
from holdfast.core.needs import contract_digest
from holdfast.core.state import ContractState, State

ConsumerName = Annotated[str, PathParameter(description="A consumer's name.")]

_READ: dict[str, Any] = {"opt": needs("read"), "responses": errors(*READING), "tags": ["contracts"]}
_WRITE: dict[str, Any] = {
    "opt": needs("write"),
    "responses": errors(*WRITING),
    "tags": ["contracts"],
}


@get(
    "/v1/services/{service:str}/contracts",
    summary="List a service's contracts",
    sync_to_thread=False,
    **_READ,
)
def list_contracts(
    control: TheControl,
    caller: Caller,
    service: ServiceName,
    cursor: Cursor = None,
    limit: Limit = schemas.PAGE,
) -> Contracts:
    """What consumers need of one service, by consumer."""
    require_somewhere(caller, "read", service)
    state = control.state()
    service_of(state, service)
    kept = state.contracts.get(service, {})
    page, more = paged(kept, cursor, limit, lambda consumer: consumer)
    return Contracts(tuple(_line(consumer, kept[consumer]) for consumer in page), more)


@get(
    "/v1/services/{service:str}/contracts/{consumer:str}",
    summary="Get a contract",
    sync_to_thread=False,
    **_READ,
)
def get_contract(
    control: TheControl, caller: Caller, service: ServiceName, consumer: ConsumerName
) -> ContractDetail:
    """What one consumer needs."""
    require_somewhere(caller, "read", service)
    kept = _kept(control.state(), service, consumer)
    digest = contract_digest(kept.contract)
    return ContractDetail(service, consumer, kept.contract, digest, kept.revision)


@put("/v1/services/{service:str}/contracts/{consumer:str}", summary="Publish a contract", **_WRITE)
async def put_contract(
    control: TheControl,
    caller: Caller,
    service: ServiceName,
    consumer: ConsumerName,
    data: JSONBody[ContractBody],
) -> schemas.Committed:
    """From now on every change is held against it. 422 when what stands does not keep it.

    It takes `write` in each environment in which it holds, for it keeps others from changes.
    """
    edit = PutContract(service, consumer, data.contract)
    reason = data.reason or f"contract of {consumer} {data.contract.version}".rstrip()
    return await control.write(control.desk.commit_edits, caller, (edit,), reason)


@delete(
    "/v1/services/{service:str}/contracts/{consumer:str}",
    summary="Delete a contract",
    status_code=200,
    **_WRITE,
)
async def delete_contract(
    control: TheControl, caller: Caller, service: ServiceName, consumer: ConsumerName
) -> schemas.Revised:
    """The consumer is gone, or does not read the service any more."""
    require_somewhere(caller, "read", service)
    _kept(control.state(), service, consumer)
    edit, reason = DeleteContract(service, consumer), f"delete contract of {consumer}"
    committed = await control.write(control.desk.commit_edits, caller, (edit,), reason)
    return schemas.Revised(committed.revision, committed.hash)


@post(
    "/v1/can-deploy",
    summary="Ask whether something may go out",
    status_code=200,
    opt=needs("read"),
    responses=errors(*WRITING),
    tags=["contracts"],
)
async def can_deploy(
    control: TheControl, caller: Caller, data: JSONBody[CanDeployBody]
) -> CanDeploy:
    """For a consumer, for a change, or for all that stands. Writes nothing.

    Asked for a change it takes what committing that change would take.
    """
    if data.change is not None:
        state = control.state()
        return await control.write(ask_for_change, state, control.desk, caller, data)
    return await control.read(ask, control.state(), control.world, caller, data)


ROUTES = (list_contracts, get_contract, put_contract, delete_contract, can_deploy)


def _kept(state: State, service: str, consumer: str) -> ContractState:
    """Raises `NotFound`."""
    kept = state.contracts.get(service, {}).get(consumer)
    if kept is None:
        raise NotFound(f"{service!r} has no contract of {consumer!r}")
    return kept


def _line(consumer: str, kept: ContractState) -> ContractLine:
    contract = kept.contract
    return ContractLine(
        consumer=consumer,
        version=contract.version,
        owners=contract.owners,
        environments=contract.environments,
        need_count=len(contract.needs),
        example_count=len(contract.examples),
        digest=contract_digest(contract),
        revision=kept.revision,
    )
