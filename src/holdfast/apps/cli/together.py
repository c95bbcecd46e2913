"""`holdfast dev`: what it starts, what it makes when it is missing, and what it says.

A first start makes keys, tokens, the environment, and takes the given files over. A later start
finds all that and leaves every service as it is.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from holdfast.apps import dev
from holdfast.apps.cli.api import Api
from holdfast.apps.cli.connection import DEV_FILE, Connection, DevFile
from holdfast.apps.cli.files import files_of
from holdfast.apps.cli.output import say
from holdfast.apps.control.schemas import (
    PAGE_MAX,
    Committed,
    Environments,
    Imported,
    Issued,
    Revised,
    Services,
    Settings,
)
from holdfast.apps.distribute import Listed
from holdfast.apps.provision import KEPT, Kept, first_token, kept_tokens
from holdfast.apps.settings import ControlSettings, EdgeSettings
from holdfast.core.errors import HoldfastError

READY_S = 60.0
"""For a first start on a slow, busy machine; a warm one takes about a second."""
CONTROL = "control plane"
EDGE = "edge"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `holdfast dev`."""

    data_dir: Path
    control_port: int
    edge_port: int
    host: str
    imports: Path | None
    service: str
    environment: str
    open_reads: bool
    log_level: str
    paths: tuple[Path, ...]

    def control_settings(self) -> ControlSettings:
        return ControlSettings(
            data_dir=self.data_dir,
            host=self.host,
            port=self.control_port,
            open_reads=self.open_reads,
            development=True,
            log_level=self.log_level,
        )

    def edge_settings(self, token: str) -> EdgeSettings:
        return EdgeSettings(
            upstreams=(self.control_url,),
            token=token,
            cache_dir=self.data_dir / "edge",
            host=self.host,
            port=self.edge_port,
            open_reads=self.open_reads,
            log_level=self.log_level,
        )

    @property
    def control_url(self) -> str:
        return _url(self.host, self.control_port)

    @property
    def edge_url(self) -> str:
        return _url(self.host, self.edge_port)


async def run_together(wanted: Wanted) -> int:
    """Run until told to stop or until both are gone; the exit code."""
    stop = dev.stop_on_signals()
    children = dev.Children(lambda text: say(text, fg="yellow"))
    dev_file = wanted.data_dir / DEV_FILE.name
    with dev.sole_user(wanted.data_dir):
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
    kept = kept_tokens(wanted.data_dir)
    admin = kept.admin if kept else await asyncio.to_thread(_first_token, wanted)
    await children.start(_control(wanted))
    if kept:
        # A warm start: the edge answers from its disk while the control plane comes up.
        await children.start(_edge(wanted, kept.edge))
    with Api(Connection(wanted.control_url, admin)) as api:
        await dev.until(lambda: _answers(api, "/readyz"), children, [CONTROL], READY_S)
        await asyncio.to_thread(_make_environment, api, wanted.environment)
        if kept is None:
            token = await asyncio.to_thread(_edge_token, api, wanted.data_dir, admin)
            await children.start(_edge(wanted, token))
        taken, left = await asyncio.to_thread(_take_over, api, wanted)
        with Api(Connection(wanted.edge_url, admin)) as edge:
            await dev.until(lambda: _same(api, edge), children, [CONTROL, EDGE], READY_S)
        example = await asyncio.to_thread(_example, api, wanted)
    dev_file = DevFile(
        server=wanted.control_url,
        edge=wanted.edge_url,
        token=admin,
        environment=wanted.environment,
        processes={name: children.pid(name) for name in (CONTROL, EDGE)},
    )
    dev.write_private(wanted.data_dir / DEV_FILE.name, msgspec.json.encode(dev_file))
    _introduce(wanted, admin, taken, left, example)


def _first_token(wanted: Wanted) -> str:
    from holdfast.apps.observe import start_logs

    say("First start: making development keys and an admin token.")
    start_logs(wanted.log_level, "dev")
    return first_token(wanted.data_dir, "holdfast dev", development=True)


