"""Names that are typed: checked before they go into a URL, and told what is wrong with them."""

from __future__ import annotations

import re
from typing import Any, Final

import click

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class _Name(click.ParamType[str]):
    """What can name `what`, by the same rules as in files."""

    def __init__(self, name: str, what: str) -> None:
        self.name = name
        self._what = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from holdfast.core.content import check_key, check_name

        problems = check_key(value) if self.name == "key" else check_name(value, self._what)
        for problem in problems:
            self.fail(f"{problem.message}: {self._hint(value) or problem.hint}.", param, ctx)
        return str(value)

    def _hint(self, value: str) -> str:
        service, slash, key = value.partition("/")
        if self.name == "service" and slash and service and key:
            return f"a setting's key is a word of its own, `{service} {key}`"
        return ""


class _Id(click.ParamType[str]):
    """An id that Holdfast gave: of a change, a rollout, a token."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not _ID.fullmatch(value):
            message = f"`{value[:64]}` is no id: they have letters, digits, dots and dashes."
            self.fail(message, param, ctx)
        return str(value)


SERVICE_NAME: Final = _Name("service", "a service")
ENVIRONMENT_NAME: Final = _Name("environment", "an environment")
CONSUMER_NAME: Final = _Name("consumer", "a consumer")
KEY: Final = _Name("key", "a setting")
ID: Final = _Id()
