"""Connections to one PostgreSQL, on which everything is bounded: their number, and each wait.

    postgresql://USER:PASSWORD@H1:5432,H2:5432/DATABASE?schema=holdfast&timeout_s=2&ca=FILE

What is not ours in the query (`schema`, `timeout_s`, `ca`, `cert`, `key`) is libpq's: `sslmode` and
so on. Of several hosts the first one that takes writes is used, so that what is read is the newest.

A wait ends by this process's own clock, whatever the server or the network does: a server that was
stopped takes connections and statements, and answers none. The server has bounds of its own beside
(for locks, for a transaction whose client fell silent), so that nobody who stopped holds up others.

Every error leaves as `Damaged` or `Unavailable`, with what, where and the way out, and without the
password. Whether a transaction stands whose answer was lost is not guessed: `Unavailable` says so.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import select
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from holdfast.core.errors import Damaged, HoldfastError, Unavailable

TIMEOUT_S: Final = 2.0
CONNECTIONS_MAX: Final = 8
BYTES_PER_S: Final = 8 * 1024 * 1024
"""A large body gets time by this rate on top."""
SCHEMA: Final = "holdfast"
_BACKSTOP_S: Final = 30
"""How much later the server gives a statement up by itself, whose client is still there."""
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_OWN: Final = frozenset({"schema", "timeout_s", "ca", "cert", "key"})
_FILES: Final = {"ca": "sslrootcert", "cert": "sslcert", "key": "sslkey"}
_DAMAGE: Final = (errors.IntegrityError, errors.UndefinedTable, errors.UndefinedColumn)
_DAMAGE_CLASS: Final = "XX"
_GONE_CLASSES: Final = frozenset({"08", "57"})
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
_CONNECT: Final = (
    "Does it run, does it take writes, and do host, user, password and certificates fit it?"
)
_RESTORE: Final = (
    "Nothing of it is served. Stop all nodes that use it, keep it for a look, and restore a backup"
    " into another schema"
)
_LOST: Final = "if this was a write, whether it stands is not known: read what is there"

T = TypeVar("T")
Rows: TypeAlias = list[tuple[Any, ...]]
Arguments: TypeAlias = Sequence[Any] | Mapping[str, Any]


class Late(Exception):
    """The other side did not answer in time."""


class Line(psycopg.Connection[tuple[Any, ...]]):
    """One connection. Nothing waits on it past `until_s`, by the monotonic clock."""

    connect_s = TIMEOUT_S
    until_s = 0.0

    def expect(self, body_bytes: int) -> None:
        """Give so many bytes the time that they take."""
        self.until_s += body_bytes / BYTES_PER_S

    def wait(self, gen: Any, *args: Any, **more: Any) -> Any:
        try:
            return super().wait(_until(gen, self.until_s), *args, **more)
        except Late:
            self.close()
            raise

    @classmethod
    def _connect_gen(cls, *args: Any, **more: Any) -> Any:
        """One host's turn. Psycopg itself waits two seconds and more for each."""
        return _until(super()._connect_gen(*args, **more), time.monotonic() + cls.connect_s)


