"""The commands that move what stands in a store: `store copy`, `backup`, `restore`, `check`."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from click.core import ParameterSource

from holdfast.apps.cli.options import PASSWORD_FILE, output_option
from holdfast.apps.cli.output import moment, print_data, print_facts, say, size_text
from holdfast.apps.cli.stores import on_file, opened, progress, this_process

if TYPE_CHECKING:
    from holdfast.engine.backup import Contents
    from holdfast.engine.moving import Moved

FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
MISSING_TOLD_MAX = 5


@click.command("copy")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--freeze", is_flag=True, help="Let FROM take no more entries, so that none is lost.")
@click.option(
    "--from-password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the password of the user in FROM.",
)
@click.option(
    "--to-password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the password of the user in TO.",
)
@output_option()
def copy_store(
    source: str,
    target: str,
    freeze: bool,
    from_password_file: Path | None,
    to_password_file: Path | None,
    output: str,
) -> None:
    """Copy everything in the store FROM into the empty store TO, and verify it there.

    The journal is copied up to one revision, with all blobs, digests and waiting changes. Nodes may
    use FROM meanwhile; what they write later is not copied, and that is told. With --freeze, FROM
    refuses further writes before its last entries are taken (nodes on it go on serving), and its
    successor has everything: then start the nodes with --store TO.

    Until it is complete no node serves from TO. When it is interrupted, run it again.

    \b
    Examples:
      holdfast store copy /var/lib/holdfast etcd://a:2379,b:2379,c:2379 --freeze
      holdfast store copy etcd://a:2379 postgresql://holdfast@db/holdfast --to-password-file pw
    """
    from holdfast.engine.moving import StoreContent, move

    began_s = time.monotonic()
    with (
        opened(source, from_password_file) as (from_stores, from_name),
        opened(target, to_password_file, there=False) as (to_stores, to_name),
        progress(output) as tell,
    ):
        content = StoreContent(from_stores, from_name)
        frozen = f"it was moved to {to_name}; start nodes with that store" if freeze else ""
        moved = move(content, to_stores, tell, frozen=frozen, by=this_process())
    took_s = round(time.monotonic() - began_s, 2)
    if not print_data(
        {"from": from_name, "to": to_name, "took_s": took_s, **_plain(moved)}, output
    ):
        _show_moved(moved, from_name, to_name, took_s)
        _say_what_now(moved, from_name, to_name, freeze)


@click.command("backup")
@FILE
@click.option("--store", "at", metavar="STORE", envvar="HOLDFAST_STORE", help="Or --data.")
@click.option(
    "--data",
    "data_dir",
    metavar="DIRECTORY",
    default=".holdfast",
    show_default=True,
    envvar="HOLDFAST_DATA",
    help="Data directory that holds the store.",
)
@PASSWORD_FILE
@click.option("--force", is_flag=True, help="Write over a FILE that is there.")
@output_option()
def back_up(
    file: Path,
    at: str | None,
    data_dir: str,
    store_password_file: Path | None,
    force: bool,
    output: str,
) -> None:
    """Write all that stands in a store at one revision into FILE, and read it again.

    Nodes may use the store meanwhile. Signing keys are not in it: keep copies of them elsewhere.

    \b
    Examples:
      holdfast store backup holdfast.backup --store etcd://a:2379,b:2379,c:2379
      holdfast store backup "/backups/$(date +%F).backup" --data /var/lib/holdfast
    """
    from holdfast import __version__
    from holdfast.engine import backup
    from holdfast.engine.moving import StoreContent

    if file.exists() and not file.is_file():
        raise click.UsageError(f"{file} is no plain file: a backup is read again once it is made.")
    if file.exists() and not force:
        raise click.UsageError(f"{file} is there already: name another file, or add --force.")
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with (
            opened(_named(at, data_dir), store_password_file) as (stores, name),
            progress(output) as tell,
            on_file(file),
            _made(aside) as body,
        ):
            content = StoreContent(stores, name)
            head, at_ms = content.head(), int(time.time() * 1000)
            build = f"holdfast/{__version__}"
            header = backup.Header(head.revision, head.hash, at_ms, name, build)
            backup.write(content, body, header, tell)
            body.flush()
            os.fsync(body.fileno())
            found = backup.verify(body, tell)
        with on_file(file):
            aside.replace(file)
            _sync(file.parent)
    finally:
        aside.unlink(missing_ok=True)
    if not print_data({"file": str(file), **_plain(found)}, output):
        _show_backup(found, file)


@click.command("check")
@FILE
@output_option()
def check(file: Path, output: str) -> None:
    """Read the backup in FILE from its first byte to its last, with no store.

    Exit code 1 when anything in it is not what was written.

    \b
    Example:
      holdfast store check holdfast.backup
    """
    from holdfast.apps.cli.restoring import checked

    with on_file(file), _read(file) as body, progress(output) as tell:
        found = checked(body, file, tell)
    if not print_data({"file": str(file), **_plain(found)}, output):
        _show_backup(found, file)


@click.command("restore")
@FILE
@click.argument("target", metavar="TO")
@PASSWORD_FILE
@click.option(
    "--beyond",
    type=click.IntRange(min=0),
    default=0,
    metavar="REVISION",
    help="The newest revision that anybody saw: those that were lost are not given out again.",
)
@click.option(
    "--cache",
    "caches",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="A consumer's cache directory, to learn that from; give it again for more.",
)
@output_option()
def restore(
    file: Path,
    target: str,
    store_password_file: Path | None,
    beyond: int,
    caches: tuple[Path, ...],
    output: str,
) -> None:
    """Put what the backup in FILE holds into the empty store TO.

    The file is verified before, while it is read, and from the store's side. Changes that were made
    after the backup are lost to the store; consumers keep what they have of them, and refuse what
    goes back behind it. Give --beyond or --cache, and commit the lost changes again: then every
    consumer goes on.

    \b
    Examples:
      holdfast store restore holdfast.backup etcd://a:2379,b:2379,c:2379 --beyond 1234
      holdfast store restore holdfast.backup /var/lib/holdfast --cache edge-1/cache
    """
    from holdfast.apps.cli.restoring import restored, seen_in

    newest = max([beyond, *(seen_in(cache) for cache in caches)])
    with (
        on_file(file),
        _read(file) as body,
        opened(target, store_password_file, there=False) as (stores, name),
        progress(output) as tell,
    ):
        at_ms = int(time.time() * 1000)
        found, moved = restored(body, file, stores, newest, at_ms, tell, by=this_process())
    facts = {"file": str(file), "to": name, "backup_revision": found.revision, **_plain(moved)}
    if not print_data(facts, output):
        _show_moved(moved, str(file), name, None)
        _say_lineage(found, moved)


def _named(at: str | None, data_dir: str) -> str:
    """The store that is meant: one that the command line names, before one of the surroundings."""
    context = click.get_current_context()
    typed = {
        name
        for name in ("at", "data_dir")
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if len(typed) > 1:
        raise click.UsageError("--store and --data name a store each: give one of them.")
    return data_dir if "data_dir" in typed else at or data_dir


def _plain(found: Moved | Contents) -> dict[str, Any]:
    import msgspec

    return msgspec.structs.asdict(found)


def _made(path: Path) -> BinaryIO:
    """A file that only its owner reads: tokens' hashes and every setting are in it."""
    with suppress(FileNotFoundError):
        path.unlink()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "w+b")


