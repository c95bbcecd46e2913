"""The URL that chooses a store: what is wrong with it, all at once, and how it is shown.

    sqlite:///DIRECTORY          files in a directory, or its journal.db; the default, in the data
    memory:                      ends with the process
    etcd://H1:2379,H2:2379       etcds:// for TLS; /PREFIX, ?ca= ?cert= ?key= ?timeout_s= ?prefix=
    postgresql://USER@H/DATABASE with ?schema= ?timeout_s=, and what libpq takes

A password stands in the URL or, better, in a file. It is never shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec

from holdfast.core.errors import Problem

JOURNAL: Final = "journal.db"
SCHEMES: Final = ("sqlite", "memory", "etcd", "etcds", "postgresql")
URL_CHARS_MAX: Final = 4096
TIMEOUT_S_MAX: Final = 60.0
PASSWORD_BYTES_MAX: Final = 4096
PORT_MAX: Final = 65_535
_PARAMETERS: Final[Mapping[str, frozenset[str]]] = {
    "sqlite": frozenset(),
    "memory": frozenset(),
    "etcd": frozenset({"prefix", "timeout_s", "ca", "cert", "key"}),
    "etcds": frozenset({"prefix", "timeout_s", "ca", "cert", "key"}),
}
"""PostgreSQL's are libpq's, but for these: the adapter knows."""
_FILES: Final = ("ca", "cert", "key", "sslrootcert", "sslcert", "sslkey")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_PASSWORD = re.compile(r"^([A-Za-z0-9+.-]+:/*[^/@?#:]*):.*@")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+)(:(?P<port>[0-9]{1,5}))?")
_SECRET_PARAMETER = re.compile(r"(?i)([?&](?:password|sslpassword)=)[^&#]*")


class StoreUrl(msgspec.Struct, frozen=True):
    """A store's URL taken apart. `hosts` are `host:port` as written."""

    scheme: str
    user: str
    password: str
    hosts: tuple[str, ...]
    path: str
    parameters: tuple[tuple[str, str], ...]


def shown(url: str) -> str:
    """The URL for people and logs: without its password."""
    return _SECRET_PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url))


def url_of(directory: Path) -> str:
    """The store in a directory, as a URL."""
    return "sqlite" + directory.absolute().as_uri().removeprefix("file")


def directory_of(url: str) -> Path:
    """The directory of a `sqlite:` URL."""
    path = Path(_apart(url).path)
    return path.parent if path.name == JOURNAL else path


def problems_of_store(url: str, password_file: Path | None = None) -> tuple[Problem, ...]:
    """All that is wrong with it, as far as can be told without opening anything.

    Nothing is wrong with an empty one: the store is in the data directory.
    """
    if not url and password_file is None:
        return ()
    return tuple(_problems(url, password_file))


def completed(url: str, password_file: Path | None) -> str:
    """The URL with the password of that file; as it is without one. For the adapter's eyes only."""
    if password_file is None:
        return url
    password = password_file.read_bytes()[:PASSWORD_BYTES_MAX].decode().rstrip("\r\n")
    before, _, after = url.partition("@")
    return f"{before.removesuffix(':')}:{quote(password, safe='')}@{after}"


def _apart(url: str) -> StoreUrl:
    parts = urlsplit(url)
    userinfo, _, hosts = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    return StoreUrl(
        scheme=parts.scheme,
        user=unquote(user),
        password=unquote(password),
        hosts=tuple(hosts.split(",")) if hosts else (),
        path=unquote(parts.path),
        parameters=tuple(parse_qsl(parts.query, keep_blank_values=True)),
    )


def _problems(url: str, password_file: Path | None) -> Iterator[Problem]:
    scheme, colon, _ = url.partition(":")
    if not colon or scheme not in SCHEMES or len(url) > URL_CHARS_MAX:
        yield _problem(
            f"{shown(url)[:200]!r} names no store",
            "write sqlite:///DIRECTORY, etcd://HOST:2379,HOST:2379, etcds://… or "
            "postgresql://USER@HOST/DATABASE",
        )
        return
    try:
        apart = _apart(url)
    except ValueError as error:
        yield _problem(f"{shown(url)} can't be read: {error}", "put [ ] around IPv6 addresses")
        return
    if "@" in apart.path or (url.count("@") and not apart.user):
        hint = "write %2F for /, %3F for ?, %23 for #, %40 for @ in it"
        yield _problem(f"{shown(url)}: its user or password has a character that ends it", hint)
        return
    yield from _of_parameters(apart)
    if scheme == "sqlite":
        yield from _of_sqlite(apart)
    elif scheme == "memory":
        if url != "memory:":
            yield _problem("memory: has nothing after it", "write memory:")
    else:
        yield from _of_hosts(apart)
        if scheme == "postgresql":
            yield from _of_postgresql(apart)
    yield from _of_password(apart, password_file)


