"""Settings files as the command line has them: found, read, checked offline, their lists sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from errno import EFBIG, EINVAL
from pathlib import Path
from typing import Final

import click
import msgspec

from holdfast.apps.cli.api import Api
from holdfast.apps.cli.files import SUFFIXES, files_of
from holdfast.apps.control.schemas import DOCUMENTS_MAX, Blob, Text
from holdfast.core.authoring import (
    Plan,
    PutBlob,
    SourceFile,
    check_together,
    lint_together,
    parse,
    plan,
    standing,
)
from holdfast.core.authoring.members import digest_only
from holdfast.core.authoring.tree import Node
from holdfast.core.errors import Invalid, Problem
from holdfast.core.limits import DOCUMENT_BYTES_MAX, SEGMENT_BYTES_MAX
from holdfast.core.state import State

LISTED: Final = "members_file"
BY_DIGEST: Final = "members_digest"
TOGETHER_BYTES_MAX: Final = DOCUMENT_BYTES_MAX - 8 * 1024
"""Files of one change, as JSON: a request has its reason besides."""
ELSEWHERE: Final = "unknown-service"
FROM_ELSEWHERE: Final = frozenset(
    {
        "unknown-attribute",
        "unknown-segment",
        "cel-unknown-attribute",
        "cel-unknown-segment",
    }
)
"""What an included service may bring along."""


class Found(msgspec.Struct, frozen=True):
    """The files that hold text, and a problem for each that does not."""

    texts: tuple[Text, ...]
    problems: tuple[Problem, ...]


def find_texts(paths: Sequence[Path]) -> Found:
    """The files at `paths`, directories walked, in the order of their names.

    Raises a usage error for what is not there or can't be opened, naming all of it.
    """
    files = files_of(paths)
    if not files:
        raise click.UsageError(
            f"No settings files in {', '.join(map(str, paths))}: they end in {', '.join(SUFFIXES)}."
        )
    if len(files) > DOCUMENTS_MAX:
        raise click.UsageError(f"{len(files)} files, and one change holds {DOCUMENTS_MAX} at most.")
    read: list[Text | Problem] = []
    absent = []
    for file in files:
        try:
            read.append(_text_of(file))
        except OSError as failed:
            absent.append(f"{file}: {failed.strerror or failed}")
    if absent:
        raise click.UsageError("\n".join(absent))
    return Found(
        tuple(one for one in read if isinstance(one, Text)),
        tuple(one for one in read if isinstance(one, Problem)),
    )


def read_texts(paths: Sequence[Path]) -> tuple[Text, ...]:
    """As `find_texts`. Raises `Invalid` for files that hold no text."""
    found = find_texts(paths)
    if found.problems:
        raise Invalid(found.problems)
    return found.texts


def read_change(paths: Sequence[Path]) -> tuple[Text, ...]:
    """Settings files that fit into one change.

    Raises `Invalid` for those that don't, with all else that can be told of them here.
    """
    found = find_texts(paths)
    problems = (*found.problems, *too_large_together(found.texts))
    if problems:
        raise Invalid((*problems, *offline_problems(found.texts)))
    return found.texts


def too_large_together(texts: Sequence[Text]) -> tuple[Problem, ...]:
    """That these files are more than one change may carry: none, or one problem."""
    size = len(msgspec.json.encode(texts))
    if size <= TOGETHER_BYTES_MAX:
        return ()
    noun = "file comes" if len(texts) == 1 else "files together come"
    message = f"{len(texts)} {noun} to {size} bytes as JSON; 4 MiB per change are the most"
    hint = "apply them in parts, included services first; move long lists into `members_file`"
    return (Problem(code="too-large", message=message, hint=hint),)


def _text_of(file: Path) -> Text | Problem:
    size = file.stat().st_size
    if size > DOCUMENT_BYTES_MAX:
        return Problem(
            code="too-large",
            message=f"the file has {size} bytes, {DOCUMENT_BYTES_MAX} is the most",
            file=str(file),
            hint="split the service, or move long lists into `members_file`",
        )
    try:
        return Text(file=str(file), text=file.read_bytes().decode())
    except UnicodeDecodeError as wrong:
        return Problem(
            code="encoding",
            message=f"byte {wrong.start} is not UTF-8",
            file=str(file),
            hint="save the file as UTF-8",
        )


def offline_problems(texts: Sequence[Text], today: str = "") -> tuple[Problem, ...]:
    """All that is wrong with the files, as far as they themselves tell.

    A service that is not among them is a warning, and so is what it might bring into a file that
    includes it. With a date, the findings of lint come along.
    """
    planned = offline_plan(texts)
    problems = (*planned.problems, *check_together(planned))
    if today:
        problems += lint_together(planned, today)
    including = {
        problem.file
        for problem in problems
        if problem.code == ELSEWHERE and problem.path.startswith("/includes/")
    }
    return tuple(
        _softened(problem)
        if problem.code == ELSEWHERE
        or (problem.code in FROM_ELSEWHERE and problem.file in including)
        else problem
        for problem in problems
    )


def offline_state(texts: Sequence[Text], put_blob: PutBlob) -> State:
    """What would stand if nothing but the files did. Raises `Invalid` for files with errors."""
    planned = offline_plan(texts, put_blob)
    problems = (*planned.problems, *check_together(planned))
    if any(problem.severity == "error" for problem in problems):
        raise Invalid(
            [
                msgspec.structs.replace(problem, hint="give its file too")
                if problem.code == ELSEWHERE
                else problem
                for problem in problems
            ]
        )
    return standing(planned)


def offline_plan(texts: Sequence[Text], put_blob: PutBlob = digest_only) -> Plan:
    """What the files come to where nothing else stands; member lists are read beside them."""
    sources = [SourceFile(text.file, text.text.encode()) for text in texts]
    readers = {text.file: _reader(Path(text.file).parent) for text in texts}
    return plan(sources, {}, read_members=readers, put_blob=put_blob)


def send_members(api: Api, texts: Sequence[Text]) -> list[Text]:
    """The texts with each `members_file` sent to the control plane and named by its digest.

    Raises `Invalid` for lists that can't be read, all of them at once.
    """
    problems: list[Problem] = []
    sent = [_with_digests(api, text, problems) for text in texts]
    if problems:
        raise Invalid(problems)
    return sent


def _with_digests(api: Api, text: Text, problems: list[Problem]) -> Text:
    if LISTED not in text.text:
        return text
    document = parse(text.text.encode(), text.file).document
    if document is None or document.tree.root is None:
        return text
    read = _reader(Path(text.file).parent)
    lines = text.text.split("\n")
    # From the end, so that an earlier place does not move.
    for key, value in sorted(_listed(document.tree.root), key=lambda one: one[0], reverse=True):
        line, column = key
        try:
            body = read(str(value.value))
            blob = api.call_with(Blob, "PUT", "/v1/blobs", body)
            lines[line - 1] = _by_digest(lines[line - 1], column, value, blob.digest)
        except Invalid as invalid:
            problems += (
                msgspec.structs.replace(problem, file=text.file, line=line, column=column)
                for problem in invalid.problems
            )
        except (OSError, ValueError) as failed:
            problems.append(
                Problem(
                    code="members-file",
                    message=f"{value.value}: {getattr(failed, 'strerror', None) or failed}",
                    file=text.file,
                    line=line,
                    column=column,
                    hint="give its path relative to this file",
                )
            )
    return Text(text.file, "\n".join(lines))


def _listed(node: Node) -> Iterator[tuple[tuple[int, int], Node]]:
    """(place of the key, value) of each `members_file` in a document."""
    segments = node.find(("segments",))
    waiting = list(_inside(segments))
    while waiting:
        audience = waiting.pop()
        waiting += _inside(audience.find(("environments",)))
        if isinstance(audience.value, dict) and LISTED in audience.value:
            yield audience.keys[LISTED], audience.value[LISTED]


def _inside(node: Node) -> list[Node]:
    return list(node.value.values()) if isinstance(node.value, dict) else []


def _by_digest(line: str, column: int, value: Node, digest: str) -> str:
    """The line with `members_file: path` replaced; raises `ValueError` for unusual writing."""
    start = column - 1
    end = value.column - 1 + len(str(value.value)) + (2 if value.style else 0)
    written = line[value.column - 1 : end].strip("'\"")
    if written != str(value.value):
        raise ValueError("write the path in one line, without escapes")
    quote = line[start] if line[start] in "'\"" else ""
    return f'{line[:start]}{quote}{BY_DIGEST}{quote}: "{digest}"{line[end:]}'


def _reader(directory: Path) -> Callable[[str], bytes]:
    """Reads lists at or below `directory`: a settings file must not send what is elsewhere."""

    def read(path: str) -> bytes:
        try:
            file = Path(os.path.realpath(directory / path))
        except ValueError:
            raise OSError(EINVAL, "this is no path") from None
        if not file.is_relative_to(os.path.realpath(directory)):
            message = f"`{path}` leads out of the directory of this file"
            hint = "put the list beside this file or below it"
            raise Invalid([Problem(code="members-file-outside", message=message, hint=hint)])
        if file.stat().st_size > SEGMENT_BYTES_MAX:
            raise OSError(EFBIG, f"more than {SEGMENT_BYTES_MAX} bytes")
        return file.read_bytes()

    return read


def _softened(problem: Problem) -> Problem:
    return msgspec.structs.replace(
        problem,
        severity="warning",
        hint=f"{problem.hint}, unless it is there already: holdfast plan asks the control plane",
    )
