"""The commands of tokens: `token create`, `token list`, `token revoke`."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.apps.cli.names import ID
from holdfast.apps.cli.options import DATA, PASSWORD_FILE, STORE, connected, output_option
from holdfast.apps.cli.output import age, print_data, print_table, say

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api
    from holdfast.core.model import Scope

VERBS = ("read", "write", "admin", "follow")
UNITS_S = {"m": 60, "h": 3_600, "d": 86_400}


@click.group()
def token() -> None:
    """Look after tokens: who may read, write, follow, administer, and where."""


@token.command("create")
@click.argument("name")
@click.option(
    "--verb",
    "verbs",
    multiple=True,
    type=click.Choice(VERBS),
    required=True,
    help="What it may do; give it again for more. follow is for edges.",
)
@click.option("--environment", "-e", default="*", show_default=True, help="Where; * is everywhere.")
@click.option("--service", "-s", default="*", show_default=True, help="On what; * is everything.")
@click.option("--expires", metavar="TIME", help="From now: 90d, 12h, 30m. Else never.")
@output_option()
@connected
def create_token(
    api: Api,
    name: str,
    verbs: tuple[str, ...],
    environment: str,
    service: str,
    expires: str | None,
    output: str,
) -> None:
    """Issue a token called NAME. It is shown this once; only its hash is kept.

    \b
    Examples:
      holdfast token create shop-backend --verb read -e production -s demo-shop --expires 90d
      holdfast token create edge-1 --verb follow
      TOKEN=$(holdfast token create ci --verb write --output json | jq -r .token)
    """
    from holdfast.apps.control.schemas import Issued

    body = {
        "name": name,
        "scopes": [{"verbs": verbs, "environment": environment, "service": service}],
        "expires_s": int(time.time()) + seconds_of(expires) if expires else 0,
    }
    issued = api.call(Issued, "POST", "/v1/tokens", body)
    if not print_data(issued, output):
        click.echo(issued.token)
        say(f"Token {issued.id} ({name}). It is not shown again: keep it now.")


@token.command("first")
@click.argument("name", default="first")
@DATA
@STORE
@PASSWORD_FILE
@output_option()
def create_first_token(
    name: str, data_dir: Path, store: str, store_password_file: Path | None, output: str
) -> None:
    """Issue a token with every right, called NAME, beside the data of a control plane.

    For a new control plane that has none, and for one whose tokens are all lost. It takes no token,
    but the signing keys and the store: run it as who runs the control plane, up or not.

    \b
    Example:
      holdfast token first --data /var/lib/holdfast
      holdfast token first --data /var/lib/holdfast --store etcd://a:2379,b:2379,c:2379
    """
    from holdfast.apps.observe import start_logs
    from holdfast.apps.provision import first_token

    start_logs("warning", "token")
    text = first_token(data_dir, name, store, store_password_file)
    if not print_data({"token": text}, output):
        click.echo(text)
        say("It may do everything, and is not shown again: keep it now.", bold=True)


@token.command("list")
@output_option()
@connected
def list_tokens(api: Api, output: str) -> None:
    """Show all tokens, never their secrets.

    \b
    Example:
      holdfast token list
    """
    from holdfast.apps.control.schemas import Tokens

    found = api.call(Tokens, "GET", "/v1/tokens").tokens
    if not print_data(found, output):
        now_s = time.time()
        print_table(
            ["id", "name", "scopes", "expires", "revision"],
            (
                (
                    one.id,
                    one.name,
                    "; ".join(scope_text(scope) for scope in one.scopes),
                    expiry_text(one.expires_s, now_s),
                    one.revision,
                )
                for one in found
            ),
        )


@token.command("revoke")
@click.argument("token_id", metavar="ID", type=ID)
@output_option()
@connected
def revoke_token(api: Api, token_id: str, output: str) -> None:
    """Revoke the token with this ID; edges learn it as fast as any change.

    \b
    Example:
      holdfast token revoke k3v9
    """
    from holdfast.apps.control.schemas import Revised

    if token_id.startswith("hf_"):
        raise click.UsageError("That is a token's text; give its id, the part between hf_ and _.")
    revised = api.call(Revised, "DELETE", f"/v1/tokens/{token_id}")
    if not print_data(revised, output):
        say(f"Token {token_id} is revoked, at revision {revised.revision}.", fg="green")


def seconds_of(text: str) -> int:
    """`90d`, `12h` or `30m` in seconds."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if match is None:
        raise click.BadParameter(f"{text!r}: write 90d, 12h or 30m", param_hint="--expires")
    return int(match[1]) * UNITS_S[match[2]]


def scope_text(scope: Scope) -> str:
    """`read,write on production/demo-shop`."""
    return f"{','.join(scope.verbs)} on {scope.environment}/{scope.service}"


def expiry_text(expires_s: int, now_s: float) -> str:
    if not expires_s:
        return "never"
    return f"in {age(expires_s - now_s)}" if expires_s > now_s else "expired"
