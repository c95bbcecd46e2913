"""What a client is told: from its arguments, else `HOLDFAST_*` variables, else defaults.

All problems are found at once: a deployment that is wrong in three places is mended in one go.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from holdfast.core.errors import Invalid, Problem
from holdfast.core.generations import PROBATION_S
from holdfast.core.model import NAME, Contract, Subject
from holdfast.sdk.base_urls import shown

ENVIRONMENT_DEFAULT: Final = "production"
UNPROTECTED: Final = "HOLDFAST_UNPROTECTED"
"""Set to 1, no candidate is checked but for its signature: for game days, which show the damage."""
TEXT_CHARS_MAX: Final = 256
_NAMED: Final = re.compile(NAME)


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Checked. `root` is the JSON text of the roots to trust, empty to pin the first ones seen."""

    endpoints: tuple[str, ...]
    subject: Subject
    token: str = ""
    root: str = ""
    cache_dir: str = ""
    defaults: Mapping[str, Any] | str | None = None
    poll_interval_s: float | None = None
    streams: bool = True
    reports: bool = True
    application: str = ""
    ring: str = ""
    contract: Contract | None = None
    health: Callable[[], Any] | None = None
    probation_s: float = PROBATION_S
    unprotected: bool = False


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """The constructor's arguments as they came."""

    endpoints: Sequence[str] | None = None
    environment: str | None = None
    service: str | None = None
    token: str | None = None
    root: str | os.PathLike[str] | Mapping[str, Any] | Sequence[Any] | None = None
    cache_dir: str | os.PathLike[str] | None = None
    defaults: Mapping[str, Any] | str | os.PathLike[str] | None = None
    poll_interval_s: float | None = None
    streams: bool = True
    reports: bool = True
    application: str | None = None
    ring: str | None = None
    contract: Contract | None = None
    health: Callable[[], Any] | None = None
    probation_s: float | None = None


def settle(given: Given, variables: Mapping[str, str]) -> ClientSettings:
    """Raises `Invalid` with everything that is wrong."""
    problems: list[Problem] = []
    listed = variables.get("HOLDFAST_ENDPOINTS", "").split(",")
    endpoints: Any = given.endpoints if given.endpoints is not None else listed
    environment = given.environment or variables.get("HOLDFAST_ENVIRONMENT", ENVIRONMENT_DEFAULT)
    service = given.service or variables.get("HOLDFAST_SERVICE", "")
    root: Any = given.root if given.root is not None else variables.get("HOLDFAST_ROOT", "")
    cache_dir: Any = given.cache_dir or variables.get("HOLDFAST_CACHE_DIR", "")
    settings = ClientSettings(
        endpoints=_endpoints(endpoints, problems),
        subject=Subject(
            _name("environment", environment, problems), _name("service", service, problems)
        ),
        token=_token(given.token or variables.get("HOLDFAST_TOKEN", ""), problems),
        root=_root(root, problems),
        cache_dir=_path("cache_dir", cache_dir, problems),
        defaults=_defaults(given.defaults, problems),
        poll_interval_s=_interval(given.poll_interval_s, problems),
        streams=bool(given.streams),
        reports=bool(given.reports),
        application=_text("application", given.application, variables, problems),
        ring=_text("ring", given.ring, variables, problems),
        contract=_contract(given.contract, problems),
        health=given.health,
        probation_s=_probation(given.probation_s, problems),
        unprotected=variables.get(UNPROTECTED, "") == "1",
    )
    if problems:
        raise Invalid(problems)
    return settings


def _problem(name: str, message: str, hint: str) -> Problem:
    return Problem(code="argument", message=message, path=f"/{name}", hint=hint)


def _endpoints(value: Any, problems: list[Problem]) -> tuple[str, ...]:
    hint = 'endpoints=["http://127.0.0.1:8016"], or HOLDFAST_ENDPOINTS, separated by commas'
    if isinstance(value, str) or not isinstance(value, Sequence):
        problems.append(_problem("endpoints", "not a list of URLs", hint))
        return ()
    told = [url.strip() if isinstance(url, str) else url for url in value]
    found = tuple(url for url in told if url != "")
    if not found:
        problems.append(_problem("endpoints", "there is no endpoint", hint))
    wrong = [url for url in found if not _is_base_url(url)]
    problems += [_problem("endpoints", f"{_named(url)} is no base URL", hint) for url in wrong]
    return found


def _named(url: Any) -> str:
    return shown(url) if isinstance(url, str) else repr(url)


def _is_base_url(url: Any) -> bool:
    if not isinstance(url, str) or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for what is no port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and plain


def _name(name: str, value: Any, problems: list[Problem]) -> str:
    if isinstance(value, str) and _NAMED.fullmatch(value):
        return value
    said = f"{value!r} is no name of one" if value else "it is not given"
    hint = f'{name}="…" in small letters, digits and hyphens, or HOLDFAST_{name.upper()}'
    problems.append(_problem(name, said, hint))
    return ""


def _token(value: Any, problems: list[Problem]) -> str:
    if isinstance(value, str) and value.isascii() and value.isprintable() and " " not in value:
        return value
    hint = "give the whole text that `holdfast token create` printed"
    problems.append(_problem("token", "this can't be a token", hint))
    return ""


def _root(value: Any, problems: list[Problem]) -> str:
    """JSON text, from text, from a file, or from JSON that was read already."""
    hint = "give the path of a root document, or its JSON"
    try:
        if not isinstance(value, str | os.PathLike):
            return msgspec.json.encode(value).decode()
        text = str(value).strip()
        if not text or text.startswith(("{", "[")):
            return text
        read = Path(text).read_text(encoding="utf-8")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        problems.append(_problem("root", f"can't read it: {error}", hint))
        return ""
    if not read.strip():  # no root at all would be to trust the first one seen
        problems.append(_problem("root", f"{text} is empty", hint))
    return read


def _text(name: str, value: Any, variables: Mapping[str, str], problems: list[Problem]) -> str:
    found = value if value is not None else variables.get(f"HOLDFAST_{name.upper()}", "")
    if isinstance(found, str) and len(found) <= TEXT_CHARS_MAX and found.isprintable():
        return found
    hint = f"give {name} as printable text, at most {TEXT_CHARS_MAX} characters"
    problems.append(_problem(name, f"{str(found)[:64]!r} can't be that", hint))
    return ""


def _path(name: str, value: Any, problems: list[Problem]) -> str:
    try:
        path = os.fsdecode(value)
        if b"\0" not in os.fsencode(path):
            return path
    except (TypeError, ValueError):
        pass
    problems.append(_problem(name, f"{value!r} is no path", f"give {name} as text or Path"))
    return ""


def _defaults(value: Any, problems: list[Problem]) -> Mapping[str, Any] | str | None:
    if value is None or isinstance(value, Mapping):
        return value
    return _path("defaults", value, problems)


def _contract(value: Any, problems: list[Problem]) -> Contract | None:
    if value is None or isinstance(value, Contract):
        return value
    hint = "give a holdfast.core.model.Contract, or leave it out"
    problems.append(_problem("contract", f"{type(value).__name__} is no contract", hint))
    return None


def _probation(value: Any, problems: list[Problem]) -> float:
    if value is None:
        return PROBATION_S
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    hint = "give seconds, 0 or more"
    problems.append(_problem("probation_s", f"{value!r} is no time", hint))
    return PROBATION_S


def _interval(value: Any, problems: list[Problem]) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
        return float(value)
    hint = "give seconds, above 0, or leave it out: then the snapshots say it"
    problems.append(_problem("poll_interval_s", f"{value!r} is no interval", hint))
    return None