def _of_parameters(apart: StoreUrl) -> Iterator[Problem]:
    known = _PARAMETERS.get(apart.scheme)
    given = dict(apart.parameters)
    for name in given:
        if known is not None and name not in known:
            names = ", ".join(sorted(known)) or "none"
            yield _problem(f"{apart.scheme}: knows no ?{name}=", f"known: {names}")
    for name in _FILES:
        if name in given and not Path(given[name]).is_file():
            yield _problem(f"?{name}={given[name]} is no file", "name a PEM file that is there")
    if ("cert" in given) != ("key" in given):
        yield _problem("?cert= and ?key= go together", "give both, or neither")
    if "timeout_s" in given and not _is_timeout(given["timeout_s"]):
        yield _problem(
            f"?timeout_s={given['timeout_s']} is no time to wait",
            f"give seconds above 0 and up to {TIMEOUT_S_MAX:g}; 2 is usual",
        )
    if not _NAME.fullmatch(given.get("prefix", "holdfast")):
        yield _problem(f"?prefix={given['prefix']} is no prefix", "letters, digits and . _ - /")
    if not _SCHEMA.fullmatch(given.get("schema", "holdfast")):
        hint = "a small letter, then small letters, digits and _"
        yield _problem(f"?schema={given['schema']} is no schema", hint)


def _of_sqlite(apart: StoreUrl) -> Iterator[Problem]:
    if apart.hosts:
        yield _problem(
            f"sqlite: is on this machine, and {','.join(apart.hosts)} stands where a host would",
            "write three slashes: sqlite:///var/lib/holdfast",
        )
    path = Path(apart.path)
    if not path.is_absolute():
        hint = "write the whole path: sqlite:///var/lib/holdfast"
        yield _problem(f"{apart.path or 'nothing'!r} is no absolute path", hint)
    elif path.name != JOURNAL and path.is_file():
        hint = f"name the directory, or the {JOURNAL} in it: other files lie beside"
        yield _problem(f"{path} is a file", hint)


def _of_hosts(apart: StoreUrl) -> Iterator[Problem]:
    if not apart.hosts:
        yield _problem(f"{apart.scheme}: needs a host", f"write {apart.scheme}://HOST:PORT")
    for host in apart.hosts:
        if not _is_host(host):
            yield _problem(f"{host!r} is no host with a port", "write HOST:PORT, commas between")


def _of_postgresql(apart: StoreUrl) -> Iterator[Problem]:
    if not apart.path.strip("/"):
        hint = "write postgresql://USER@HOST/DATABASE"
        yield _problem("postgresql: needs a database", hint)


def _of_password(apart: StoreUrl, password_file: Path | None) -> Iterator[Problem]:
    if apart.password and not apart.user:
        yield _problem("a password without a user", "write USER:PASSWORD@HOST")
    if password_file is None:
        return
    if apart.password or "password" in dict(apart.parameters):
        yield _problem(
            "a password in the URL, and another one in a file", "leave one of them out: the URL's"
        )
    if apart.scheme in {"sqlite", "memory"} or not apart.user:
        yield _problem(
            "a file with a password, and no user in the URL that it is of",
            "write USER@HOST, or unset HOLDFAST_STORE_PASSWORD_FILE",
        )
    try:
        body = password_file.read_bytes()[:PASSWORD_BYTES_MAX]
    except OSError as error:
        hint = "name a file that this process may read"
        yield _problem(f"{password_file} can't be read: {error.strerror}", hint)
        return
    if not body.strip() or not _is_text(body):
        yield _problem(f"{password_file} holds no password", "one line of UTF-8, and no more")


def _is_host(text: str) -> bool:
    match = _HOST.fullmatch(text)
    return match is not None and 0 < int(match["port"] or 1) <= PORT_MAX


def _is_timeout(text: str) -> bool:
    try:
        return 0 < float(text) <= TIMEOUT_S_MAX
    except ValueError:
        return False


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return b"\n" not in body.rstrip(b"\r\n")


def _problem(message: str, hint: str) -> Problem:
    return Problem(code="bad-store", message=message, hint=hint)
