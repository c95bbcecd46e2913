"""The commands of exchange: `import flagd`, `export flagd`, `export snapshot`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.apps.cli.options import (
    IN_ENVIRONMENT,
    REASON,
    SERVICE,
    connectable,
    connected,
    output_option,
)
from holdfast.apps.cli.output import print_problems, say

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api

TO = click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="File to write; else standard output.",
)


@click.group("import")
def import_group() -> None:
    """Take settings over from elsewhere."""


@click.group("export")
def export_group() -> None:
    """Hand settings over to elsewhere."""


@import_group.command("flagd")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@SERVICE
@IN_ENVIRONMENT
@click.option("--lenient", is_flag=True, help="Mend what flagd would let pass, and list it.")
@click.option("--check", is_flag=True, help="Show what would change; write nothing.")
@REASON
@output_option()
@connected
def import_flagd(
    api: Api,
    file: Path,
    service: str,
    environment: str,
    lenient: bool,
    check: bool,
    reason: str,
    output: str,
) -> None:
    """Import a flagd FILE into one environment of a service. It evaluates as before.

    \b
    Examples:
      holdfast import flagd flags.json --service demo-shop --environment production
      holdfast import flagd flags.json -s demo-shop --lenient --check
    """
    from holdfast.apps.cli.author import show_plan
    from holdfast.apps.cli.committing import show_commit
    from holdfast.apps.cli.output import print_data
    from holdfast.apps.cli.texts import read_texts
    from holdfast.apps.control.schemas import Imported

    [text] = read_texts([file])
    body = {
        "service": service,
        "environment": environment,
        "text": text.text,
        "file": text.file,
        "lenient": lenient,
        "check": check,
        "reason": reason or f"import of {file.name}",
    }
    imported = api.call(Imported, "POST", "/v1/import/flagd", body)
    if not print_data(imported, output):
        print_problems(imported.mended)
        show_plan(imported.check, [text])
        if imported.commit is not None:
            show_commit(imported.commit, output)
    if not imported.check.ok:
        raise click.exceptions.Exit(1)


@export_group.command("flagd")
@SERVICE
@IN_ENVIRONMENT
@click.option(
    "--from",
    "files",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="Settings files or directories of them, read instead of asking a control plane.",
)
@TO
@connectable
def export_flagd(
    connect: Callable[[], Api],
    service: str,
    environment: str,
    files: tuple[Path, ...],
    to: Path | None,
) -> None:
    """Write a service's settings as flagd flag definitions, included ones too.

    Any flagd in any language answers from them as Holdfast does, and so does `Client.from_file`:
    with --from, the tests of a program run on its settings files, and no server.

    \b
    Examples:
      holdfast export flagd --service demo-shop --environment production > flags.json
      holdfast export flagd --from examples/contoso -s calling --to tests/calling.json
    """
    import msgspec

    if files:
        body = _exported(files, service, environment)
    else:
        with connect() as api:
            body = api.document("/v1/export/flagd", service=service, environment=environment)
    _write(msgspec.json.format(body, indent=2), to)


@export_group.command("snapshot")
@SERVICE
@IN_ENVIRONMENT
@TO
@connected
def export_snapshot(api: Api, service: str, environment: str, to: Path | None) -> None:
    """Write the newest signed bundle, byte for byte, as consumers get it.

    \b
    Example:
      holdfast export snapshot -s demo-shop --to demo-shop.holdfast.json
    """
    _write(api.document(f"/{environment}/{service}/snapshot"), to)


def _exported(files: Sequence[Path], service: str, environment: str) -> bytes:
    from holdfast.adapters.memory import MemoryBlobs
    from holdfast.apps.cli.texts import offline_state, read_texts
    from holdfast.core.flagd import export_flagd

    lists = MemoryBlobs()
    state = offline_state(read_texts(files), lists.put)
    return export_flagd(state, service, environment, lists.get)


def _write(body: bytes, to: Path | None) -> None:
    if to is None:
        click.echo(body, nl=not body.endswith(b"\n"))
        return
    try:
        to.write_bytes(body)
    except OSError as failed:
        raise click.FileError(str(to), failed.strerror) from None
    say(f"{to}: {len(body)} bytes.", fg="green")
