"""Tokens and root documents. A secret is shown once, a hash never."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from litestar import delete, get, post, put
from litestar.params import JSONBody, PathParameter

from holdfast.apps.control import schemas
from holdfast.apps.control.door import needs, require
from holdfast.apps.control.openapi import READING, WRITING, errors
from holdfast.apps.control.routes.parameters import Caller, TheControl
from holdfast.core.access import EVERY, SECRET_BYTES, Grant, may_grant
from holdfast.core.errors import NotFound
from holdfast.core.model import DeleteToken, Token

TokenId = Annotated[str, PathParameter(max_length=64, description="A token's id.")]

_WRITE: dict[str, Any] = {"opt": needs("admin"), "responses": errors(*WRITING), "tags": ["access"]}


@post("/v1/tokens", summary="Issue a token", status_code=201, **_WRITE)
async def issue_token(
    control: TheControl, caller: Caller, data: JSONBody[schemas.TokenBody]
) -> schemas.Issued:
    """Issue a token. It can't be given more than the token that asks for it has.

    Its text is in this answer and nowhere else, ever. Several may be alive at once: to replace one,
    issue the next, hand it out, then revoke the old one.
    """
    drawn = secrets.token_hex(8), secrets.token_bytes(SECRET_BYTES)
    return await control.write(control.desk.issue, caller, data, *drawn)


@get(
    "/v1/tokens",
    summary="List tokens",
    sync_to_thread=False,
    opt=needs("admin"),
    responses=errors(*READING),
    tags=["access"],
)
def list_tokens(control: TheControl, caller: Caller) -> schemas.Tokens:
    """Tokens whose every right the caller could grant. No secrets, no hashes."""
    return schemas.Tokens(
        tuple(
            schemas.TokenLine(
                token_id, each.token.name, each.token.scopes, each.token.expires_s, each.revision
            )
            for token_id, each in sorted(control.state().tokens.items())
            if _governs(caller, each.token)
        )
    )


@delete("/v1/tokens/{token:str}", summary="Revoke a token", status_code=200, **_WRITE)
async def revoke_token(control: TheControl, caller: Caller, token: TokenId) -> schemas.Revised:
    """It is refused here at once, and at an edge as soon as the edge has followed."""
    found = control.state().tokens.get(token)
    if found is None or not _governs(caller, found.token):
        raise NotFound(f"there is no token {token!r} that this token may revoke")
    committed = await control.write(
        control.desk.commit_edits, caller, (DeleteToken(token),), f"revoke token {token}"
    )
    return schemas.Revised(committed.revision, committed.hash)


@get(
    "/v1/roots",
    summary="Get the root documents",
    sync_to_thread=False,
    opt=needs("read"),
    responses=errors(*READING),
    tags=["access"],
)
def get_roots(control: TheControl) -> schemas.Roots:
    """The chain that says which keys sign; each one is signed by the one before."""
    return schemas.Roots(control.state().roots)


@put("/v1/roots", summary="Add the next root document", **_WRITE)
async def put_root(
    control: TheControl, caller: Caller, data: JSONBody[schemas.RootBody]
) -> schemas.Revised:
    """The next version, signed by a key of the newest root's and by one of its own."""
    require(caller, "admin", EVERY, EVERY)
    committed = await control.write(control.desk.put_root, caller, data)
    return schemas.Revised(committed.revision, committed.hash)


ROUTES = (issue_token, list_tokens, revoke_token, get_roots, put_root)


def _governs(caller: Grant, token: Token) -> bool:
    return all(may_grant(caller, scope) for scope in token.scopes)
