"""A real etcd of one or three members on loopback; it is asked, killed, stopped, and ends with us.

    with EtcdCluster(directory, members=3) as etcd:
        store = EtcdStore(etcd.url)
        etcd.leader().kill()
        etcd.wait_healthy()             # the rest has a leader again, and answers
        etcd.members[0].stop()          # SIGSTOP; cont() lets it go on

Data of each member lies under `directory`, and is there again when it is started again. `through`
maps members to ports by which the others reach them: fault proxies, made before the cluster.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from holdfast.apps.defaults import LOOPBACK
from holdfast.core.errors import Unavailable
from holdfast.gameday.processes import LOG_TAIL_CHARS, STOP_S, free_ports, until, until_or_not

HEALTHY_S: Final = 30.0
STARTS_MAX: Final = 3
ASK_S: Final = 1.0
ROOT: Final = "root"
"""Who may do everything, once a cluster asks for passwords."""
_spawner = ThreadPoolExecutor(1, "etcd-starter")
"""Linux ends a child with the *thread* that started it: this one lives as long as we do."""


class Tls(msgspec.Struct, frozen=True):
    """Files in PEM. The certificate is for 127.0.0.1, as a server's and as a client's."""

    ca: Path
    cert: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.cert, self.key)
        return context


class EtcdMember:
    """One process of a cluster. `port` is for its clients."""

    def __init__(
        self, name: str, port: int, options: Sequence[str], log: Path, tls: Tls | None
    ) -> None:
        self.name = name
        self.port = port
        self._options = options
        self._log = log
        self._base = f"{'https' if tls else 'http'}://{LOOPBACK}:{port}"
        self._context = tls.context() if tls else None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def start(self) -> None:
        """Start it, with the data that it had; it must not be running."""
        self._stopped = False
        self._process = _spawner.submit(self._spawn).result()

    def _spawn(self) -> subprocess.Popen[bytes]:
        leash = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
        with self._log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603  our own command
                (*leash, "etcd", "--name", self.name, *self._options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._log.parent,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def running(self) -> bool:
        """Alive, and not stopped."""
        return self.alive and not self._stopped

    def stop(self) -> None:
        """SIGSTOP, in effect when this returns: its connections stay, and nothing is answered."""
        self._signal(signal.SIGSTOP)
        self._stopped = True
        until(lambda: self._states() <= {"T", "Z"}, f"the stop of {self.name}", STOP_S)

    def cont(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)
        self._stopped = False

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, and wait until it is gone; nothing happens if it is gone already."""
        self._signal(number)
        process = self._process
        if process is None:
            return
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def ask(self, path: str, body: Any = None) -> Any:
        """The JSON that it answers; none when it does not. `body` is posted, without it: GET."""
        content = None if body is None else msgspec.json.encode(body)
        request = urllib.request.Request(self._base + path, content)  # noqa: S310  loopback
        with (
            contextlib.suppress(OSError, msgspec.MsgspecError),
            urllib.request.urlopen(request, timeout=ASK_S, context=self._context) as answer,  # noqa: S310
        ):
            return msgspec.json.decode(answer.read())
        return None

    @property
    def healthy(self) -> bool:
        """Whether it has a leader, and answers by a quorum."""
        return self.running and (self.ask("/health") or {}).get("health") == "true"

    def tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-LOG_TAIL_CHARS:]

    def _states(self) -> set[str]:
        """The states of its threads, in Linux's letters; none elsewhere, or when it is gone."""
        if self._process is None:
            return set()
        states = set()
        for task in Path(f"/proc/{self._process.pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):  # a thread that ended
                states.add(task.read_text().rpartition(")")[2].split()[0])
        return states

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)  # one that is gone already gets none


