"""`holdfast dev`: what it starts, what it makes when it is missing, and what it says.

A first start makes keys, tokens, the environment, and takes the given files over. A later start
finds all that and leaves every service as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from holdfast.apps import dev
from holdfast.apps.cli.connection import DEV_FILE, Connection, DevFile
from holdfast.apps.cli.output import say
from holdfast.apps.cli.wanted import Wanted
from holdfast.apps.lean import starting
from holdfast.apps.provision import Kept, kept_tokens, make_tokens
from holdfast.apps.sole_user import sole_user

READY_S = 60.0
"""For a first start on a slow, busy machine; a warm one takes about a second."""
CONTROL = "control plane"
EDGE = "edge"


async def run_together(wanted: Wanted) -> int:
    """Run until told to stop or until both are gone; the exit code."""
    stop = dev.stop_on_signals()
    children = dev.Children(lambda text: say(text, fg="yellow"))
    dev_file = wanted.data_dir / DEV_FILE.name
    with sole_user(wanted.data_dir, "dev"):
        dev_file.unlink(missing_ok=True)
        chosen = dev.choose_ports(
            wanted.host,
            {"--control-port": wanted.control_port, "--edge-port": wanted.edge_port},
        )
        wanted = msgspec.structs.replace(
            wanted, control_port=chosen["--control-port"], edge_port=chosen["--edge-port"]
        )
        try:
            started = asyncio.create_task(_start(wanted, children))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([started, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not started.done():
                started.cancel()
                await asyncio.wait([started])
                return 0
            stopping.cancel()
            started.result()
            unasked = await children.supervise(stop)
        finally:
            await children.stop()
            dev_file.unlink(missing_ok=True)
    return 1 if unasked else 0


async def _start(wanted: Wanted, children: dev.Children) -> None:
    kept = kept_tokens(wanted.data_dir, wanted.store)
    if kept is None:
        kept = await asyncio.to_thread(_first_tokens, wanted)
    # Both at once: the edge starts from its disk, and meets the control plane when that is up.
    await children.start(_control(wanted))
    await children.start(_edge(wanted, kept.edge))
    # Imported late: by now the processes are on their way.
    with starting():
        from holdfast.apps.cli.api import Api
        from holdfast.apps.cli.first_start import begin, example_of, in_step, is_up

    admin = kept.admin
    with (
        Api(Connection(wanted.control_url, admin)) as api,
        Api(Connection(wanted.edge_url, admin)) as edge,
    ):
        await dev.until(lambda: is_up(api), children, [CONTROL], READY_S)
        # Before the edge is asked: it can't tell callers apart while there is no environment.
        taken, left = await asyncio.to_thread(begin, api, wanted)
        await dev.until(lambda: in_step(api, edge), children, [CONTROL, EDGE], READY_S)
        example = await asyncio.to_thread(example_of, edge, wanted)
    dev_file = DevFile(
        server=wanted.control_url,
        edge=wanted.edge_url,
        token=admin,
        environment=wanted.environment,
        processes={name: children.pid(name) for name in (CONTROL, EDGE)},
    )
    dev.write_private(wanted.data_dir / DEV_FILE.name, msgspec.json.encode(dev_file))
    _introduce(wanted, admin, taken, left, example)


def _first_tokens(wanted: Wanted) -> Kept:
    from holdfast.apps.observe import start_logs

    say("First start: making development keys and tokens.")
    start_logs(wanted.log_level, "dev")
    return make_tokens(wanted.data_dir, wanted.store, wanted.store_password_file)


def _control(wanted: Wanted) -> dev.Program:
    flags = ["--open"] if wanted.open_reads else []
    return dev.holdfast(
        CONTROL,
        "control",
        "--development",
        *("--data", str(wanted.data_dir)),
        *("--host", wanted.host, "--port", str(wanted.control_port)),
        *("--log-level", wanted.log_level),
        *flags,
        # Not as a flag: ps shows those, and a URL may have a password.
        HOLDFAST_STORE=wanted.store,
        HOLDFAST_STORE_PASSWORD_FILE=str(wanted.store_password_file or ""),
    )


def _edge(wanted: Wanted, token: str) -> dev.Program:
    flags = ["--open"] if wanted.open_reads else []
    return dev.holdfast(
        EDGE,
        "edge",
        *("--upstream", wanted.control_url, "--cache", str(wanted.data_dir / "edge")),
        *("--host", wanted.host, "--port", str(wanted.edge_port)),
        *("--log-level", wanted.log_level),
        *flags,
        HOLDFAST_TOKEN=token,
    )


def _introduce(
    wanted: Wanted,
    admin: str,
    taken: Sequence[str],
    left: Sequence[str],
    example: tuple[str, str] | None,
) -> None:
    """Everything that somebody needs for the first minute."""
    if taken:
        say(f"Taken over into {wanted.environment}: {', '.join(taken)}.")
    if left:
        say(f"There already, left as they are: {', '.join(left)}.")
    reads = "reads need no token" if wanted.open_reads else "reads need a token"
    say(f"\nHoldfast is up, with development keys; {reads}.\n", fg="green", bold=True)
    say(f"  control plane  {wanted.control_url}   (its API: /v1/openapi.json)")
    say(f"  edge           {wanted.edge_url}")
    say(f"  token          {admin}\n")
    if example is None:
        say("  holdfast apply settings.yaml")
    else:
        service, key = example
        bearer = "" if wanted.open_reads else f" -H 'Authorization: Bearer {admin}'"
        url = f"{wanted.edge_url}/{wanted.environment}/{service}/ofrep/v1/evaluate/flags/{key}"
        say(f'  curl {url} \\\n    -d \'{{"context": {{"targetingKey": "you"}}}}\'{bearer}')
        say(f"  holdfast explain {key} --service {service} -c targetingKey=you")
    say("\nCtrl-C stops both.")
