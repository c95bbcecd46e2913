"""A running control plane with an admin's client, and the documents that tests commit to it."""

from __future__ import annotations

from typing import Any

from litestar.testing import TestClient

from holdfast.apps.asgi import App
from holdfast.apps.control.plane import Control

SHOP = """\
service: shop
owners: [shop-oncall@example.com]
attributes: {tenant: string}
settings:
  banner:
    type: boolean
    description: the banner of the season
    variants: {shown: true, hidden: false}
    environments:
      production:
        default: hidden
        rules:
          - {name: pilot tenants, when: tenant == "contoso", serve: shown}
      staging: {default: shown}
  tiles:
    type: integer
    schema: {minimum: 1, maximum: 49}
    variants: {few: 9, many: 49}
    environments:
      production: {default: few}
segments:
  pilots: {by: tenant, members: [contoso, fabrikam]}
"""

MAIL = """\
service: mail
settings:
  quota:
    type: object
    variants: {small: {mb: 100}, large: {mb: 1000}}
    environments: {production: {default: small}}
"""


class Clock:
    """Unix seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Plane:
    """A running control plane, an admin's client, and what tests ask for again and again."""

    def __init__(self, control: Control, app: App, client: TestClient[Any]) -> None:
        self.control = control
        self.app = app
        self.client = client
        self.admin = control.first_token("test admin")
        client.headers["Authorization"] = f"Bearer {self.admin}"
        for environment in ("production", "staging"):
            self.ok("PUT", f"/v1/environments/{environment}", json={})

    def ok(self, method: str, path: str, **call: Any) -> Any:
        """The decoded answer of a call that must succeed."""
        answer = self.client.request(method, path, **call)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def refused(self, method: str, path: str, status: int, **call: Any) -> Any:
        """The error of a call that must be refused so, with nothing changed by it."""
        before = self.head()
        answer = self.client.request(method, path, **call)
        assert answer.status_code == status, answer.text
        assert self.head() == before
        return answer.json()["error"]

    def head(self) -> dict[str, Any]:
        head: dict[str, Any] = self.ok("GET", "/v1/head")
        return head

    def commit(self, *texts: str, **more: Any) -> dict[str, Any]:
        body = {"documents": documents(*texts), "reason": "a test", **more}
        committed: dict[str, Any] = self.ok("POST", "/v1/commits", json=body)
        return committed

    def token(self, *scopes: dict[str, Any], expires_s: int = 0, name: str = "test") -> str:
        body = {"name": name, "scopes": list(scopes), "expires_s": expires_s}
        text: str = self.ok("POST", "/v1/tokens", json=body)["token"]
        return text

    def let_delete(self) -> None:
        """From here on one person may delete anything."""
        for environment in ("production", "staging"):
            body = {"policy": {"deletion_percent": 100}}
            self.ok("PUT", f"/v1/environments/{environment}/policy", json=body)

    def bearing(self, token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}


def documents(*texts: str) -> list[dict[str, str]]:
    return [{"file": f"{index}.yaml", "text": text} for index, text in enumerate(texts)]
