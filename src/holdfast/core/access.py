"""Who may do what: tokens, scopes, and the rights that follow from them.

A token's text is `hf_<id>_<secret>`; what is kept is the SHA-256 of the whole text. The secret is
256 bits of chance, drawn by the caller, so that one plain hash is enough: nothing can be guessed.

A right is (verb, environment, service). A scope gives its verbs, and those they imply, in the
environments and services that it names:

    admin  -> write, follow, read    tokens, environments, keys
    write  -> read                   propose and commit changes
    follow -> read                   what an edge needs: read, and the tokens' hashes (`_access`)
    read                             evaluate; read settings and snapshots

Rights only add up: one more scope never takes one away. `*` as a *wanted* environment or service
means every one of them, now and later, and only a scope that says `*` gives that.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from holdfast.core.errors import Problem, Unauthenticated
from holdfast.core.model import NAME, Scope, Token, Verb

PREFIX: Final = "hf"
SECRET_BYTES: Final = 32
TEXT_CHARS_MAX: Final = 256
"""A longer text is no token and is not hashed."""
SCOPES_MAX: Final = 64
ACCESS: Final = "_access"
"""The reserved service whose snapshot carries the tokens' hashes to the edges."""
EVERY: Final = "*"

IMPLIED: Final[Mapping[Verb, frozenset[Verb]]] = {
    "read": frozenset({"read"}),
    "write": frozenset({"write", "read"}),
    "follow": frozenset({"follow", "read"}),
    "admin": frozenset({"admin", "write", "follow", "read"}),
}

_ID = re.compile(r"[a-z0-9]{1,32}")
_TEXT = re.compile(rf"{PREFIX}_({_ID.pattern})_[0-9a-f]{{{2 * SECRET_BYTES}}}")
_NAME = re.compile(NAME)
_NOBODY = hashlib.sha256(b"").hexdigest()
_REFUSED = "no valid token: it is missing, unknown or revoked"


class Grant(msgspec.Struct, frozen=True):
    """What an authenticated caller may do. `token` is the token's id, fit for logs."""

    token: str
    name: str
    scopes: tuple[Scope, ...]

    @property
    def actor(self) -> str:
        """Who it is, for people and for good: a name alone can be given twice, an id says little.

        The journal keeps this, and so still says it when the token is long gone.
        """
        return self.token if self.name in ("", self.token) else f"{self.name} ({self.token})"

    def allows(self, verb: Verb, environment: str, service: str) -> bool:
        """Whether `verb` is granted there; `*` asks for every environment or every service.

        `_access` can only be read, and only with `follow` in that environment.
        """
        if service == ACCESS:
            return verb in ("read", "follow") and any(
                "follow" in rights(scope) and _covers(scope.environment, environment)
                for scope in self.scopes
            )
        return any(
            verb in rights(scope)
            and _covers(scope.environment, environment)
            and _covers(scope.service, service)
            for scope in self.scopes
        )

    def allows_somewhere(self, verb: Verb, service: str) -> bool:
        """Whether `verb` is granted on the service in at least one environment.

        This is the right to see a service as its authors wrote it, all its environments in one
        document; `*` asks for every service.
        """
        return service != ACCESS and any(
            verb in rights(scope) and _covers(scope.service, service) for scope in self.scopes
        )


def issue(
    token_id: str, secret: bytes, name: str, scopes: Sequence[Scope], expires_s: int = 0
) -> tuple[str, Token]:
    """The text to hand out once, and the token to keep. `secret` is 32 bytes of chance.

    Raises `ValueError` for an id that is not 1-32 of a-z and 0-9 or a secret of another length:
    both are drawn by a program, so that is its fault and nobody's input.
    """
    if not _ID.fullmatch(token_id) or len(secret) != SECRET_BYTES:
        raise ValueError("a token needs an id of 1-32 letters a-z and digits, and 32 secret bytes")
    text = f"{PREFIX}_{token_id}_{secret.hex()}"
    return text, Token(
        name=name, secret_sha256=fingerprint(text), scopes=tuple(scopes), expires_s=expires_s
    )


def authenticate(tokens: Mapping[str, Token], text: str, now_s: float) -> Grant:
    """The grant of a token's text at a time in unix seconds.

    Raises `Unauthenticated` with one message for whatever is wrong, in about the same time. Only
    who proves to hold the secret learns that the token has expired.
    """
    match = _TEXT.fullmatch(text) if len(text) <= TEXT_CHARS_MAX else None
    token = tokens.get(match[1]) if match else None
    kept = token.secret_sha256 if token else _NOBODY
    proven = hmac.compare_digest(fingerprint(text[:TEXT_CHARS_MAX]), kept)
    if match is None or token is None or not proven:
        raise Unauthenticated(_REFUSED)
    if token.expires_s and now_s >= token.expires_s:
        raise Unauthenticated(f"the token {match[1]} has expired: ask for a new one")
    return Grant(token=match[1], name=token.name, scopes=token.scopes)


def expired(tokens: Mapping[str, Token], grant: Grant, now_s: float) -> bool:
    """Whether the token that once gave a grant has expired since; `tokens` are those of then."""
    token = tokens.get(grant.token)
    return token is not None and 0 < token.expires_s <= now_s


def fingerprint(text: str) -> str:
    """The SHA-256 of a token's text, lower-case hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def rights(scope: Scope) -> frozenset[Verb]:
    """The verbs that a scope gives, implied ones counted in."""
    return frozenset[Verb]().union(*(IMPLIED[verb] for verb in scope.verbs))


def may_grant(issuer: Grant, scope: Scope) -> bool:
    """Whether a token with `scope` gives nothing that its issuer lacks.

    To hand out rights at all takes `admin` over the same environments and services, and `admin`
    implies every other verb there.
    """
    return issuer.allows("admin", scope.environment, scope.service)


def scope_problems(scopes: Sequence[Scope], path: str = "/scopes") -> tuple[Problem, ...]:
    """All that is wrong with the scopes of a new token."""
    if not 0 < len(scopes) <= SCOPES_MAX:
        return (
            Problem(
                code="scope-count",
                message=f"a token has 1 to {SCOPES_MAX} scopes, not {len(scopes)}",
                path=path,
                hint='say what it may do, for example {"verbs": ["read"], "service": "demo-shop"}',
            ),
        )
    return tuple(
        problem
        for index, scope in enumerate(scopes)
        for problem in _scope_problems(scope, f"{path}/{index}")
    )


def _scope_problems(scope: Scope, path: str) -> list[Problem]:
    problems = []
    if not scope.verbs or len(set(scope.verbs)) != len(scope.verbs):
        problems.append(
            Problem(
                code="scope-verbs",
                message="a scope names at least one verb, and each of them once",
                path=f"{path}/verbs",
                hint=f"choose from {', '.join(IMPLIED)}",
            )
        )
    problems += [
        Problem(
            code="scope-name",
            message=f"{value[:64]!r} is neither a name nor {EVERY}",
            path=f"{path}/{field}",
            hint=f"write a name (a-z, 0-9 and -, at most 63 characters) or {EVERY} for all",
        )
        for field, value in (("environment", scope.environment), ("service", scope.service))
        if value != EVERY and not _NAME.fullmatch(value)
    ]
    return problems


def _covers(given: str, wanted: str) -> bool:
    return given in (EVERY, wanted)
