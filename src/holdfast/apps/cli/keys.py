"""The commands of signing keys, on the machine that holds them: `keys init`, `rotate`, `show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.apps.cli.options import DATA, output_option
from holdfast.apps.cli.output import print_data, print_facts, print_table, say

if TYPE_CHECKING:
    from holdfast.core.roots import RootSet

ENVIRONMENTS = click.option(
    "--environment",
    "-e",
    "environments",
    multiple=True,
    default=["*"],
    show_default=True,
    help="What the key signs for; give it again for more.",
)


@click.group()
def keys() -> None:
    """Look after signing keys: the root, and the keys it delegates to."""


@keys.command("init")
@DATA
@ENVIRONMENTS
@click.option("--development", is_flag=True, help="Label the keys so; consumers say it loudly.")
@output_option()
def init_keys(
    data_dir: Path, environments: tuple[str, ...], development: bool, output: str
) -> None:
    """Make a root key and a signing key for a new control plane.

    Consumers trust the root; the root says who signs. Move root.key off this machine afterwards:
    it is needed to rotate, and for nothing else.

    \b
    Examples:
      holdfast keys init --data /var/lib/holdfast
      holdfast keys init --data /var/lib/holdfast -e staging -e production
    """
    from holdfast.adapters.signing import ROOT_KEY, Keys

    folder = folder_of(data_dir)
    made = Keys.init(folder, development=development, environments=environments)
    if print_data(facts_of(made.root), output):
        return
    _show(made.root)
    say(f"\nNow move {folder / ROOT_KEY} to where nobody reaches it, and keep a copy.", bold=True)


@keys.command("rotate")
@DATA
@ENVIRONMENTS
@click.option("--revoke", is_flag=True, help="Believe nothing more that the old keys signed.")
@click.option("--root", "of_root", is_flag=True, help="A new root key and not a signing key.")
@output_option()
def rotate_keys(
    data_dir: Path, environments: tuple[str, ...], revoke: bool, of_root: bool, output: str
) -> None:
    """Make a new signing key, or with --root a new root key; the root signs it in.

    Bring root.key back for it. Consumers follow by themselves once the control plane has started
    again; they need no new root file.

    \b
    Examples:
      holdfast keys rotate --data /var/lib/holdfast
      holdfast keys rotate --data /var/lib/holdfast -e production --revoke
      holdfast keys rotate --data /var/lib/holdfast --root
    """
    from holdfast.adapters.signing import Keys

    if of_root and revoke:
        raise click.UsageError("--revoke is for signing keys: a rotated root is gone anyway.")
    before = Keys.load(folder_of(data_dir))
    made = before.rotate_root() if of_root else before.rotate(environments, revoke=revoke)
    if print_data(facts_of(made.root), output):
        return
    _show(made.root)
    say(
        "\nStart the control plane again: it then signs with it and tells all consumers.", bold=True
    )


@keys.command("show")
@DATA
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Write the root there, for consumers to pin (holdfast edge --root).",
)
@output_option()
def show_keys(data_dir: Path, to: Path | None, output: str) -> None:
    """Show the newest root: who signs, for what; and its digest, to compare by eye.

    \b
    Examples:
      holdfast keys show --data /var/lib/holdfast
      holdfast keys show --data /var/lib/holdfast --to root.json
    """
    from holdfast.adapters.signing import Keys
    from holdfast.core.roots import encode_root_set

    root = Keys.load(folder_of(data_dir)).root
    if to is not None:
        to.write_bytes(encode_root_set(root))
    if not print_data(facts_of(root), output):
        _show(root)


def folder_of(data_dir: Path) -> Path:
    """Where a control plane keeps its keys."""
    return data_dir / "keys"


def facts_of(root: RootSet) -> dict[str, Any]:
    """The public facts of a root, its digest added."""
    import msgspec

    facts: dict[str, Any] = msgspec.to_builtins(root)
    return {"digest": root.digest, **facts}


def _show(root: RootSet) -> None:
    kind = "development: not for production" if root.development else "production"
    print_facts({"root version": root.version, "digest": root.digest, "kind": kind})
    click.echo()
    print_table(
        ["key", "signs", "for", "since version"],
        [
            *((keyid, "the next root", "", "") for keyid in root.roots),
            *(
                (keyid, "snapshots", ", ".join(key.environments), key.since)
                for keyid, key in root.keys.items()
            ),
        ],
    )
