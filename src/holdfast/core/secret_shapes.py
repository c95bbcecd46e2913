"""Does a text look like a secret? Known shapes of credentials, and chance under a telling name.

A finding says where, what it looks like and how the text begins, never the text.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

from holdfast.core.model import JSON

TEXTS_MAX: Final = 2_000
"""Texts of one setting that are looked at."""
CHARS_MAX: Final = 8_192
"""Of one text, from its beginning."""
SHOWN_CHARS: Final = 4
CHANCE_CHARS_MIN: Final = 16
CHANCE_BITS_MIN: Final = 3.3
"""Shannon entropy of a character in texts that look drawn by chance."""

_SHAPES: Final = tuple(
    (what, re.compile(pattern))
    for what, pattern in (
        ("a private key", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----"),
        ("an AWS access key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
        ("a GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})"),
        ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
        ("a Slack token", r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
        ("a Stripe key", r"\b[rs]k_live_[A-Za-z0-9]{16,}"),
        ("a Google API key", r"\bAIza[0-9A-Za-z_-]{35}"),
        ("an npm token", r"\bnpm_[A-Za-z0-9]{36}"),
        ("a SendGrid key", r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
        ("a token of Holdfast", r"\bhf_[0-9a-f]{8,}[._][A-Za-z0-9_-]{20,}"),
        ("a JSON Web Token", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
        ("an Azure account key", r"(?i)\bAccountKey=[A-Za-z0-9+/=]{40,}"),
        ("a password in an address", r"://[^\s/:@{}$<>]+:[^\s/:@{}$<>]{3,}@"),
        ("a password in a connection string", r"(?i)\b(?:password|pwd)=[^;\s{}$<>*]{4,}"),
    )
)
_TELLING: Final = re.compile(
    r"(?i)(?:^|[^a-z])(?:pass(?:word|wd|phrase)?|secret|token|credentials?|api[_-]?key|apikey|"
    r"access[_-]?key|private[_-]?key|client[_-]?secret|signing[_-]?key)s?(?:$|[^a-z])"
)
_WORDS: Final = re.compile(r"(?:[A-Za-z]{2,}|\d{1,4})(?:[ ._/:@-]+(?:[A-Za-z]{2,}|\d{1,4}))*")
"""Names, sentences, paths, versions: what people write."""


class Suspect(msgspec.Struct, frozen=True):
    """A text that looks like a secret: its place below the value, and what can be told of it."""

    path: tuple[str | int, ...]
    what: str
    shown: str


def suspects(value: JSON, names: tuple[str, ...]) -> Iterator[Suspect]:
    """Texts of a JSON value that look like secrets; `names` are those that the value stands under.

    At most `TEXTS_MAX` texts are looked at.
    """
    left = TEXTS_MAX
    waiting: list[tuple[tuple[str | int, ...], JSON]] = [((), value)]
    while waiting and left:
        path, item = waiting.pop()
        if isinstance(item, dict):
            waiting += (((*path, key), inner) for key, inner in item.items())
        elif isinstance(item, list):
            waiting += (((*path, number), inner) for number, inner in enumerate(item))
        elif isinstance(item, str):
            left -= 1
            fields = tuple(step for step in path if isinstance(step, str))
            what = looks_like(item, (*names, *fields))
            if what:
                yield Suspect(path, what, shown(item))


def looks_like(text: str, names: tuple[str, ...] = ()) -> str:
    """What kind of secret a text under `names` looks like; empty for none."""
    head = text[:CHARS_MAX]
    for what, shape in _SHAPES:
        if shape.search(head):
            return what
    if names and any(_TELLING.search(_spaced(name)) for name in names) and is_chance(head):
        return "a secret, by its name and its letters"
    return ""


def is_chance(text: str) -> bool:
    """Whether a text looks drawn by chance: long, without blanks, of letters that hardly repeat."""
    if len(text) < CHANCE_CHARS_MIN or any(char.isspace() for char in text):
        return False
    if _WORDS.fullmatch(text) or "://" in text:
        return False
    mixed = any(char.isdigit() for char in text) and any(char.isalpha() for char in text)
    return mixed and entropy_bits(text) >= CHANCE_BITS_MIN


def entropy_bits(text: str) -> float:
    """Shannon's entropy of one character, by the text's own frequencies."""
    size = len(text)
    return -sum(n / size * math.log2(n / size) for n in Counter(text).values())


def shown(text: str) -> str:
    """How it begins, and how long it is."""
    begin = text[: min(SHOWN_CHARS, len(text) // 4)]
    return f"{begin}… ({len(text)} characters)"


def _spaced(name: str) -> str:
    """`clientSecret` as `client Secret`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name[:256])
