"""What `holdfast dev` asks of the two processes it started: what is missing, made; all in step.

Apart from `together`, so that the processes are on their way before this is imported.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from holdfast.apps.cli.api import Api
from holdfast.apps.cli.files import files_of
from holdfast.apps.cli.wanted import Wanted
from holdfast.apps.control.schemas import (
    PAGE_MAX,
    Committed,
    Environments,
    Imported,
    Revised,
    Services,
)
from holdfast.apps.distribute import Listed
from holdfast.core.errors import HoldfastError


class _Flag(msgspec.Struct):
    key: str


class _Flags(msgspec.Struct):
    """What OFREP answers for all keys, as far as it is looked at here."""

    flags: tuple[_Flag, ...]


def begin(api: Api, wanted: Wanted) -> tuple[list[str], list[str]]:
    """The environment and the given services, made unless they stand: (taken, left as they are).

    What the catalogue shows stands; a warm start asks for nothing more.
    """
    there = catalogue(api)
    if wanted.environment not in {listed.environment for listed in there}:
        make_environment(api, wanted.environment)
    shown = {one.service for one in there if one.environment == wanted.environment}
    return take_over(api, wanted, shown)


def make_environment(api: Api, environment: str) -> None:
    standing = api.call(Environments, "GET", "/v1/environments").environments
    if environment not in {one.environment for one in standing}:
        body = {"reason": "holdfast dev"}
        api.call(Revised, "PUT", f"/v1/environments/{environment}", body)


def is_up(control: Api) -> bool:
    """Whether the control plane answers."""
    try:
        catalogue(control)
    except HoldfastError:
        return False
    return True


def in_step(control: Api, edge: Api) -> bool:
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


def take_over(api: Api, wanted: Wanted, shown: Collection[str]) -> tuple[list[str], list[str]]:
    """Import and apply what was given, but for services that stand: (taken, left as they are)."""
    files = files_of(wanted.paths)
    standing = set(shown)
    if not {*map(_service_of, files), *filter(None, [wanted.service])} <= standing:
        services = api.call(Services, "GET", "/v1/services", limit=PAGE_MAX).services
        standing |= {line.service for line in services}
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
    from holdfast.apps.cli.texts import read_change, send_members

    reason = f"first start with {', '.join(map(str, wanted.paths))}"
    body = {"documents": send_members(api, read_change(files)), "reason": reason}
    committed = api.call(Committed, "POST", "/v1/commits", body)
    return sorted({one.service for one in committed.differences if one.service})


def _import(api: Api, file: Path, wanted: Wanted) -> None:
    from holdfast.apps.cli.texts import read_texts

    [text] = read_texts([file])
    body = {
        "service": wanted.service,
        "environment": wanted.environment,
        "text": text.text,
        "file": text.file,
        "reason": f"import of {file.name}",
    }
    api.call(Imported, "POST", "/v1/import/flagd", body)


def example_of(edge: Api, wanted: Wanted) -> tuple[str, str] | None:
    """(service, key) of a setting to show, of the imported service if there is one."""
    shown = [one.service for one in catalogue(edge) if one.environment == wanted.environment]
    for service in filter(None, [wanted.service, *sorted(shown)]):
        if service in shown and not service.startswith("_"):
            path = f"/{wanted.environment}/{service}/ofrep/v1/evaluate/flags"
            flags = edge.call(_Flags, "POST", path, {"context": {}}).flags
            if flags:
                return service, flags[0].key
    return None
