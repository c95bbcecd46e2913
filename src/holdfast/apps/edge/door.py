"""Who may come in at an edge: tokens from the followed `_access` snapshots, no call to anybody.

Each environment has its own `_access` snapshot. As long as there is none for an environment,
nobody gets in there (unless reads are open): an edge that knows no tokens believes none. Open reads
are for those who send no token: one that is wrong is refused, here as at a control plane, so that
it is found before reads are closed. Where no tokens are known yet, none is known to be wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from weakref import WeakValueDictionary

import msgspec

from holdfast.apps.http import TOKEN_CHARS_MAX, token_text
from holdfast.core.access import ACCESS, Grant, authenticate, expired
from holdfast.core.errors import Forbidden, Unauthenticated, Untrusted
from holdfast.core.evaluate import Evaluator
from holdfast.core.model import Scope, Subject, Token, Verb
from holdfast.core.snapshot import ACCESS_KEY
from holdfast.ports import Clock

ADMITTED_MAX = 10_000
"""Callers remembered as let in; beyond that, all are forgotten and checked again."""
SPELLINGS_MAX = 8
"""Header values of one token by which its caller is known: spaces, the one header or the other."""
REMEMBERED_CHARS_MAX = 2 * TOKEN_CHARS_MAX
"""Header value and place of one caller; longer ones are checked each time."""
NEVER = float("inf")


class _Kept(msgspec.Struct, frozen=True):
    """A token as `_access` carries it."""

    secret_sha256: str
    scopes: tuple[Scope, ...]
    expires_s: int = 0


def tokens_of(evaluator: Evaluator) -> dict[str, Token]:
    """The tokens of an `_access` snapshot, by id. Raises `Untrusted` for what holds none."""
    value = evaluator.evaluate(ACCESS_KEY, {}).value
    try:
        kept = msgspec.convert(value, dict[str, _Kept])
    except msgspec.ValidationError as error:
        raise Untrusted("access", f"the snapshot of {ACCESS} holds no tokens: {error}") from None
    return {
        token: Token(token, each.secret_sha256, each.scopes, each.expires_s)
        for token, each in kept.items()
    }


class _Tokens:
    """One state of all tokens. What was derived from it goes away with it, so that a revoked token
    can't be remembered by somebody who was in the middle of an answer."""

    __slots__ = ("admitted", "by_environment", "callers", "spellings")

    def __init__(self, by_environment: Mapping[str, Mapping[str, Token]]) -> None:
        self.by_environment = by_environment
        self.admitted: dict[tuple[bytes, str], float] = {}
        self.callers: dict[bytes, str] = {}
        self.spellings: Counter[tuple[str, str]] = Counter()