class PostgresLine:
    """The connections. Safe for threads; not to be carried over a fork, where calls are refused.

    `busy` counts calls that found all connections taken for too long.
    """

    def __init__(self, url: str, *, connections_max: int = CONNECTIONS_MAX) -> None:
        own, self._parameters = _apart(url)
        self.schema = own.get("schema", SCHEMA)
        if not _SCHEMA.fullmatch(self.schema):
            raise Unavailable(f"{self.schema!r} is no schema: small letters, digits and _")
        self.timeout_s = float(own.get("timeout_s", TIMEOUT_S))
        self.name = _name(self._parameters)
        self.busy = 0
        self._process = os.getpid()
        self._closed = False
        self._places = threading.BoundedSemaphore(connections_max)
        self._idle: queue.LifoQueue[Line] = queue.LifoQueue(connections_max)
        self._kind: type[Line] = type("Line", (Line,), {"connect_s": self.timeout_s / 2})
        self._settle()

    @property
    def hosts(self) -> list[str]:
        """`HOST:PORT` of each server that the URL names."""
        hosts = str(self._parameters.get("host", "")).split(",")
        ports = str(self._parameters.get("port", "5432")).split(",")
        ports += ports[-1:] * (len(hosts) - len(ports))
        return [f"{host}:{port}" for host, port in zip(hosts, ports, strict=False)]

    def rows(self, query: str, arguments: Arguments = (), body_bytes: int = 0) -> Rows:
        """What one statement gives, a transaction by itself: all of it is done, or nothing."""
        with self.held(self.timeout_s) as line:
            line.expect(body_bytes)
            cursor = line.execute(query.encode(), arguments, binary=True)
            return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def transaction(self, begin: str = "BEGIN", lock: str = "") -> Iterator[Line]:
        """Several statements that are done together, durably at the end, or not at all.

        Of those with the same `lock` one is done after the other.
        """
        with self.held(self.timeout_s) as line:
            line.execute(begin.encode())
            if lock:
                line.execute(_LOCK, (f"holdfast {self.schema} {lock}",))
            yield line
            line.execute(b"COMMIT")

    @contextlib.contextmanager
    def held(self, budget_s: float) -> Iterator[Line]:
        """One of the connections, for at most `budget_s`."""
        self._guard()
        if not self._places.acquire(timeout=self.timeout_s):
            self.busy += 1
            raise Unavailable(f"{self.name}: all connections were busy for {self.timeout_s:g} s")
        try:
            with self.translated():
                line = self._taken() or self._connected(self._parameters)
                try:
                    line.until_s = time.monotonic() + budget_s
                    yield line
                finally:
                    self._put_back(line)
        finally:
            self._places.release()

    @contextlib.contextmanager
    def apart(self, budget_s: float, **parameters: str) -> Iterator[Line]:
        """A connection of its own, closed at the end; `parameters` in the place of the URL's."""
        line = self.opened(budget_s, **parameters)
        try:
            with self.translated():
                yield line
        finally:
            line.close()

    def opened(self, budget_s: float, **parameters: str) -> Line:
        """The same, for who closes it, and who calls it within `translated`."""
        self._guard()
        line = self._connected(self._parameters | parameters)
        line.until_s = time.monotonic() + budget_s
        return line

    def damaged(self, what: str, restore: str = _RESTORE) -> Damaged:
        """The error for content that is not what was written, with the way out."""
        return Damaged(f"{self.name}, schema {self.schema}, is damaged: {what}. {restore}")

    def forget(self) -> None:
        """Close the connections that nobody uses now: the next ones find their server anew."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def close(self) -> None:
        """Close all connections; in a forked child do nothing, they are the parent's."""
        if os.getpid() == self._process:
            self._closed = True
            self.forget()

    def _settle(self) -> None:
        """What every connection is told, unless the URL says otherwise."""
        timeout_ms = int(self.timeout_s * 1000)
        given = self._parameters
        usual = {
            "application_name": "holdfast",
            "gssencmode": "disable",
            "keepalives_idle": "10",
            "keepalives_interval": "3",
            "keepalives_count": "3",
            "target_session_attrs": "read-write",
            "tcp_user_timeout": str(timeout_ms),
        }
        settings = {
            "client_connection_check_interval": timeout_ms,
            "default_transaction_isolation": "read\\ committed",
            "idle_in_transaction_session_timeout": timeout_ms,
            "lock_timeout": timeout_ms * 3 // 4,  # so that "nothing was done" comes in time
            "plan_cache_mode": "force_generic_plan",  # each statement has one plan: half its cost
            "search_path": self.schema,
            "statement_timeout": timeout_ms + _BACKSTOP_S * 1000,
            "synchronous_commit": "on",
        }
        told = " ".join(f"-c {name}={value}" for name, value in settings.items())
        options = f"{given.get('options', '')} {told}".strip()
        self._parameters = usual | given | {"options": options, "client_encoding": "UTF8"}

    def _connected(self, parameters: dict[str, Any]) -> Line:
        try:
            return self._kind.connect(**parameters, autocommit=True)
        except (psycopg.Error, Late, OSError) as error:
            said = _told(_said(error), str(parameters.get("user", "")))
            raise Unavailable(f"{self.name}: {said}. {_CONNECT}") from None

    def _taken(self) -> Line | None:
        """One that is idle, and from which nothing is to be read: that would be its end."""
        while True:
            try:
                line = self._idle.get_nowait()
            except queue.Empty:
                return None
            if not line.closed and not _readable(line.fileno()):
                return line
            line.close()

    def _put_back(self, line: Line) -> None:
        if not line.closed and line.info.transaction_status != TransactionStatus.IDLE:
            with contextlib.suppress(psycopg.Error, Late):  # what broke it is on its way already
                line.execute(b"ROLLBACK")
        if line.closed or line.info.transaction_status != TransactionStatus.IDLE:
            line.close()
            self.forget()  # the others go the same way: one wait is enough
            return
        self._idle.put_nowait(line)
        if self._closed:  # perhaps since this one was taken
            self.forget()

    def _guard(self) -> None:
        if os.getpid() != self._process:
            raise Unavailable(f"{self.name} was opened before a fork: open it anew in the child")
        if self._closed:
            raise Unavailable(f"{self.name} is closed")

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Errors of psycopg as errors of `core.errors`."""
        try:
            yield
        except HoldfastError:
            raise
        except errors.ReadOnlySqlTransaction as error:
            self.forget()
            raise Unavailable(f"{self.name} takes no writes any more: {_said(error)}") from None
        except psycopg.Error as error:
            if isinstance(error, _DAMAGE) or (error.sqlstate or "").startswith(_DAMAGE_CLASS):
                raise self.damaged(_said(error)) from None
            raise Unavailable(f"{self.name}: {_said(error)} ({_outcome(error)})") from None
        except (Late, OSError) as error:
            raise Unavailable(f"{self.name}: {_said(error)} ({_LOST})") from None


def _until(gen: Generator[Any, Any, T], until_s: float) -> Generator[Any, Any, T]:
    """`gen`, ended by `Late` at its time: who drives it comes by ten times a second at least."""
    with contextlib.closing(gen):
        try:
            wish = next(gen)
            while True:
                ready = yield wish
                if not ready and time.monotonic() > until_s:
                    raise Late("no answer in time")
                wish = gen.send(ready)
        except StopIteration as end:
            answer: T = end.value
            return answer


def _apart(url: str) -> tuple[dict[str, str], dict[str, Any]]:
    """What is ours in the URL, and libpq's parameters. Raises `Unavailable`, quoting nothing."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    own = {name: value for name, value in query if name in _OWN}
    rest = urlencode([one for one in query if one[0] not in _OWN])
    try:
        parameters: dict[str, Any] = conninfo_to_dict(urlunsplit(parts._replace(query=rest)))
    except psycopg.Error:
        message = "the store's URL holds something that libpq does not know: postgresql://…?"
        raise Unavailable(message + "&".join(name for name, _ in query)) from None
    files = {_FILES[name]: value for name, value in own.items() if name in _FILES}
    if "ca" in own:
        files["sslmode"] = "verify-full"
    return own, files | parameters


def _name(parameters: dict[str, Any]) -> str:
    host, port = parameters.get("host", ""), parameters.get("port", "5432")
    return f"PostgreSQL at {host} (port {port}), database {parameters.get('dbname', '')}"


def _said(error: BaseException) -> str:
    """One line, of what the server or the network said."""
    lines = str(error).splitlines()
    if isinstance(error, psycopg.Error) and error.diag.message_hint:
        lines.append(error.diag.message_hint)
    return "; ".join(line.strip() for line in lines if line.strip())


def _told(said: str, user: str) -> str:
    """What a server said, which names the user, perhaps cut: what follows a colon in that is often
    a password, merged in."""
    name, colon, _ = user.partition(":")
    return (
        re.sub(re.escape(f'"{name}:') + '.*"', lambda _: f'"{name}:***"', said) if colon else said
    )


def _outcome(error: psycopg.Error) -> str:
    """A statement that the server itself refused was undone, unless it went away over it."""
    refused = error.sqlstate is not None and error.sqlstate[:2] not in _GONE_CLASSES
    return "nothing was written" if refused else _LOST


def _readable(descriptor: int) -> bool:
    watched = select.poll()
    watched.register(descriptor, select.POLLIN)
    return bool(watched.poll(0))
