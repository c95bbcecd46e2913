"""The reserved subject `_access`: the tokens that may do anything in an environment."""

from __future__ import annotations

import msgspec

from holdfast.core import limits
from holdfast.core.errors import Invalid, Problem
from holdfast.core.model import Subject
from holdfast.core.snapshot import ACCESS_KEY, Semantics, SettingFacts
from holdfast.core.state import State
from holdfast.core.wire import canonical, digest


def access_setting(
    state: State, subject: Subject, revision: int, semantics: Semantics
) -> tuple[msgspec.Raw, msgspec.Raw]:
    """The flag and the facts of its one object setting, `snapshot.ACCESS_KEY`.

    It is held to the bound of every value: an edge that refused it would let nobody in. Raises
    `Invalid` beyond that.
    """
    tokens = {}
    for name, kept in state.tokens.items():
        here = tuple(s for s in kept.token.scopes if s.environment in (subject.environment, "*"))
        if here:
            tokens[name] = msgspec.structs.replace(kept.token, scopes=here)
    value = canonical(tokens)
    if len(value) > limits.VALUE_BYTES_MAX:
        raise Invalid([_too_many_tokens(subject, len(tokens), len(value))])
    variants = {ACCESS_KEY: msgspec.Raw(value)}
    flag = canonical({"state": "ENABLED", "variants": variants, "defaultVariant": ACCESS_KEY})
    source = canonical([msgspec.Raw(flag), {}, {}, semantics])
    facts = SettingFacts(type="object", revision=revision, digest=digest(source))
    return msgspec.Raw(flag), msgspec.Raw(canonical(facts))


def _too_many_tokens(subject: Subject, count: int, size: int) -> Problem:
    return Problem(
        code="tokens-size",
        message=f"the {count} tokens of {subject.environment} take {size} bytes, "
        f"at most {limits.VALUE_BYTES_MAX} are allowed",
        path="/tokens",
        hint="revoke tokens that nobody uses, or scope each to one environment",
    )
