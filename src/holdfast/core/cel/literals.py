"""Constants inside of conditions that are read once, when the condition is lowered."""

from __future__ import annotations

import re
from datetime import datetime
from fractions import Fraction

from holdfast.core.targeting import semver

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|ns|m|s)")
_UNIT_S = {
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 10**3),
    "us": Fraction(1, 10**6),
    "ns": Fraction(1, 10**9),
}


def number(value: float | Fraction) -> int | float:
    """The number as canonical JSON writes it: whole ones without a fraction."""
    return int(value) if value == int(value) else float(value)


def timestamp_s(text: str) -> int | float | None:
    """RFC 3339 to unix seconds; None when it is not one or lacks its offset from UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return number(moment.timestamp()) if moment.tzinfo and "T" in text.upper() else None


def duration_s(text: str) -> int | float | None:
    """`1h30m`, `-90s`, `250ms` in seconds; None when it is not a duration."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    parts = list(_DURATION.finditer(digits))
    if not parts or "".join(part[0] for part in parts) != digits:
        return None
    return number(sign * sum(Fraction(part[1]) * _UNIT_S[part[2]] for part in parts))


def is_version(text: str) -> bool:
    """Whether flagd's `sem_ver` reads it: Semantic Versioning, `v` and missing parts allowed."""
    return semver.parse(text) is not None
