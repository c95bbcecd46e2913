"""How the command line tells an error: what is wrong, where, and the way out."""

from __future__ import annotations

from holdfast.apps.cli.api import NoAnswer, NotControl, OutcomeUnknown
from holdfast.apps.cli.output import print_problem, print_problems
from holdfast.apps.http import exit_code_of
from holdfast.core.errors import (
    Conflict,
    Damaged,
    Forbidden,
    Guarded,
    HoldfastError,
    Invalid,
    Problem,
    SickDisk,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Untrusted,
)

WAY_OUT: tuple[tuple[type[HoldfastError], str], ...] = (
    (Conflict, "look at the difference again (holdfast plan …), then apply"),
    (Unauthenticated, "give --token or HOLDFAST_TOKEN; holdfast token create makes one"),
    (Forbidden, "ask somebody who may, or use a token whose scopes allow it (holdfast token list)"),
    (TooLarge, "split it, or look whether it is meant"),
    (NotControl, "give --server, or HOLDFAST_SERVER, the URL of its control plane"),
    (OutcomeUnknown, "before you send it again, look whether it stands: holdfast history"),
    (NoAnswer, "is it running? holdfast status --server URL; holdfast dev starts one here"),
    (SickDisk, "make that disk take writes (room, mount, health), then start or send it again"),
    (Damaged, "nothing was served from it; restore it from a backup or another node"),
    (Untrusted, "nothing of it was used; check which root this consumer pins (holdfast keys show)"),
)


def tell_failure(error: Exception) -> int | None:
    """Tell `error` on standard error; its exit code, or none when it is not one of ours."""
    if isinstance(error, OSError):  # of a directory, a file, or where the output goes
        named = error.filename is not None and error.strerror
        error = Unavailable(f"{error.filename}: {error.strerror}" if named else str(error))
    if not isinstance(error, HoldfastError):
        return None
    if isinstance(error, Invalid | Guarded):
        print_problems(error.problems)
    else:
        hint = next((way for kind, way in WAY_OUT if isinstance(error, kind)), "")
        print_problem(Problem(code=error.code, message=str(error), hint=hint))
    return exit_code_of(error)