class EtcdCluster:
    """See the module. `password`: that of `ROOT`, and none gets in without one from then on."""

    def __init__(  # noqa: PLR0913 - what a drill may want otherwise
        self,
        directory: Path,
        members: int = 1,
        *,
        tls: Tls | None = None,
        password: str = "",
        through: Mapping[int, int] | None = None,
        peer_ports: Sequence[int] = (),
        options: Sequence[str] = (),
    ) -> None:
        """`through` needs `peer_ports`: where members listen, and what the proxies lead to.

        `options` are etcd's own, for each member.
        """
        self._directory = directory
        self._tls = tls
        self._password = password
        self._through = through or {}
        self._peer_ports = peer_ports
        self._options = options
        self.members = self._planned(members)

    def _planned(self, count: int) -> list[EtcdMember]:
        """Members on ports that are free now."""
        ports = free_ports(count * 2)
        listening = self._peer_ports or ports[count:]
        reached = [self._through.get(number, port) for number, port in enumerate(listening)]
        scheme = "https" if self._tls else "http"
        peers = {f"n{i}": f"{scheme}://{LOOPBACK}:{port}" for i, port in enumerate(reached)}
        self._directory.mkdir(parents=True, exist_ok=True)
        members = []
        for number, (name, peer) in enumerate(peers.items()):
            client = f"{scheme}://{LOOPBACK}:{ports[number]}"
            settings = {
                "data-dir": str(self._directory / name),
                "listen-client-urls": client,
                "advertise-client-urls": client,
                "listen-peer-urls": f"{scheme}://{LOOPBACK}:{listening[number]}",
                "initial-advertise-peer-urls": peer,
                "initial-cluster": ",".join(f"{each}={url}" for each, url in peers.items()),
                "initial-cluster-token": self._directory.name,
                "logger": "zap",
                "log-level": "error",
                **_tls_options(self._tls),
            }
            told = [f"--{option}={value}" for option, value in settings.items()]
            log = self._directory / f"{name}.log"
            options = [*told, *self._options]
            members.append(EtcdMember(name, ports[number], options, log, self._tls))
        return members

    @property
    def endpoints(self) -> list[str]:
        """`host:port` of each member, for clients."""
        return [f"{LOOPBACK}:{member.port}" for member in self.members]

    @property
    def url(self) -> str:
        """The store's URL, with the password and the files that it asks for."""
        return self.url_of(self.endpoints)

    def url_of(self, endpoints: Sequence[str]) -> str:
        """The same by other endpoints: some of them, or proxies before them."""
        user = f"{ROOT}:{self._password}@" if self._password else ""
        tls = self._tls
        files = f"?ca={tls.ca}&cert={tls.cert}&key={tls.key}" if tls else ""
        return f"{'etcds' if tls else 'etcd'}://{user}{','.join(endpoints)}{files}"

    def __enter__(self) -> Self:
        try:
            self._start()
            if self._password:
                self._ask_for_passwords()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _start(self) -> None:
        """Start all. Somebody else may have taken a port since it was free: then once more."""
        for attempt in range(STARTS_MAX):
            for member in self.members:
                member.start()
            try:
                self.wait_healthy()
            except Unavailable:
                if attempt + 1 == STARTS_MAX or all(member.alive for member in self.members):
                    raise
                self._end()
                for member in self.members:
                    shutil.rmtree(self._directory / member.name, ignore_errors=True)
                self.members = self._planned(len(self.members))
            else:
                return

    def wait_healthy(self, within_s: float = HEALTHY_S) -> None:
        """Until every member that runs answers by a quorum. Raises `Unavailable`, and at once when
        one of them ended.
        """
        running = [member for member in self.members if member.running]
        until_or_not(
            lambda: (
                all(each.healthy for each in running) or not all(each.alive for each in running)
            ),
            within_s,
        )
        if not running or not all(member.healthy for member in running):
            sick = [member for member in self.members if not member.healthy]
            tails = "\n".join(f"{member.name}: {member.tail()[-300:]}" for member in sick)
            raise Unavailable(f"etcd did not become healthy within {within_s:.0f} s\n{tails}")

    def leader(self, within_s: float = HEALTHY_S) -> EtcdMember:
        """Who leads now, as soon as there is one. Raises `Unavailable`."""
        found: EtcdMember = until(self._leader, "a leader of etcd", within_s)
        return found

    def followers(self) -> list[EtcdMember]:
        """The members that run and do not lead now."""
        leader = self.leader()
        return [member for member in self.members if member.running and member is not leader]

    def _leader(self) -> EtcdMember | None:
        led: dict[str, list[int]] = {}
        by_id: dict[str, EtcdMember] = {}
        for member in self.members:
            said = (member.running and member.ask("/v3/maintenance/status", {})) or {}
            by_id[said.get("header", {}).get("member_id", "")] = member
            led.setdefault(said.get("leader", ""), []).append(int(said.get("raftTerm", 0)))
        led.pop("", None)
        for leader, terms in led.items():
            if leader in by_id and len(terms) > len(self.members) // 2 and len(set(terms)) == 1:
                return by_id[leader]
        return None

    def _ask_for_passwords(self) -> None:
        member = self.members[0]
        steps: tuple[tuple[str, Mapping[str, str]], ...] = (
            ("user/add", {"name": ROOT, "password": self._password}),
            ("role/add", {"name": ROOT}),
            ("user/grant", {"user": ROOT, "role": ROOT}),
            ("enable", {}),
        )
        for step, body in steps:
            if member.ask(f"/v3/auth/{step}", body) is None:
                raise Unavailable(f"etcd refused auth/{step}: {member.tail()[-300:]}")

    def _end(self) -> None:
        for member in self.members:
            if member.alive:
                member.kill()


def _tls_options(tls: Tls | None) -> dict[str, str]:
    if tls is None:
        return {}
    files = {"cert-file": tls.cert, "key-file": tls.key, "trusted-ca-file": tls.ca}
    return {
        **{option: str(file) for option, file in files.items()},
        **{f"peer-{option}": str(file) for option, file in files.items()},
        "client-cert-auth": "true",
        "peer-client-cert-auth": "true",
    }