def _make_environment(api: Api, environment: str) -> None:
    standing = api.call(Environments, "GET", "/v1/environments").environments
    if environment not in {one.environment for one in standing}:
        body = {"reason": "holdfast dev"}
        api.call(Revised, "PUT", f"/v1/environments/{environment}", body)


def _edge_token(api: Api, data_dir: Path, admin: str) -> str:
    """A token for the edge; both tokens are kept for the next start."""
    body = {"name": "holdfast dev edge", "scopes": [{"verbs": ["follow"]}]}
    token = api.call(Issued, "POST", "/v1/tokens", body).token
    dev.write_private(data_dir / KEPT, msgspec.json.encode(Kept(admin=admin, edge=token)))
    return token


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


def _answers(api: Api, path: str) -> bool:
    try:
        api.raw("GET", path)
    except HoldfastError:
        return False
    return True


def _same(control: Api, edge: Api) -> bool:
    """Whether the edge has the newest snapshot of every subject."""
    try:
        return catalogue(edge) == catalogue(control)
    except HoldfastError:
        return False


def catalogue(api: Api) -> list[Listed]:
    return api.call(dict[str, list[Listed]], "GET", "/v1/catalogue")["subjects"]


NAMES_ITS_SERVICE = re.compile(
    r"""^ (?: service | \s* \{? \s* "service" ) \s* : \s* ["']? ([a-z0-9-]+)""",
    re.MULTILINE | re.VERBOSE,
)
"""Where a settings file says whose it is: enough to see that this service stands already."""


def _take_over(api: Api, wanted: Wanted) -> tuple[list[str], list[str]]:
    """Import and apply what was given, but for services that stand: (taken, left as they are)."""
    services = api.call(Services, "GET", "/v1/services", limit=PAGE_MAX).services
    standing = {line.service for line in services}
    files = files_of(wanted.paths)
    left = [service for file in files if (service := _service_of(file)) in standing]
    new = [file for file in files if _service_of(file) not in standing]
    taken = _apply(api, new, wanted) if new else []
    if wanted.imports and wanted.service in standing:
        left.append(wanted.service)
    elif wanted.imports:
        _import(api, wanted.imports, wanted)
        taken.append(wanted.service)
    return taken, left


def _service_of(file: Path) -> str:
    """Whose settings a file says it has, as far as a glance tells; the control plane reads it."""
    named = NAMES_ITS_SERVICE.search(file.read_text(encoding="utf-8", errors="replace"))
    return named[1] if named else ""


def _apply(api: Api, files: Sequence[Path], wanted: Wanted) -> list[str]:
    from holdfast.apps.cli.texts import read_texts, send_members

    reason = f"first start with {', '.join(map(str, wanted.paths))}"
    body = {"documents": send_members(api, read_texts(files)), "reason": reason}
    committed = api.call(Committed, "POST", "/v1/commits", body)
    return sorted({one.service for one in committed.differences if one.service})


def _import(api: Api, file: Path, wanted: Wanted) -> None:
    body = {
        "service": wanted.service,
        "environment": wanted.environment,
        "text": file.read_text(encoding="utf-8"),
        "file": str(file),
        "reason": f"import of {file.name}",
    }
    api.call(Imported, "POST", "/v1/import/flagd", body)


def _example(api: Api, wanted: Wanted) -> tuple[str, str] | None:
    """(service, key) of a setting to show, of the imported service if there is one."""
    query = {"environment": wanted.environment, "service": wanted.service or None, "limit": 1}
    found = api.call(Settings, "GET", "/v1/settings", **query).settings
    return (found[0].service, found[0].key) if found else None


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


def _url(host: str, port: int) -> str:
    """How this machine reaches a server that listens on `host`."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared, not listened on
    reached = everywhere.get(host, host)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
