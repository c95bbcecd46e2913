"""A client of a drill, a process of its own: asks all its questions again and again, checks each
answer against the ones that are right, and writes down what it saw and when.

    python -m holdfast.gameday.client TOLD.json

As `sdk` it evaluates in this process. As `ofrep` it asks edges over HTTP and does what a load
balancer does: only edges that say they are ready are asked, the first one first, and what fails at
one is asked of the next.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from holdfast.apps.dev import end_with_parent
from holdfast.core.model import JSON
from holdfast.gameday.watching import EXAMPLES_MAX, Case, Line, Told

FAILED: Final = object()
"""In place of an answer."""
SINGLES: Final = 24
"""Cases that an OFREP client asks one by one in each look, besides all of them in bulk."""


class Watcher:
    """Asks, compares, counts."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self._cases_path = Path(told.cases)
        self._cases_at = 0
        self.cases: list[Case] = []
        self.renew()

    def renew(self) -> bool:
        """Read the cases again if they are new."""
        changed_at = self._cases_path.stat().st_mtime_ns
        if changed_at == self._cases_at:
            return False
        self.cases = msgspec.json.decode(self._cases_path.read_bytes(), type=list[Case])
        self._cases_at = changed_at
        return True

    def compare(self, given: Sequence[tuple[Case, Any, str]]) -> Line:
        """Count answers: (case, value or `FAILED`, what was seen)."""
        wrong = [one for one in given if one[1] is not FAILED and not _is_right(one[0], one[1])]
        failed = [one for one in given if one[1] is FAILED]
        if wrong and self.renew():  # published while this looked
            return self.compare(self._renewed(given))
        examples = [
            f"{case.service}/{case.key} in {_text(case.context)}: {seen}, "
            f"right: {_text(case.right)}"
            for case, _, seen in [*wrong, *failed][:EXAMPLES_MAX]
        ]
        return Line(
            time.time(), len(given), len(wrong), len(failed), examples=tuple(examples), ready=True
        )

    def _renewed(self, given: Sequence[tuple[Case, Any, str]]) -> list[tuple[Case, Any, str]]:
        """The same answers, held to what is right by now."""
        now = {_place(case): case for case in self.cases}
        return [(now.get(_place(case), case), value, seen) for case, value, seen in given]


def _place(case: Case) -> tuple[str, str, str]:
    return case.service, case.key, _text(case.context)


def _is_right(case: Case, value: JSON) -> bool:
    """Equal as JSON is: true is not 1."""
    same_kind = isinstance(value, bool)
    return any(value == one and isinstance(one, bool) is same_kind for one in case.right)


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()[:300]


def main(told: Told) -> None:
    """Until somebody ends the process."""
    end_with_parent(told.parent)
    watcher = Watcher(told)
    look = _sdk(told, watcher) if told.mode == "sdk" else _ofrep(told, watcher)
    with Path(told.out).open("ab", buffering=0) as out:
        while True:
            began = time.monotonic()
            watcher.renew()
            out.write(msgspec.json.encode(look()) + b"\n")
            time.sleep(max(0.01, told.interval_s - (time.monotonic() - began)))


def _sdk(told: Told, watcher: Watcher) -> Callable[[], Line]:
    from holdfast.sdk.client import Client

    clients = {
        service: Client(
            told.endpoints,
            told.environment,
            service,
            cache_dir=Path(told.cache_dir) / service,
            root=told.root or None,
            poll_interval_s=told.poll_interval_s,
        )
        for service in told.services
    }

    def look() -> Line:
        states = {service: client.status() for service, client in clients.items()}
        refused = {
            name: count
            for state in states.values()
            for name, count in state.counts.items()
            if name.startswith("refused_")
        }
        line = Line(time.time())
        if all(state.state != "starting" for state in states.values()):
            line = watcher.compare([_read(clients[case.service], case) for case in watcher.cases])
        return msgspec.structs.replace(
            line,
            revisions={service: state.revision for service, state in states.items()},
            upstreams={service: state.endpoint for service, state in states.items()},
            refused=refused,
            last_error=" | ".join(s.last_error for s in states.values() if s.last_error)[:500],
            cache_error=" | ".join(s.cache_error for s in states.values() if s.cache_error)[:500],
        )

    return look


def _read(client: Any, case: Case) -> tuple[Case, Any, str]:
    found = client.evaluate(case.key, case.context)
    if found.error_code is not None:
        return case, FAILED, f"{found.error_code} {found.error_message}"
    return case, found.value, f"{_text(found.value)} of revision {found.revision}"


def _ofrep(told: Told, watcher: Watcher) -> Callable[[], Line]:
    import urllib3

    pool = urllib3.PoolManager(maxsize=2, timeout=2.0, retries=False)
    turn = 0

    def post(url: str, body: Any) -> Any:
        """The decoded answer; none for what a balancer would send to the next edge."""
        try:
            answer = pool.request("POST", url, body=msgspec.json.encode(body))
        except urllib3.exceptions.HTTPError:
            return None
        return None if answer.status >= 500 else msgspec.json.decode(answer.data)

    def ready(edge: str) -> bool:
        try:
            return pool.request("GET", f"{edge}/readyz").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def look() -> Line:
        nonlocal turn
        edges = [edge for edge in told.endpoints if ready(edge)]
        asked: dict[str, int] = {}
        given: list[tuple[Case, Any, str]] = []
        for (service, text), cases in _by_context(watcher.cases).items():
            path = f"/{told.environment}/{service}/ofrep/v1/evaluate/flags"
            flags, edge = _first(edges, path, {"context": msgspec.json.decode(text)}, post)
            asked[edge] = asked.get(edge, 0) + len(cases)
            by_key = {flag.get("key"): flag for flag in (flags or {}).get("flags", ())}
            given += [_of_ofrep(case, by_key.get(case.key), edge) for case in cases]
        for case in (watcher.cases * 2)[turn : turn + SINGLES]:
            path = f"/{told.environment}/{case.service}/ofrep/v1/evaluate/flags/{case.key}"
            flag, edge = _first(edges, path, {"context": case.context}, post)
            given.append(_of_ofrep(case, flag, edge))
        turn = (turn + SINGLES) % max(1, len(watcher.cases))
        return msgspec.structs.replace(watcher.compare(given), by=asked)

    return look


def _first(
    edges: Sequence[str], path: str, body: Any, post: Callable[[str, Any], Any]
) -> tuple[Any, str]:
    for edge in edges:
        answer = post(edge + path, body)
        if answer is not None:
            return answer, edge
    return None, ""


def _of_ofrep(case: Case, flag: Any, edge: str) -> tuple[Case, Any, str]:
    if not isinstance(flag, dict) or "errorCode" in flag:
        return case, FAILED, f"{flag} from {edge or 'no edge'}"
    return case, flag.get("value"), f"{_text(flag.get('value'))} from {edge}"


def _by_context(cases: Sequence[Case]) -> dict[tuple[str, bytes], list[Case]]:
    found: dict[tuple[str, bytes], list[Case]] = {}
    for case in cases:
        found.setdefault((case.service, msgspec.json.encode(case.context)), []).append(case)
    return found


if __name__ == "__main__":
    main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Told))
