"""What drills of overload share: a service whose bulk answers are costly, and callers of their own.

    callers = Callers(fleet)             # publishes the service
    load = Load(url, [callers.bulk("flood")], rate, …)

A bulk read names the answer that it has, so that the edge works and hardly anything is sent: what
is measured is not the line.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from holdfast.core.errors import Unavailable
from holdfast.gameday.fleet import ENVIRONMENT, Fleet
from holdfast.gameday.load import Kind, Load
from holdfast.gameday.processes import Answered, ask, until

WIDE: Final = "wide"
SETTINGS: Final = 20
STEPS: Final = 24
"""Of each setting: some 0.1 ms, 2 ms for all of them."""
CONTEXT: Final = {"targetingKey": "u1", "tenant": "contoso", "ring": "general", "user": "ada"}
CALIBRATION_S: Final = 1.0
END_S: Final = 5.0
ROUNDS_MAX: Final = 6
BETTER: Final = 1.15
CALIBRATION_RATE: Final = 8_000.0
READY_S: Final = 60.0

_BODY: Final = msgspec.json.encode({"context": CONTEXT})


def wide() -> str:
    """The document of the costly service: each of its settings walks through a list."""
    settings = {
        f"wide-{number}": {
            "type": "integer",
            "variants": {"few": 9, "many": 49},
            "environments": {
                ENVIRONMENT: {
                    "default": "few",
                    "rules": [{"logic": _walk(number), "serve": "many"}],
                }
            },
        }
        for number in range(SETTINGS)
    }
    document = {
        "service": WIDE,
        "owners": ["gameday@example.com"],
        "attributes": {"user": "string"},
        "settings": settings,
    }
    return msgspec.json.encode(document).decode()


def _walk(number: int) -> dict[str, Any]:
    """A condition that nobody meets, found out one by one."""
    members = [f"nobody-{number}-{each}" for each in range(STEPS)]
    return {"some": [members, {"==": [{"var": ""}, "ada"]}]}


class Callers:
    """Tokens by name, issued when they are first asked for; the edges must follow `_access`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._tokens: dict[str, str] = {}
        self._etags: dict[str, str] = {}
        fleet.commit({"wide.yaml": wide()}, "a costly service")

    def expect(self, *names: str) -> None:
        """Issue the tokens of these, and wait until all edges know them and the service."""
        for name in names:
            self._issue(name)
        for edge, url in self._fleet.edge_urls.items():
            for name in names:
                until(
                    lambda u=url, n=name: self._answer(u, n).status == 200,  # type: ignore[misc]
                    f"{name} at {edge}",
                    READY_S,
                )

    def headers(self, name: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self._tokens[name]}"}

    def single(self, name: str, *, weight: float = 1.0, retries: int = 0) -> Kind:
        """One setting of `shop`: cheap."""
        path = f"/{ENVIRONMENT}/shop/ofrep/v1/evaluate/flags/checkout"
        return self._kind(name, "POST", path, _BODY, weight=weight, retries=retries)

    def bulk(
        self,
        name: str,
        url: str,
        *,
        service: str = WIDE,
        weight: float = 1.0,
        retries: int = 0,
    ) -> Kind:
        """All settings of a service, the costly one, which the caller has already."""
        path = f"/{ENVIRONMENT}/{service}/ofrep/v1/evaluate/flags"
        answered = self._answer(url, name, service)
        more = {"if-none-match": answered.headers.get("etag", "")}
        return self._kind(name, "POST", path, _BODY, more, weight=weight, retries=retries)

    def renewal(self, name: str, url: str, *, weight: float = 1.0, retries: int = 0) -> Kind:
        """What a running consumer asks: has `shop` changed?"""
        path = f"/{ENVIRONMENT}/shop/snapshot"
        token = self._tokens[name]
        etag = ask("GET", url + path, token=token).headers.get("etag", "")
        more = {"if-none-match": etag}
        return self._kind(name, "GET", path, b"", more, weight=weight, retries=retries)

    def export(self, name: str, *, weight: float = 1.0, retries: int = 0) -> Kind:
        """A whole snapshot."""
        path = f"/{ENVIRONMENT}/shared/snapshot"
        return self._kind(name, "GET", path, b"", weight=weight, retries=retries)

    def _kind(  # noqa: PLR0913  what a request is
        self,
        name: str,
        method: str,
        path: str,
        body: bytes,
        more: dict[str, str] | None = None,
        *,
        weight: float,
        retries: int,
    ) -> Kind:
        headers = {**self.headers(name), "content-type": "application/json", **(more or {})}
        return Kind(name, method, path, headers, body, weight, retries)

    def _answer(self, url: str, name: str, service: str = WIDE) -> Any:
        path = f"/{ENVIRONMENT}/{service}/ofrep/v1/evaluate/flags"
        return ask("POST", url + path, {"context": CONTEXT}, self._tokens[name])

    def _issue(self, name: str) -> None:
        scopes = [{"verbs": ["read"]}]
        found = self._fleet.api("POST", "/v1/tokens", {"name": name, "scopes": scopes})
        if found.status >= 300:
            raise Unavailable(f"no token for {name}: {found.status} {found.body}")
        self._tokens[name] = found.body["token"]


def capacity(url: str, kind: Kind) -> float:
    """Answers per second when the edge always has something to do, and no queue to speak of.

    What a new snapshot needs to be answered quickly is made where nobody waits for it, so this
    looks until it gets no better.
    """
    best = 0.0
    for _ in range(ROUNDS_MAX):
        with Load(url, [kind], CALIBRATION_RATE, 6, END_S, deadline_s=9, patience_s=9) as load:
            loaded = load.stop_after(CALIBRATION_S)
        found = loaded.kinds[kind.name].ok / loaded.took_s
        if found < BETTER * best:
            break
        best = found
    return max(best, found)


def metrics(url: str) -> str:
    """An edge's metrics; it may be too busy for a while. Raises `Unavailable`."""
    found: Answered = until(
        lambda: answered if (answered := ask("GET", f"{url}/metrics")).status == 200 else None,
        f"the metrics of {url}",
        READY_S,
        every_s=0.5,
    )
    return str(found.body)


def metric(url: str, name: str) -> float | None:
    """A sample of an edge's metrics by its whole name with labels; none when it is not told."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics(url), re.MULTILINE)
    return float(found[1]) if found else None
