"""`holdfast edge push`: a change signed here and handed to edges, when all else is dead."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from holdfast.apps.cli.names import KEY, SERVICE_NAME
from holdfast.apps.cli.options import IN_ENVIRONMENT, output_option, servers_option, the_api
from holdfast.apps.cli.output import print_data, print_table, say

if TYPE_CHECKING:
    from holdfast.apps.cli.pushing import Wish
    from holdfast.core.pushes import Pushed

ANSWER_S: Final = 10.0
"""How long an edge may take to judge a push."""
ASK_S: Final = 0.1
SOAK_S: Final = 5.0


@click.command()
@click.option(
    "--to", "targets", metavar="URL", multiple=True, help="Edge that takes it; again for more."
)
@click.option(
    "--from-edge", metavar="URL", help="Edge whose state it builds on; else the first --to."
)
@click.option(
    "--from-cache",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Cache directory of an edge to build on, where none answers.",
)
@click.option(
    "--set", "sets", metavar="SERVICE/KEY=VARIANT", multiple=True, help="Variant for all."
)
@click.option("--value", "values", metavar="SERVICE/KEY=JSON", multiple=True, help="Value for all.")
@click.option(
    "--key",
    "keys_dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Directory with the environment's signing key (holdfast keys).",
)
@click.option("--reason", help="Why; it stays in the journal, and evaluations carry it.")
@click.option("--author", default="", help="Who; else the name of the user here.")
@click.option(
    "--soak",
    "soak_s",
    type=click.FloatRange(min=0),
    default=SOAK_S,
    show_default=True,
    metavar="SECONDS",
    help="How long the first edge has to hold it, ready, before the others get it.",
)
@click.option(
    "--token", default="", envvar="HOLDFAST_TOKEN", metavar="TOKEN", help="With the verb write."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the push is kept for its import; else holdfast-push-REVISION-HASH.json.",
)
@click.option(
    "--again",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Hand this push, which was made before, to more edges; nothing is signed.",
)
@click.option(
    "--import",
    "imported",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Bring a push into the journal, now that a control plane is back; needs --server.",
)
@click.option("--lift", metavar="SERVICE/KEY", help="Take a push away again; needs --server.")
@servers_option("For --import and --lift; again, or with commas, for more nodes.")
@IN_ENVIRONMENT
@output_option()
def push(**given: Any) -> None:
    """Sign a change here and hand it straight to edges, with all else dead.

    It is break-glass: it skips waiting and approval, and no check. It builds on what an edge has,
    goes to the first edge named, and to the others once that one holds it and is ready. Keep the
    file that it writes: when a control plane is back, --import brings it into the journal, where
    it stands over the setting until it is lifted.

    \b
    Examples:
      holdfast edge push --to http://edge-1:8016 --set shop/checkout=off --key /media/stick/keys \\
          --reason "checkout burns, INC-7"
      holdfast edge push --again holdfast-push-4711-5cbbab40.json --to http://edge-2:8016
      holdfast edge push --import holdfast-push-4711-5cbbab40.json --server http://control:8010
      holdfast edge push --lift shop/checkout --server http://control:8010 --reason "INC-7 is over"
    """
    if given["imported"] or given["lift"]:
        _bring(**given)
    elif given["again"]:
        _again(given["again"], **given)
    else:
        _push(**given)


def _again(kept: Path, **given: Any) -> None:
    """The very bytes once more: edges that got them at other times still agree on them."""
    if given["sets"] or given["values"] or not given["targets"]:
        raise click.UsageError("With --again give --to URL, and neither --set nor --value.")
    from holdfast.core.pushes import read

    pushed = read(kept.read_bytes())
    told = list(_handed(pushed, given["targets"], given["token"], given["soak_s"]))
    _tell(pushed, kept, told, given["output"])


def _push(**given: Any) -> None:
    wishes = [*_sets(given["sets"]), *_values(given["values"])]
    for missing, name in ((not wishes, "--set or --value"), (not given["keys_dir"], "--key")):
        if missing:
            raise click.UsageError(f"A push needs {name}.")
    if not given["reason"]:
        raise click.UsageError("A push needs --reason: everybody will ask.")
    if not given["targets"] and not given["out"]:
        raise click.UsageError("Give --to URL, the edge that takes it, or --out FILE.")
    from holdfast.apps.cli.pushing import FromCache, FromEdge, keys_in, prepare

    source = given["from_edge"] or (given["targets"] or [""])[0]
    if given["from_cache"]:
        base: FromCache | FromEdge = FromCache(given["from_cache"])
    elif source:
        base = FromEdge(source, given["token"])
    else:
        raise click.UsageError("Give --from-edge URL or --from-cache DIR: what does it build on?")
    author = given["author"] or getpass.getuser()
    pushed = prepare(
        base,
        keys_in(given["keys_dir"]),
        given["environment"],
        wishes,
        f"{author} (offline)",
        given["reason"],
    )
    # Two pushes may be of one revision, and each file is the only copy of its entry.
    name = f"holdfast-push-{pushed.entry.revision}-{pushed.entry.hash[:8]}.json"
    kept = given["out"] or Path(name)
    kept.write_bytes(pushed.body)
    told = list(_handed(pushed, given["targets"], given["token"], given["soak_s"]))
    _tell(pushed, kept, told, given["output"])


def _handed(
    pushed: Pushed, targets: Sequence[str], token: str, soak_s: float
) -> Iterator[dict[str, Any]]:
    """One edge after the other; the first one is the ring that the others wait for."""
    for number, target in enumerate(targets):
        told = _hand(pushed, target, token)
        yield told
        if number == 0 and len(targets) > 1 and not _holds(told, target, soak_s):
            say(f"{target} does not hold it: no other edge got it", fg="red", bold=True)
            return


def _hand(pushed: Pushed, target: str, token: str) -> dict[str, Any]:
    from holdfast.apps.cli.api import Api
    from holdfast.apps.cli.connection import Connection
    from holdfast.core.errors import HoldfastError

    try:
        with Api(Connection(target.rstrip("/"), token)) as api:
            told = api.call_with(dict[str, Any], "POST", "/v1/push", pushed.body)
            until_s = time.monotonic() + ANSWER_S
            while _is_waiting(told) and time.monotonic() < until_s:
                time.sleep(ASK_S)
                told = api.call(dict[str, Any], "GET", f"/v1/push/{told['push']}")
            return {"edge": target, "subjects": told["subjects"]}
    except HoldfastError as error:
        refused = {"state": "refused", "code": error.code, "message": str(error)}
        return {"edge": target, "subjects": [refused]}


def _is_waiting(told: dict[str, Any]) -> bool:
    return any(one["state"] == "waiting" for one in told["subjects"])


def _is_taken(told: dict[str, Any]) -> bool:
    return all(one["state"] == "taken" for one in told["subjects"])


def _holds(told: dict[str, Any], target: str, soak_s: float) -> bool:
    """Whether the first edge took it, and is ready all the while."""
    from holdfast.apps.cli.api import Api
    from holdfast.apps.cli.connection import Connection
    from holdfast.core.errors import HoldfastError

    until_s = time.monotonic() + soak_s
    with Api(Connection(target.rstrip("/"), "")) as api:
        while _is_taken(told):
            try:
                api.raw("GET", "/readyz")
            except HoldfastError:
                return False
            if time.monotonic() >= until_s:
                return True
            time.sleep(min(1.0, soak_s))
    return False


def _tell(pushed: Pushed, kept: Path, told: list[dict[str, Any]], output: str) -> None:
    facts = {
        "revision": pushed.entry.revision,
        "hash": pushed.entry.hash,
        "file": str(kept),
        "edges": told,
    }
    if not print_data(facts, output):
        print_table(
            ["edge", "subject", "revision", "state", "why"],
            [
                (each["edge"], one.get("subject"), one.get("revision"), one["state"], _why(one))
                for each in told
                for one in each["subjects"]
            ],
        )
        _tell_file(kept, told)
    if not all(map(_is_taken, told)):
        raise click.exceptions.Exit(1)


def _tell_file(kept: Path, told: list[dict[str, Any]]) -> None:
    if told and not any(one["state"] == "taken" for each in told for one in each["subjects"]):
        say(f"No edge said that it took it. Import {kept} only if one did all the same.", fg="red")
        return
    say(f"Keep {kept}: holdfast edge push --import {kept} brings it into the journal.", bold=True)


def _why(one: dict[str, Any]) -> str:
    return ": ".join(filter(None, (one.get("code"), one.get("message"))))


def _bring(**given: Any) -> None:
    """Into the journal, or out of it."""
    with the_api(given["servers"], given["token"] or None) as api:
        if given["imported"]:
            body = given["imported"].read_bytes()
            told = api.call_with(dict[str, Any], "POST", "/v1/pushes", body)
        else:
            service, key = _place(given["lift"])
            where = f"/v1/pushes/{given['environment']}/{service}/{key}"
            told = api.call(dict[str, Any], "POST", where, {"reason": given["reason"] or ""})
    if print_data(told, given["output"]):
        return
    for line in told.get("notes", ()):
        say(line, fg="yellow")
    say(f"The journal is at revision {told['revision']}.", bold=True)


def _place(text: str) -> tuple[str, str]:
    service, slash, key = text.partition("/")
    if not slash or not service or not key:
        raise click.UsageError(f"{text!r} is no SERVICE/KEY.")
    return SERVICE_NAME.convert(service, None, None), KEY.convert(key, None, None)


def _sets(texts: Sequence[str]) -> Iterator[Wish]:
    from holdfast.apps.cli.pushing import Wish

    for text in texts:
        place, _, variant = text.partition("=")
        if not variant:
            raise click.UsageError(f"{text!r} is no SERVICE/KEY=VARIANT.")
        yield Wish(*_place(place), variant=variant)


def _values(texts: Sequence[str]) -> Iterator[Wish]:
    from holdfast.apps.cli.pushing import Wish

    for text in texts:
        place, _, value = text.partition("=")
        try:
            yield Wish(*_place(place), value=json.loads(value))
        except ValueError:
            raise click.UsageError(f"{text!r} is no SERVICE/KEY=JSON.") from None
