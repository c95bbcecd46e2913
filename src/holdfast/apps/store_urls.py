"""The URL that chooses a store: what is wrong with it, all at once, and how it is shown.

    sqlite:///DIRECTORY          files in a directory, or its journal.db; the default, in the data
    memory:                      ends with the process
    etcd://H1:2379,H2:2379       etcds:// for TLS; /PREFIX, ?ca= ?cert= ?key= ?timeout_s= ?prefix=
    postgresql://USER@H/DATABASE with ?schema= ?timeout_s=, and what libpq takes

A password stands in the URL or, better, in a file. It is never shown. Of a URL that is of another
form next to nothing is, since nobody can tell where its password stands; nor what follows an
encoded colon in a user's name.
"""

from __future__ import annotations

import os
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
SHOWN_CHARS_MAX: Final = 200
"""Of what is no URL at all."""
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
_ON_SERVERS = re.compile(
    r"(?P<begin>(?:etcds?|postgresql)://)(?:(?P<user>[^\s/?#@:]+)(?P<password>:[^\s/?#@]*)?@)?"
    r"(?P<hosts>[^\s/?#@]*)(?P<path>/[^\s?#@]*)?(?:\?(?P<query>[^\s#@]*))?"
)
_LOCAL = re.compile(r"memory:|(?P<place>sqlite:(?:///|/(?!/))[^@?#]*)(?:\?[^@#]*)?")
_FORMS: Final[Mapping[str, str]] = {
    "sqlite": "sqlite:///DIRECTORY",
    "memory": "memory:",
    "etcd": "etcd://[USER[:PASSWORD]@]HOST:PORT,HOST:PORT[/PREFIX][?…]",
    "etcds": "etcds://[USER[:PASSWORD]@]HOST:PORT,HOST:PORT[/PREFIX][?…]",
    "postgresql": "postgresql://[USER[:PASSWORD]@]HOST:PORT/DATABASE[?…]",
}
_MEANT = re.compile(r"(?is)://|:.*@|passw|^\W*(?:sqlite|memory|etcds?|postgres(?:ql)?)\b.*[:@=]")
"""What somebody writes who means a URL, or what libpq takes in the place of one."""
_ENCODED_COLON = re.compile(r"%(?:25)*3[Aa]")
_TELLING = re.compile(r"[:@=?#\s]")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+)(:(?P<port>[0-9]{1,5}))?")
_SHOWN: Final = frozenset(
    {"prefix", "schema", "timeout_s", "ca", "cert", "key", "sslmode", "sslrootcert", "sslcert"}
    | {"sslkey", "target_session_attrs", "connect_timeout", "application_name"}
)
"""Parameters whose values are shown."""


class StoreUrl(msgspec.Struct, frozen=True):
    """A store's URL taken apart. `hosts` are `host:port` as written."""

    scheme: str
    user: str
    password: str
    hosts: tuple[str, ...]
    path: str
    parameters: tuple[tuple[str, str], ...]


def shown(url: str) -> str:
    """The URL for people and logs: without its password, and one of another form hardly at all."""
    if local := _LOCAL.fullmatch(url):
        return local["place"] or url
    there = _ON_SERVERS.fullmatch(url)
    if there and all(map(_is_host, there["hosts"].split(","))):
        # A role may have a colon in its name. More often one was written as %3A by mistake.
        name, *merged = _ENCODED_COLON.split(there["user"] or "", maxsplit=1)
        secret = "%3A***" * bool(merged) + ":***" * bool(there["password"])
        user = f"{name}{secret}@" if there["user"] else ""
        query = "" if there["query"] is None else f"?{_shown_query(there['query'])}"
        return f"{there['begin']}{user}{there['hosts']}{there['path'] or ''}{query}"
    scheme, colon, rest = url.partition(":")
    if colon and scheme in SCHEMES:
        return f"{scheme}:{'…' if _TELLING.search(rest) else rest}"
    return "what was given" if _TELLING.search(url) else repr(url[:SHOWN_CHARS_MAX])


def is_meant(text: str) -> bool:
    """Whether it is to be a store's URL, well-formed or not, and no path.

    What is no URL is taken for a path, and a path is shown with all that is in it.
    """
    scheme, colon, _ = text.partition(":")
    if colon and scheme in SCHEMES:
        return True
    return _MEANT.search(text) is not None and not os.path.exists(text)  # noqa: PTH110  of any text


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
            f"{shown(url)} names no store",
            "write sqlite:///DIRECTORY, etcd://HOST:2379,HOST:2379, etcds://… or "
            "postgresql://USER@HOST/DATABASE",
        )
        return
    if (apart := _formed(url)) is None:
        yield _problem(
            f"{shown(url)} is not of the form {_FORMS[scheme]}",
            "in a user and a password write %2F for /, %3F for ?, %23 for #, %40 for @, and no "
            "blanks; put [ ] around IPv6 addresses",
        )
        return
    yield from _of_parameters(apart)
    if scheme == "sqlite":
        yield from _of_sqlite(apart)
    elif scheme != "memory":
        yield from _of_hosts(apart)
        if scheme == "postgresql":
            yield from _of_postgresql(apart)
    yield from _of_password(apart, password_file)


def _formed(url: str) -> StoreUrl | None:
    """The URL taken apart, if it is of the form that its scheme has."""
    if not (_LOCAL.fullmatch(url) or _ON_SERVERS.fullmatch(url)):
        return None
    try:
        return _apart(url)
    except ValueError:  # what it says would quote the URL
        return None


def _of_parameters(apart: StoreUrl) -> Iterator[Problem]:
    known = _PARAMETERS.get(apart.scheme)
    given = dict(apart.parameters)
    for name in given:
        if known is not None and name not in known:
            names = ", ".join(sorted(known)) or "none"
            # Without a user, this may be the end of a password whose host is missing.
            told = f"knows no ?{name}=" if apart.user else "was given a parameter it does not know"
            yield _problem(f"{apart.scheme}: {told}", f"known: {names}")
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
    path = Path(apart.path)
    if path.name != JOURNAL and path.is_file():
        hint = f"name the directory, or the {JOURNAL} in it: other files lie beside"
        yield _problem(f"{path} is a file", hint)


def _of_hosts(apart: StoreUrl) -> Iterator[Problem]:
    if not any(apart.hosts):
        yield _problem(f"{apart.scheme}: needs a host", f"write {apart.scheme}://HOST:PORT")
        return
    for host in apart.hosts:
        if not _is_host(host):
            # Without a user, what stands in the place of a port may be a password.
            told = host if apart.user else host.partition(":")[0]
            yield _problem(
                f"{told!r} is no host, or has no port from 1 to {PORT_MAX}",
                "write HOST:PORT, commas between, and USER:PASSWORD@ before the first",
            )


def _of_postgresql(apart: StoreUrl) -> Iterator[Problem]:
    if not apart.path.strip("/"):
        hint = "write postgresql://USER@HOST/DATABASE"
        yield _problem("postgresql: needs a database", hint)


def _of_password(apart: StoreUrl, password_file: Path | None) -> Iterator[Problem]:
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


def _shown_query(query: str) -> str:
    """The query without the values of what may be secret, or is known to nobody."""
    parts = (part.partition("=") for part in query.split("&"))
    return "&".join(
        f"{name}{equals}{value}" if name in _SHOWN else f"{name}=***" if equals else "***"
        for name, equals, value in parts
    )


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
