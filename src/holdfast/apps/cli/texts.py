"""Settings files as the command line has them: found, read, checked offline, their lists sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from holdfast.apps.cli.api import Api
from holdfast.apps.cli.files import SUFFIXES, files_of
from holdfast.apps.control.schemas import DOCUMENTS_MAX, Blob, Text
from holdfast.core.authoring import SourceFile, check_together, parse, plan
from holdfast.core.authoring.tree import Node
from holdfast.core.errors import Invalid, Problem
from holdfast.core.limits import DOCUMENT_BYTES_MAX, SEGMENT_BYTES_MAX

LISTED: Final = "members_file"
BY_DIGEST: Final = "members_digest"
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


def read_texts(paths: Sequence[Path]) -> list[Text]:
    """The files at `paths`, directories walked, in the order of their names.

    Raises a usage error for what is not there or can't be read, naming all of it.
    """
    files = files_of(paths)
    if not files:
        raise click.UsageError(
            f"No settings files in {', '.join(map(str, paths))}: they end in {', '.join(SUFFIXES)}."
        )
    if len(files) > DOCUMENTS_MAX:
        raise click.UsageError(f"{len(files)} files, and one change holds {DOCUMENTS_MAX} at most.")
    texts, problems = [], []
    for file in files:
        try:
            texts.append(Text(file=str(file), text=_text_of(file)))
        except (OSError, ValueError) as failed:
            problems.append(f"{file}: {getattr(failed, 'strerror', None) or failed}")
    if problems:
        raise click.UsageError("\n".join(problems))
    return texts


def _text_of(file: Path) -> str:
    size = file.stat().st_size
    if size > DOCUMENT_BYTES_MAX:
        raise ValueError(f"{size} bytes are more than one file may have ({DOCUMENT_BYTES_MAX})")
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as wrong:
        raise ValueError(f"not UTF-8 at byte {wrong.start}: save it as UTF-8") from None


def offline_problems(texts: Sequence[Text]) -> tuple[Problem, ...]:
    """All that is wrong with the files, as far as they themselves tell.

    A service that is not among them is a warning, and so is what it might bring into a file that
    includes it.
    """
    sources = [SourceFile(text.file, text.text.encode()) for text in texts]
    readers = {text.file: _reader(Path(text.file).parent) for text in texts}
    planned = plan(sources, {}, read_members=readers)
    problems = (*planned.problems, *check_together(planned))
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
    def read(path: str) -> bytes:
        file = directory / path
        if file.stat().st_size > SEGMENT_BYTES_MAX:
            raise OSError(f"more than {SEGMENT_BYTES_MAX} bytes")
        return file.read_bytes()

    return read


def _softened(problem: Problem) -> Problem:
    return msgspec.structs.replace(
        problem,
        severity="warning",
        hint=f"{problem.hint}, unless it is there already: holdfast plan asks the control plane",
    )
