"""What a process is told when it starts: from flags, else `HOLDFAST_*` variables, else defaults.

Decoded once, by the CLI (click reads the variables), then frozen; nothing below reads the
environment. Bounds of one process stand here; bounds on content stand in `core.limits`.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Final

import msgspec

from holdfast.apps.defaults import (
    CONTROL_PORT,
    DATA_DIR,
    EDGE_PORT,
    LOOPBACK,
    POLL_INTERVAL_S,
    PROBATION_S,
    WAIT_BUDGET_S,
)
from holdfast.apps.store_urls import problems_of_store
from holdfast.core.errors import Problem
from holdfast.sdk.base_urls import is_bare, shown

POLL_INTERVAL_S_MIN: Final = 0.05
POLL_INTERVAL_S_MAX: Final = 86_400.0
WORKERS_MAX: Final = 64
WAIT_BUDGET_S_MAX: Final = 10.0
_NAME: Final = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_TOKEN: Final = re.compile(r"[!-~]{1,512}")
_BASE_URL: Final = re.compile(r"https?://[!-~]{1,512}")


class ControlSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A control plane.

    `data_dir` holds the signing keys and samples and, unless `store` is the URL of another place
    (`apps.store_urls`), the journal and all beside it. With `open_reads` a read without
    a token is let through; only for development, only on loopback. `development` makes signing
    keys by itself and labels them so; without it, keys must be there (`holdfast keys init`).

    `node` names this one among all that share a store, by default by its host and port; they reach
    it at `advertise`, by default where it listens.
    """

    data_dir: Path = DATA_DIR
    store: str = ""
    node: str = ""
    advertise: str = ""
    store_password_file: Path | None = None
    host: str = LOOPBACK
    port: int = CONTROL_PORT
    open_reads: bool = False
    development: bool = False
    log_level: str = "info"
    requests_per_s_max: int = 500
    """Accepted from one token or, without one, from one address."""
    shutdown_s: float = 5.0
    """How long open requests may take to finish after SIGTERM."""


class EdgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """An edge.

    `upstreams` are base URLs of control planes or edges, tried in order. `token` needs the verb
    `follow`. `root` is a file with the root document to trust; without it the first root seen is
    pinned in `cache_dir`, loudly.

    `origins` are the web origins whose pages may read answers, `*` for any; none are, but with
    `open_reads` all. `public_url` is this edge's base URL as its clients see it, for the streams
    that answers point to; without it they are pointed to where they asked. `stream_secret` signs
    the tickets of those streams: edges behind one address share it, alone chance will do.
    """

    upstreams: tuple[str, ...] = (f"http://{LOOPBACK}:{CONTROL_PORT}",)
    token: str = ""
    cache_dir: Path = DATA_DIR / "edge"
    host: str = LOOPBACK
    port: int = EDGE_PORT
    root: Path | None = None
    open_reads: bool = False
    poll_interval_s: float = POLL_INTERVAL_S
    log_level: str = "info"
    connections_max: int = 12_000
    """Nine in ten of them may be streams."""
    shutdown_s: float = 5.0
    origins: tuple[str, ...] = ()
    public_url: str = ""
    stream_secret: str = ""
    probation_s: float = PROBATION_S
    """How long new settings are on probation; see `core.generations`."""
    streams: bool = True
    """Whether clients may listen for hints; without, they poll."""
    workers: int = 1
    """Processes, one for each core; each follows for itself and has a cache of its own."""
    take_over: bool = False
    """Whether to take the place of an edge that runs on the same cache directory."""
    take_over_within_s: float = 60.0
    """How long to try to answer all that the other one does, before it is let go on."""
    drain_s: float = 75.0
    """How long connections at rest stay after another process took over; clients close theirs, or
    use them once more. It is as long as they may rest on any day."""
    admission: bool = True
    """Whether it refuses what is too much; see `core.admission`."""
    wait_budget_s: float = WAIT_BUDGET_S
    """How long requests may stand in front of it before that is an overload."""
    cell: str = ""
    """Which cell it is of; whoever names another one is sent away."""
    requests_per_s_max: float = 0.0
    """Its share of what its cell may take; 0 for no bound."""
    shards: Path | None = None
    """A plan of which edges serve which services (`core.cells`); none: all of them."""
    shard: str = ""
    """The name of this edge in that plan."""
    shared_cache: bool = False
    """Whether caches that many share may keep what is read with a token."""
    unprotected: bool = False
    """Believe whatever is signed, check nothing: for game days, which show the damage."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. A name other than `localhost` is not believed."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def problems_of(settings: ControlSettings | EdgeSettings) -> tuple[Problem, ...]:
    """What can't be meant, all of it; an empty tuple when the settings hold together."""
    found = []
    if settings.open_reads and not is_loopback(settings.host):
        found.append(
            Problem(
                code="open-beyond-loopback",
                message=f"--open would let anybody who reaches {settings.host} read every setting",
                hint="use --host 127.0.0.1, or leave --open out and give readers a token "
                "(holdfast token create)",
            )
        )
    if not 0 <= settings.port <= 65535:
        found.append(
            Problem(
                code="bad-port",
                message=f"{settings.port} is no port",
                hint="give a number from 0 (any free port) to 65535",
            )
        )
    if isinstance(settings, ControlSettings):
        found.extend(problems_of_store(settings.store, settings.store_password_file))
        found.extend(_problems_of_node(settings))
    if isinstance(settings, EdgeSettings):
        found.extend(_problems_of_upstreams(settings.upstreams))
        found.extend(_problems_of_cell(settings.cell))
        found.extend(_problems_of_texts(settings))
        if not 1 <= settings.workers <= WORKERS_MAX:
            found.append(
                Problem(
                    code="bad-workers",
                    message=f"{settings.workers} is no number of workers",
                    hint=f"give --workers 1 to {WORKERS_MAX}, at most one for each core",
                )
            )
        if not POLL_INTERVAL_S_MIN <= settings.poll_interval_s <= POLL_INTERVAL_S_MAX:
            found.append(
                Problem(
                    code="bad-interval",
                    message=f"{settings.poll_interval_s:g} s is no interval to poll at",
                    hint=f"give seconds from {POLL_INTERVAL_S_MIN:g} to {POLL_INTERVAL_S_MAX:g}",
                )
            )
        if not 0 < settings.wait_budget_s <= WAIT_BUDGET_S_MAX:
            found.append(
                Problem(
                    code="bad-wait-budget",
                    message=f"{settings.wait_budget_s:g} s is no budget for waiting",
                    hint=f"give more than 0 and at most {WAIT_BUDGET_S_MAX:g} s; {WAIT_BUDGET_S:g} "
                    "is usual, --admission off does without",
                )
            )
    return tuple(found)


