"""Every error of Holdfast, by who must act.

    HoldfastError
    ├── AuthorError              the author mends the change
    │   └── Invalid              with all problems of the change
    ├── CallerError              the caller mends the call
    │   ├── Conflict             somebody else wrote first
    │   ├── Forbidden            the token may not do that
    │   │   └── Guarded          the environment's policy asks for more than the change has
    │   ├── Misdirected          another edge serves that
    │   ├── NotFound
    │   ├── TooLarge             a bound of the service was passed
    │   └── Unauthenticated      no token, or one that is unknown, revoked or expired
    └── OperatorError            the operator mends the system
        ├── Damaged              stored bytes are not what was written
        ├── Fenced               another node leads by now; nothing was written
        ├── Unavailable          a store or a peer does not answer
        │   ├── Behind               this node has not read that far in the journal
        │   ├── Marked               the store takes no writes: it is moved, or being filled
        │   └── SickDisk             a disk that is full, read-only or faulty: nothing was written
        └── Untrusted            bytes whose signature, lineage or shape can't be believed

A check *returns* problems (`Problem`, all of them); an exception is for what can't go on. The HTTP
status and the exit code of each class stand in one table, in `holdfast.apps.http`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong, where it is, and the way out.

    `path` is a JSON pointer (RFC 6901) into the document or the change. `line` and `column` count
    from 1 and are 0 where the input has none. `hint` says what to do, in the imperative.
    """

    code: str
    message: str
    path: str = ""
    hint: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        where = " ".join(part for part in (place, self.path) if part)
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} [{self.code}]" + (f"\n  {self.hint}" if self.hint else "")


class HoldfastError(Exception):
    """Base of all errors that Holdfast raises on purpose."""

    code = "error"


class AuthorError(HoldfastError):
    """The author must mend the change."""

    code = "invalid"


class Invalid(AuthorError):
    """A document or a change has problems; `problems` holds all of them, at least one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CallerError(HoldfastError):
    """The caller must mend the call."""

    code = "bad-call"


class Conflict(CallerError):
    """Somebody else wrote first: the base revision of the change is not the head any more."""

    code = "conflict"

    def __init__(self, expected_revision: int, actual_revision: int) -> None:
        self.expected_revision = expected_revision
        self.actual_revision = actual_revision
        super().__init__(
            f"the change was made on revision {expected_revision}, "
            f"the journal is at revision {actual_revision}: look at the difference, then try again"
        )


class Forbidden(CallerError):
    code = "forbidden"


class Guarded(Forbidden):
    """The policy of an environment asks for more: approvals, or another time.

    `problems` holds all that is lacking, at least one; `code` is that of the first.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        self.code = self.problems[0].code
        super().__init__("; ".join(problem.message for problem in self.problems))


class NotFound(CallerError):
    code = "not-found"


class Misdirected(CallerError):
    """Another edge serves that; this one does not, and says which."""

    code = "misdirected"


class TooLarge(CallerError):
    code = "too-large"


class Unauthenticated(CallerError):
    code = "unauthenticated"


class OperatorError(HoldfastError):
    """The operator must mend the system."""

    code = "system"


class Damaged(OperatorError):
    code = "damaged"


class Fenced(OperatorError):
    """Another node leads by now: a write in the name of an earlier lease, and nothing was written.

    `fence` is the token that the write carried, `token` that of the newest lease ever given.
    """

    code = "fenced"

    def __init__(self, fence: int, token: int) -> None:
        self.fence = fence
        self.token = token
        super().__init__(
            f"another node leads by now: the write carried the lease {fence}, the newest is {token}"
        )


class Unavailable(OperatorError):
    """Nobody answers. `retry_after_s`: who was asked wishes to be left alone for so long, or 0;
    `poll_s`: and to be polled no oftener than that afterwards.
    """

    code = "unavailable"

    def __init__(self, message: str = "", retry_after_s: float = 0.0, poll_s: float = 0.0) -> None:
        self.retry_after_s = retry_after_s
        self.poll_s = poll_s
        super().__init__(message)


class Behind(Unavailable):
    """A node was asked for a revision that it has not, and could not get in time.

    `silent`: the store did not answer it; else the journal itself ends below that revision.
    """

    code = "behind"

    def __init__(self, expected_revision: int, actual_revision: int, silent: bool) -> None:
        self.expected_revision = expected_revision
        self.actual_revision = actual_revision
        why = (
            "and the store does not let it catch up: ask another node, or again"
            if silent
            else "and so is the journal: was it restored from an older copy?"
        )
        super().__init__(
            f"revision {expected_revision} or a newer one was asked for; this node is at revision "
            f"{actual_revision}, {why}"
        )


class Marked(Unavailable):
    """A store that takes no writes: `mark` says why. Nothing was written.

    What a caller may read of it is in `public`: a mark may name hosts.
    """

    code = "store-marked"
    public = (
        "the store takes no changes: it was moved elsewhere, or is being filled. Nothing was "
        "changed; `holdfast store status` says more to its operator"
    )

    def __init__(self, mark: str) -> None:
        self.mark = mark
        super().__init__(f"the store is marked: no writes ({mark})")


Sickness: TypeAlias = Literal["disk-full", "disk-read-only", "disk-fault"]


class SickDisk(Unavailable):
    """A disk refused a write, and nothing of it stands; `code` says in which way.

    `public` is what a caller may read: it names no path.
    """

    def __init__(self, message: str, code: Sickness = "disk-fault") -> None:
        self.code = code
        super().__init__(message)

    @property
    def public(self) -> str:
        what = {"disk-full": "is full", "disk-read-only": "is read-only"}.get(self.code, "failed")
        return f"the disk of this node {what}: nothing was committed, reads go on; try again later"


class Untrusted(OperatorError):
    """Bytes that can't be believed; `code` says which check refused them.

    `key` names the setting that it failed on, where it was one. `revision` and `digest` are those
    of the snapshot that was refused, where it got so far as to say them.
    """

    def __init__(self, code: str, message: str, key: str = "") -> None:
        self.code = code
        self.key = key
        self.revision = 0
        self.digest = ""
        super().__init__(message)
