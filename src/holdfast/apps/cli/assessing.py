"""The facts for `holdfast assess`: what the API tells an admin, and what the files here show."""

from __future__ import annotations

import base64
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from holdfast import __version__
from holdfast.apps.cli.api import Api
from holdfast.apps.cli.connection import Connection
from holdfast.apps.control import schemas
from holdfast.apps.control.audit_schemas import AuditBody
from holdfast.apps.control.contract_schemas import Contracts
from holdfast.apps.control.fleet_schemas import ConsumerLine, FleetBody
from holdfast.apps.control.policy_schemas import BrokenGlasses, PolicyBody
from holdfast.apps.settings import is_loopback
from holdfast.core.assess import (
    ConsumerFacts,
    Facts,
    GlassFacts,
    LocalFacts,
    ServiceFacts,
    TokenFacts,
)
from holdfast.core.errors import HoldfastError, NotFound, Unauthenticated
from holdfast.core.policies import Policy
from holdfast.core.roots import RootSet, decode_root_set
from holdfast.core.wire import Envelope

PAGES_MAX: Final = 200
PAGE: Final = 500
FILES_MAX: Final = 10_000
_Fact = TypeVar("_Fact")


def gather(
    api: Api,
    now_s: float,
    production: tuple[str, ...],
    data_dir: Path | None,
    backup: Path | None,
) -> Facts:
    """Everything that can be known. Raises only when the control plane does not answer at all."""
    server = api.connection.server
    urls = [urlsplit(each) for each in api.connection.servers]
    revision, ready = _head(api)
    audited = _or_none(lambda: api.call(AuditBody, "GET", "/v1/audit"))
    return Facts(
        now_s=now_s,
        server=server,
        revision=revision,
        build=f"holdfast/{__version__}",
        ready=ready,
        loopback=all(is_loopback(url.hostname or "") for url in urls),
        encrypted=all(url.scheme == "https" for url in urls),
        open_reads=_or_none(lambda: any(map(_open_reads, api.connection.servers))),
        rewritten=tuple(one.message for one in audited.findings) if audited else None,
        root=_or_none(lambda: _root(api)),
        production=production,
        environments=_or_none(lambda: _policies(api)),
        tokens=_or_none(lambda: _tokens(api)),
        services=_or_none(lambda: dict(_services(api))),
        consumers=_or_none(lambda: tuple(map(_consumer, _fleet(api)))),
        broken_glass=_or_none(lambda: tuple(_glass(api))),
        local=_local(data_dir, backup) if data_dir else None,
    )


def _or_none(ask: Callable[[], _Fact]) -> _Fact | None:
    try:
        return ask()
    except HoldfastError:
        return None


def _head(api: Api) -> tuple[int, str]:
    """The newest revision, and why the control plane is not ready; empty when it is."""
    head = api.call(schemas.HeadBody, "GET", "/v1/head")
    try:
        api.raw("GET", "/readyz")
    except HoldfastError as error:
        return head.revision, str(error)
    return head.revision, ""


def _open_reads(server: str) -> bool:
    with Api(Connection(server, "")) as nobody:
        try:
            nobody.raw("GET", "/v1/head")
        except Unauthenticated:
            return False
    return True


def _root(api: Api) -> RootSet | None:
    roots = api.call(schemas.Roots, "GET", "/v1/roots").roots
    if not roots:
        return None
    return decode_root_set(base64.b64decode(msgspec.convert(roots[-1], Envelope).payload))


def _policies(api: Api) -> dict[str, Policy]:
    found = api.call(schemas.Environments, "GET", "/v1/environments").environments
    return {
        one.environment: api.call(
            PolicyBody, "GET", f"/v1/environments/{one.environment}/policy"
        ).policy
        for one in found
    }


def _tokens(api: Api) -> tuple[TokenFacts, ...]:
    found = api.call(schemas.Tokens, "GET", "/v1/tokens").tokens
    return tuple(TokenFacts(one.id, one.name, one.scopes, one.expires_s) for one in found)


def _services(api: Api) -> Iterator[tuple[str, ServiceFacts]]:
    cursor: str | None = None
    for _ in range(PAGES_MAX):
        page = api.call(schemas.Services, "GET", "/v1/services", limit=PAGE, cursor=cursor)
        for line in page.services:
            detail = api.call(schemas.ServiceDetail, "GET", f"/v1/services/{line.service}")
            contracts = tuple(_contracts(api, line.service))
            yield line.service, ServiceFacts(detail.info, detail.settings, contracts)
        cursor = page.cursor
        if cursor is None:
            return


def _contracts(api: Api, service: str) -> Iterator[str]:
    with suppress(NotFound):
        found = api.call(Contracts, "GET", f"/v1/services/{service}/contracts", limit=PAGE)
        yield from (one.consumer for one in found.contracts)


def _fleet(api: Api) -> Iterator[ConsumerLine]:
    cursor: str | None = None
    for _ in range(PAGES_MAX):
        page = api.call(FleetBody, "GET", "/v1/fleet", limit=PAGE, cursor=cursor)
        yield from page.consumers
        cursor = page.cursor
        if cursor is None:
            return


def _consumer(line: ConsumerLine) -> ConsumerFacts:
    report = line.report
    return ConsumerFacts(
        consumer=report.consumer,
        kind=report.kind,
        environment=report.environment,
        service=report.service,
        build=report.build,
        revision=report.revision,
        trust=report.trust,
        stale=report.stale,
        silent=line.silent,
        behind=line.behind,
        crashes=report.crashes,
        witnesses=len(report.heads),
        age_s=line.age_s,
        known_s=line.known_s,
        refusals=report.refusals,
    )


def _glass(api: Api) -> Iterator[GlassFacts]:
    for one in api.call(BrokenGlasses, "GET", "/v1/break-glass").broken:
        if one.open:
            yield GlassFacts(one.environment, one.actor, one.reason, one.revision)


def _local(data_dir: Path, backup: Path | None) -> LocalFacts:
    newest = _newest(backup) if backup else None
    return LocalFacts(
        data_dir=str(data_dir),
        open_paths=tuple(_open_to_others(data_dir)),
        root_key_here=(data_dir / "keys" / "root.key").exists(),
        head_witness=_has_witness(data_dir),
        backup_named=backup is not None,
        backup_s=newest,
    )


def _open_to_others(data_dir: Path) -> Iterator[str]:
    """The directory if others get in; then its files that they can read or write."""
    if not data_dir.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return  # nobody else gets past it
    yield str(data_dir)
    for at, path in enumerate(sorted(data_dir.rglob("*"))):
        if at >= FILES_MAX:
            return
        secret = path.suffix in (".db", ".key", ".json")
        if secret and path.lstat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield str(path)


def _has_witness(data_dir: Path) -> bool:
    """Whether the journal there has one; one that is in another store needs none."""
    journal = data_dir / "journal.db"
    return not journal.exists() or journal.with_name("journal.db-head").exists()


def _newest(backup: Path) -> float | None:
    """When the newest journal in a backup was written, in unix seconds."""
    names = ("journal*.db", "*.backup")
    found = [backup] if backup.is_file() else [one for each in names for one in backup.rglob(each)]
    return max((path.stat().st_mtime for path in found if path.is_file()), default=None)
