"""The URL of a store in etcd, taken apart; what is wrong with one is told without its password.

    etcd://user:password@h1:2379,h2:2379,h3:2379/prefix?timeout_s=2
    etcds://h1:2379?ca=ca.pem&cert=node.pem&key=node.key

Without a port 2379, without a prefix `holdfast`. `etcds`, or any of the three files, asks for TLS;
without `ca` the system's authorities are believed.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from holdfast.core.errors import Unavailable

PORT: Final = 2379
PREFIX: Final = "holdfast"
CONNECT_S: Final = 1.0
TIMEOUT_S: Final = 2.0
TIMEOUT_MAX_S: Final = 60.0
ENDPOINTS_MAX: Final = 16
PREFIX_CHARS_MAX: Final = 128
_KNOWN: Final = {"prefix", "ca", "cert", "key", "timeout_s"}
_FORM: Final = "etcd://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…][/PREFIX][?ca=FILE&cert=FILE&key=FILE]"


class Credentials:
    """A user and a password that no representation shows."""

    def __init__(self, user: str, password: str) -> None:
        self.user = user
        self.password = password

    @property
    def named(self) -> str:
        """The user for people. What follows a colon in it is often a password, merged in."""
        name, colon, _ = self.user.partition(":")
        return name + ":***" * bool(colon)


class EtcdAddress(msgspec.Struct, frozen=True):
    """`endpoints` are base URLs of members; `where` names the store for people."""

    endpoints: tuple[str, ...]
    where: str
    prefix: str = PREFIX
    credentials: Credentials | None = None
    tls: ssl.SSLContext | None = None
    timeout_s: float = TIMEOUT_S


def parse_address(url: str, password: str = "") -> EtcdAddress:
    """The address in a URL; `password` stands in for one that the URL does not have.

    Raises `Unavailable` for a URL that leads nowhere, and for files that can't be read.
    """
    try:
        return _parse(url, password)
    except ValueError as error:
        raise Unavailable(f"the URL of the store: {error}. Its form is {_FORM}") from None


def _parse(url: str, password: str) -> EtcdAddress:
    parts = urlsplit(url)
    if parts.scheme not in {"etcd", "etcds"}:
        raise ValueError(f"{parts.scheme!r} is not etcd or etcds")
    query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    if unknown := sorted(query.keys() - _KNOWN):
        raise ValueError(f"no option is called {unknown[0]!r}")
    userinfo, _, hosts = parts.netloc.rpartition("@")
    places = [_place(host) for host in hosts.split(",")]
    if len(places) > ENDPOINTS_MAX:
        raise ValueError(f"{len(places)} endpoints, at most {ENDPOINTS_MAX}")
    secure = parts.scheme == "etcds" or bool({"ca", "cert", "key"} & query.keys())
    prefix = _prefix(parts, query)
    return EtcdAddress(
        endpoints=tuple(f"{'https' if secure else 'http'}://{place}" for place in places),
        where=f"etcd at {','.join(places)}/{prefix}",
        prefix=prefix,
        credentials=_credentials(userinfo, password),
        tls=_context(query) if secure else None,
        timeout_s=_timeout_s(query),
    )


def _place(host: str) -> str:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError("an endpoint has no host")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{name}:{parts.port or PORT}"


def _prefix(parts: SplitResult, query: dict[str, str]) -> str:
    prefix = query.get("prefix", "").strip("/") or parts.path.strip("/") or PREFIX
    if len(prefix) > PREFIX_CHARS_MAX or not prefix.isascii() or not prefix.isprintable():
        raise ValueError(f"a prefix has at most {PREFIX_CHARS_MAX} printable ASCII characters")
    return prefix


def _credentials(userinfo: str, password: str) -> Credentials | None:
    user, _, given = userinfo.partition(":")
    return Credentials(unquote(user), unquote(given) or password) if user else None


def _timeout_s(query: dict[str, str]) -> float:
    try:
        timeout_s = float(query.get("timeout_s", TIMEOUT_S))
    except ValueError:
        raise ValueError("timeout_s is no number") from None
    if not 0 < timeout_s <= TIMEOUT_MAX_S:
        raise ValueError(f"timeout_s is above 0 and at most {TIMEOUT_MAX_S:.0f}")
    return timeout_s


def _context(query: dict[str, str]) -> ssl.SSLContext:
    for option in ("ca", "cert", "key"):
        if option in query and not Path(query[option]).is_file():
            raise ValueError(f"{option}: there is no file {query[option]}")
    try:
        context = ssl.create_default_context(cafile=query.get("ca"))
        if "cert" in query:
            context.load_cert_chain(query["cert"], query.get("key"))
    except OSError as error:
        raise ValueError(f"the files for TLS are not what they should be: {error}") from None
    return context