def _problems_of_node(settings: ControlSettings) -> list[Problem]:
    found = []
    if settings.node and not _NAME.fullmatch(settings.node):
        found.append(
            Problem(
                code="bad-node",
                message=f"{settings.node[:128]!r} is no name of a node",
                hint="give letters, digits, '.', '_', ':' and '-', at most 128",
            )
        )
    if settings.advertise and not _is_base_url(settings.advertise):
        found.append(
            Problem(
                code="bad-advertise",
                message=f"{shown(settings.advertise)} is no base URL",
                hint="write http://HOST:PORT or https://HOST[/PATH], as other nodes reach this one",
            )
        )
    return found


def _problems_of_texts(settings: EdgeSettings) -> list[Problem]:
    found = []
    if bool(settings.shards) != bool(settings.shard):
        found.append(
            Problem(
                code="half-a-shard",
                message="a plan of shards, and the name of this edge in it, go together",
                hint="give --shards FILE and --shard NAME, or neither",
            )
        )
    if settings.token and not _TOKEN.fullmatch(settings.token):
        found.append(
            Problem(
                code="bad-token",
                message="the token has blanks, line ends or characters that no token has",
                hint="give the whole text that `holdfast token create` printed, and only that",
            )
        )
    if settings.public_url and not _is_base_url(settings.public_url):
        found.append(
            Problem(
                code="bad-public-url",
                message=f"{shown(settings.public_url)} is no base URL",
                hint="write http://HOST:PORT or https://HOST[/PATH], as clients reach this edge",
            )
        )
    return found


def _problems_of_cell(cell: str) -> list[Problem]:
    """It travels in a header, as bytes that everybody has to spell alike."""
    if not cell or _NAME.fullmatch(cell):
        return []
    return [
        Problem(
            code="bad-cell",
            message=f"{cell[:128]!r} is no name of a cell",
            hint="give letters, digits, '.', '_', ':' and '-', at most 128",
        )
    ]


def _problems_of_upstreams(upstreams: tuple[str, ...]) -> list[Problem]:
    if not upstreams:
        return [
            Problem(
                code="no-upstream",
                message="an edge follows at least one upstream",
                hint="give --upstream http://HOST:PORT, once for each control plane or edge",
            )
        ]
    return [
        Problem(
            code="bad-upstream",
            message=f"{shown(upstream)} is no base URL",
            hint="write http://HOST:PORT or https://HOST[/PATH]; a token goes into HOLDFAST_TOKEN",
        )
        for upstream in upstreams
        if not _is_base_url(upstream)
    ]


def _is_base_url(text: str) -> bool:
    return _BASE_URL.fullmatch(text) is not None and is_bare(text)