class EdgeDoor:
    """The door of an edge (`holdfast.apps.distribute.Door`)."""

    def __init__(self, clock: Clock, *, open_reads: bool = False) -> None:
        self._clock = clock
        self._tokens = _Tokens({})
        self._sights: WeakValueDictionary[str, Callable[[Subject], bool]] = WeakValueDictionary()
        self.public = open_reads
        self.refused = 0
        """Callers turned away."""
        self.forgotten = 0
        """Times that too many callers were remembered."""

    def learn(self, environment: str, tokens: Mapping[str, Token]) -> None:
        """Take an environment's tokens from a newly active `_access` snapshot."""
        self._tokens = _Tokens({**self._tokens.by_environment, environment: tokens})

    @property
    def tokens(self) -> object:
        """What all tokens were last learnt as: the same object as long as nothing is learnt."""
        return self._tokens

    @property
    def knows_tokens(self) -> bool:
        """Whether callers can be told apart in any environment."""
        return bool(self._tokens.by_environment)

    def knows(self, environment: str) -> bool:
        """Whether callers can be told apart there."""
        return environment in self._tokens.by_environment

    def lets_read(self, credential: bytes | None, name: str) -> bool:
        """The hot path of `admit`: whether this very header value was let in there before.

        `name` is "environment/service", of a subject that settings are read from. A plain look-up:
        Python's string hashing is keyed by chance, so its timing tells nothing of what is
        remembered.
        """
        if credential is None:
            return self.public
        until_s = self._tokens.admitted.get((credential, name))
        return until_s is not None and (until_s == NEVER or self._clock() < until_s)

    def caller(self, credential: bytes) -> str | None:
        """The id of the token that this header value was proven to be; none for a stranger."""
        return self._tokens.callers.get(credential)

    def admit(self, headers: Sequence[tuple[bytes, bytes]], verb: Verb, subject: Subject) -> None:
        if verb == "read":
            value = credential(dict(headers))
            of_settings = value is not None or subject.service != ACCESS
            if of_settings and self.lets_read(value, str(subject)):
                return
        tokens = self._tokens
        if verb == "read" and self._knows_no_better(tokens, subject):
            return
        try:
            grant = self._grant(tokens, headers, subject.environment)
        except Unauthenticated:
            self.refused += 1
            raise
        if not grant.allows(verb, subject.environment, subject.service):
            self.refused += 1
            raise Forbidden(f"the token {grant.token} may not {verb} {subject}")
        if verb == "read":
            self._remember(tokens, headers, subject, grant)

    def sees(self, headers: Sequence[tuple[bytes, bytes]]) -> Callable[[Subject], bool]:
        """Which subjects a caller may read: of every environment that knows the caller's token.

        Callers with the same token get the very same function, as long as one of them has it: a
        fan-out asks it once for all of them.

        It goes by the tokens and the time at which it is asked, so that a stream which is open when
        its token is revoked, or expires, tells nothing more.
        """
        if self.public and credential(dict(headers)) is None:
            return _settings
        tokens, grants = self._tokens, self._grants(headers)
        if not grants and not (self.public and not self.knows_tokens):
            self.refused += 1
            raise Unauthenticated("no valid token: it is missing, unknown, revoked or expired")
        text = token_text(headers) or ""
        known = self._sights.get(text)
        if known is not None:
            return known

        def may_read(subject: Subject) -> bool:
            nonlocal tokens, grants
            if tokens is not self._tokens:
                tokens, grants = self._tokens, self._grants(headers)
            if self._knows_no_better(tokens, subject):
                return True
            grant = grants.get(subject.environment)
            if grant is None or not grant.allows("read", subject.environment, subject.service):
                return False
            return not expired(tokens.by_environment[subject.environment], grant, self._clock())

        self._sights[text] = may_read
        return may_read

    def _knows_no_better(self, tokens: _Tokens, subject: Subject) -> bool:
        """Whether reads are open, and no token could be told from a wrong one there."""
        settings = subject.service != ACCESS
        return self.public and settings and subject.environment not in tokens.by_environment

    def _grants(self, headers: Sequence[tuple[bytes, bytes]]) -> dict[str, Grant]:
        """By environment, of those that know the caller's token."""
        tokens = self._tokens
        grants: dict[str, Grant] = {}
        for environment in tokens.by_environment:
            try:
                grants[environment] = self._grant(tokens, headers, environment)
            except Unauthenticated:
                continue
        return grants

    def _grant(
        self, tokens: _Tokens, headers: Sequence[tuple[bytes, bytes]], environment: str
    ) -> Grant:
        text = token_text(headers)
        known = tokens.by_environment.get(environment)
        if text is None or known is None:
            raise Unauthenticated("no valid token: send Authorization: Bearer hf_…")
        return authenticate(known, text, self._clock())

    def _remember(
        self,
        tokens: _Tokens,
        headers: Sequence[tuple[bytes, bytes]],
        subject: Subject,
        grant: Grant,
    ) -> None:
        value = credential(dict(headers))
        # With several credentials in one request, the one remembered might not be the one proven.
        if value is None or token_text(headers) not in _texts(value):
            return
        # The caller chooses both: spaces around a token, names of what there is not.
        if len(value) + len(str(subject)) > REMEMBERED_CHARS_MAX:
            return
        if len(tokens.admitted) >= ADMITTED_MAX:
            tokens.admitted.clear()
            self.forgotten += 1
        expires_s = tokens.by_environment[subject.environment][grant.token].expires_s
        tokens.admitted[value, str(subject)] = expires_s or NEVER
        # Bounded for each token: by what one of them asks for, no other becomes a stranger.
        of = (subject.environment, grant.token)
        if value not in tokens.callers and tokens.spellings[of] < SPELLINGS_MAX:
            tokens.spellings[of] += 1
            tokens.callers[value] = grant.token


def _settings(subject: Subject) -> bool:
    """What everybody sees where reads are open."""
    return subject.service != ACCESS


def credential(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The header value that a token would be in, as it was sent; none for an empty one."""
    return headers.get(b"authorization") or headers.get(b"x-api-key") or None


def _texts(value: bytes) -> set[str | None]:
    return {token_text([(name, value)]) for name in (b"authorization", b"x-api-key")} - {None}
