"""JSON pointers (RFC 6901), and near misses: where a problem is, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import msgspec

from holdfast.core.errors import Problem

_CANDIDATES_MAX: Final = 1_000


def pointer(path: Iterable[str | int]) -> str:
    """The pointer that these steps make."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)


def below(prefix: str, problems: Iterable[Problem]) -> Iterator[Problem]:
    """The problems with `prefix` before their paths."""
    for problem in problems:
        yield msgspec.structs.replace(problem, path=prefix + problem.path)


def near(name: str, candidates: Iterable[str]) -> str:
    """`did you mean …?` of the first thousand candidates, or nothing."""
    known = [*islice(candidates, _CANDIDATES_MAX)]
    close = difflib.get_close_matches(name[:200], known, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else ""


def short(text: str, chars_max: int = 60) -> str:
    """The text, cut where it would flood a message."""
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"
