"""What the store commands share: a store named by a URL or a directory, opened and closed again."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.apps.cli.output import console, say

if TYPE_CHECKING:
    from holdfast.ports import Stores


def url_from(text: str) -> str:
    """What was named as a store: a URL as it is, well-formed or not, a directory as its URL."""
    from holdfast.apps.store_urls import is_meant, url_of

    if is_meant(text):
        return text
    path = Path(text)
    return url_of(path.parent if path.name == "journal.db" else path)


@contextmanager
def opened(
    text: str, password_file: Path | None, *, there: bool = True
) -> Iterator[tuple[Stores, str]]:
    """The stores, and their name without a password. Leaves with all problems of a URL."""
    from holdfast.apps.store_urls import problems_of_store, shown
    from holdfast.apps.stores import open_stores

    url = url_from(text)
    if url.startswith(("sqlite:", "memory:")):
        password_file = None  # the surroundings may name one, for another store
    if problems := problems_of_store(url, password_file):
        raise click.UsageError("\n".join(f"{one.message}.\n  {one.hint}" for one in problems))
    stores = open_stores(
        url,
        password_file=password_file,
        told=lambda what, error: say(f"{what}: {error}", fg="red"),
        there=there,
    )
    try:
        yield stores, shown(url)
    finally:
        stores.close()


@contextmanager
def on_file(file: Path) -> Iterator[None]:
    """What goes wrong with a file, a full disk for instance, is told with its name."""
    from holdfast.core.errors import Unavailable

    try:
        yield
    except OSError as error:
        raise Unavailable(f"{error.filename or file}: {error.strerror or error}") from None


def this_process() -> str:
    """Names a try for who looks at the store meanwhile."""
    return f"process {os.getpid()} on {socket.gethostname()}"


@contextmanager
def progress(output: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each thing that is done, on a terminal only; `tell(what, done, all)` moves it."""
    if output != "text" or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:>15}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console(sys.stderr)) as bars:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, everything: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=everything or None)
            bars.update(tasks[what], completed=done, total=everything or None)

        yield tell