def _sync(directory: Path) -> None:
    """Make the names in it durable: a backup that was told to be made is there after a crash."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(file: Path) -> BinaryIO:
    from holdfast.core.errors import Unavailable

    body = file.open("rb")
    if not body.seekable():
        body.close()
        raise Unavailable(f"{file} can't be read twice: copy what comes from it to a plain file")
    return body


def _show_moved(moved: Moved, source: str, target: str, took_s: float | None) -> None:
    facts: dict[str, object] = {
        "from": source,
        "to": target,
        "head": f"revision {moved.revision}, {moved.hash}",
        "entries": moved.entries,
        "blobs": f"{moved.blobs}, {size_text(moved.blob_bytes)}",
        "digests": moved.digests,
        "waiting": f"{moved.proposals} changes",
    }
    if moved.resumed_after:
        facts["resumed"] = f"after revision {moved.resumed_after}"
    if took_s is not None:
        facts["took"] = f"{took_s:.1f} s"
    print_facts(facts)
    _say_missing(moved.missing)


def _show_backup(found: Contents, file: Path) -> None:
    print_facts(
        {
            "backup": f"{file}, {size_text(found.bytes)}",
            "of": f"{found.source}, {moment(found.at_ms)} UTC, by {found.build}",
            "head": f"revision {found.revision}, {found.hash}",
            "entries": found.entries,
            "blobs": found.blobs,
            "digests": found.digests,
            "waiting": f"{found.proposals} changes",
            "sha256": found.sha256,
        }
    )
    _say_missing(found.missing)
    say("Every byte of it was read again, and holds.", fg="green")


def _say_missing(missing: tuple[str, ...]) -> None:
    if not missing:
        return
    some = ", ".join(one[:16] for one in missing[:MISSING_TOLD_MAX])
    more = " and more" if len(missing) > MISSING_TOLD_MAX else ""
    say(
        f"{len(missing)} blobs that entries name were not in the store either: {some}{more}. "
        "Commit the member lists of the segments again (holdfast apply)",
        fg="yellow",
    )


def _say_what_now(moved: Moved, source: str, target: str, freeze: bool) -> None:
    say(f"{target} holds all of it, read again and verified.", fg="green", bold=True)
    if freeze:
        say(f"{source} takes no more writes. Start the nodes with --store {target}.")
    elif moved.grown_to > moved.revision:
        say(
            f"{source} went on to revision {moved.grown_to}: {moved.grown_to - moved.revision} "
            "entries are not in the copy. To move for good, empty it and copy with --freeze.",
            fg="yellow",
        )
    else:
        say(f"Nodes on {source} may write on: what they write is not in the copy (--freeze).")


def _say_lineage(found: Contents, moved: Moved) -> None:
    say(f"It stands where the backup was taken, at revision {found.revision}.", fg="green")
    if moved.revision > found.revision:
        say(
            f"Revisions {found.revision + 1} to {moved.revision} were lost, and are not given out "
            f"again: the next change is revision {moved.revision + 1}. Commit the changes in them "
            "again (holdfast apply); until then consumers that have them keep them, and say so.",
            fg="yellow",
        )
    else:
        say(
            "If anything was committed after the backup, consumers have seen higher revisions, and "
            "refuse others under the same numbers: restore with --beyond REVISION or --cache "
            "DIRECTORY, before the first change is made.",
            fg="yellow",
        )
