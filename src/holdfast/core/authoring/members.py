"""Member lists: short ones travel inside of snapshots, long ones as blobs under their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TypeAlias

from holdfast.core import limits
from holdfast.core.errors import Invalid, Problem
from holdfast.core.model import Audience

PutBlob: TypeAlias = Callable[[bytes], str]
"""Keeps bytes under their SHA-256 digest and returns it."""
ReadMembers: TypeAlias = Callable[[str], bytes]
"""The bytes of a `members_file`, its path as written; raises `OSError` when it can't be read."""


def digest_only(body: bytes) -> str:
    """The `PutBlob` of a dry run: nothing is kept."""
    return hashlib.sha256(body).hexdigest()


def audience_of(by: str, members: Iterable[str], put_blob: PutBlob = digest_only) -> Audience:
    """A list audience: sorted, each member once; inline up to `limits.INLINE_MEMBERS_MAX`.

    Longer ones are kept through `put_blob`, as sorted lines of UTF-8 that each end with a newline;
    the write door makes the table for consumers from them. Raises `Invalid` beyond
    `limits.SEGMENT_MEMBERS_MAX`.
    """
    unique = sorted(set(members))
    if len(unique) <= limits.INLINE_MEMBERS_MAX:
        return Audience(by=by, members=tuple(unique))
    if len(unique) > limits.SEGMENT_MEMBERS_MAX:
        message = f"{len(unique)} members; {limits.SEGMENT_MEMBERS_MAX} are the most"
        raise Invalid([Problem(code="too-many", message=message, hint="use a rule instead")])
    digest = put_blob("".join(f"{member}\n" for member in unique).encode())
    return Audience(by=by, members_digest=digest, member_count=len(unique))


def lines(body: bytes) -> list[str]:
    """The members of a file: one to a line, blank ones left out, white space around them too.

    Raises `Invalid` for bytes that are too many or not UTF-8, and for lines that are too long.
    """
    if len(body) > limits.SEGMENT_BYTES_MAX:
        message = f"the list has {len(body)} bytes; {limits.SEGMENT_BYTES_MAX} are the most"
        raise Invalid([Problem(code="too-large", message=message, hint="use a rule instead")])
    try:
        found = [line.strip() for line in body.decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as failure:
        message = f"the list is not UTF-8 at byte {failure.start}"
        hint = "save the list as UTF-8"
        raise Invalid([Problem(code="encoding", message=message, hint=hint)]) from None
    for number, line in enumerate(found, 1):
        if len(line) > limits.TEXT_CHARS_MAX:
            message = f"line {number} of the list has {len(line)} characters"
            hint = f"{limits.TEXT_CHARS_MAX} are the most"
            raise Invalid([Problem(code="too-long", message=message, hint=hint)])
    return [line for line in found if line]
