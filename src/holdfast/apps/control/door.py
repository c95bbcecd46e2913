"""Who comes in: tokens to grants, before a body is read and before a handler runs.

Every route says in `opt` which verb it needs (`needs("write")`, or `PUBLIC`); one that says nothing
takes `admin`. The guard asks whether the token has that verb anywhere; the handler, who knows the
environment and the service, asks for the place (`require`, `require_somewhere`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from holdfast.apps import http
from holdfast.core.access import EVERY, Grant, authenticate, expired, rights
from holdfast.core.errors import Forbidden, HoldfastError, Unauthenticated
from holdfast.core.model import Scope, Subject, Token, Verb
from holdfast.ports import Clock

if TYPE_CHECKING:
    from litestar.connection import ASGIConnection
    from litestar.handlers import BaseRouteHandler

Wire = Sequence[tuple[bytes, bytes]]

ANYBODY: Final = Grant("anybody", "anybody", (Scope(verbs=("read",)),))
"""Whoever comes without a token while reads are open (development, on loopback)."""
NOBODY: Final = Grant("nobody", "nobody", ())
"""Whose token has been revoked, or has expired, since."""
PUBLIC: Final = {"verb": None}
_VERB = "verb"
_CALLER = "holdfast_caller"


class TokenDoor:
    """Grants for headers, by the tokens that stand now. It is `distribute.Door` as well."""

    def __init__(
        self, tokens: Callable[[], Mapping[str, Token]], clock: Clock, open_reads: bool = False
    ) -> None:
        self._tokens = tokens
        self._clock = clock
        self._open_reads = open_reads

    def caller(self, headers: Wire) -> Grant:
        """Raises `Unauthenticated`. A token that is wrong is refused where none would do, too."""
        text = http.token_text(headers)
        if text is None and self._open_reads and not _tries(headers):
            return ANYBODY
        return authenticate(self._tokens(), text or "", self._clock())

    def admit(self, headers: Wire, verb: Verb, subject: Subject) -> None:
        """Raises `Unauthenticated` and `Forbidden`."""
        require(self.caller(headers), verb, subject.environment, subject.service)

    def sees(self, headers: Wire) -> Callable[[Subject], bool]:
        """By the tokens of the time when it is asked: open streams outlive tokens."""
        tokens, caller = self._tokens(), self.caller(headers)

        def may_read(subject: Subject) -> bool:
            nonlocal tokens, caller
            if self._tokens() is not tokens or expired(tokens, caller, self._clock()):
                tokens = self._tokens()
                try:
                    caller = self.caller(headers)
                except Unauthenticated:
                    caller = NOBODY
            return caller.allows("read", subject.environment, subject.service)

        return may_read

    @property
    def public(self) -> bool:
        return self._open_reads


def needs(verb: Verb) -> dict[str, Verb]:
    """A route's `opt`: the verb that its caller must have somewhere."""
    return {_VERB: verb}


def remember(scope: Any, door: TokenDoor) -> None:
    """Authenticate once per request; the guard raises what went wrong, when the route minds."""
    try:
        scope[_CALLER] = door.caller(scope["headers"])
    except HoldfastError as refused:
        scope[_CALLER] = refused


def known(scope: Any) -> Grant | None:
    """The caller of a remembered request, none when nobody is authenticated."""
    caller = scope.get(_CALLER)
    return caller if isinstance(caller, Grant) else None


def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Raises `Unauthenticated` and `Forbidden`; runs before the body is read."""
    verb: Verb | None = handler.opt.get(_VERB, "admin")
    if verb is None:
        return
    caller = connection.scope.get(_CALLER)
    if isinstance(caller, HoldfastError):
        raise caller
    if not isinstance(caller, Grant):
        raise Forbidden("nobody asked who is calling")
    if not any(verb in rights(scope) for scope in caller.scopes):
        raise _refused(caller, f"has no right to {verb} anything")


def require(caller: Grant, verb: Verb, environment: str, service: str) -> None:
    """Raises `Forbidden` unless the caller may do that there."""
    if not caller.allows(verb, environment, service):
        place = f"{_named(service, 'service')} in {_named(environment, 'environment')}"
        raise _refused(caller, f"may not {verb} {place}")


def require_somewhere(caller: Grant, verb: Verb, service: str) -> None:
    """Raises `Forbidden` unless the caller may do that with the service in some environment."""
    if not caller.allows_somewhere(verb, service):
        raise _refused(caller, f"may not {verb} {_named(service, 'service')}")


def _refused(caller: Grant, why: str) -> HoldfastError:
    if caller is ANYBODY:
        return Unauthenticated("only reads are open: send Authorization: Bearer hf_…")
    return Forbidden(f"the token {caller.token} {why}")


def _named(name: str, noun: str) -> str:
    return f"every {noun}" if name == EVERY else name


def _tries(headers: Wire) -> bool:
    return any(value and name in (b"authorization", b"x-api-key") for name, value in headers)
