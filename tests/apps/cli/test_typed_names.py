"""Names on the command line: a wrong one is wrong use, and asks no server anything."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from holdfast.apps.cli import cli

NOBODY = ("--server", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("get", "demo-shop/tiles"), "a setting's key is a word of its own, `demo-shop tiles`"),
        (("get", "Demo Shop"), "lower-case letters, digits and dashes"),
        (("get", "demo-shop", "a/b"), "`a/b` can't be a setting's key"),
        (("get", "demo-shop", "tiles?x=1"), "can't be a setting's key"),
        (("explain", "..", "--service", "demo-shop"), "can't be a setting's key"),
        (("explain", "tiles", "--service", "a/b"), "can't name a service"),
        (("explain", "tiles", "-s", "shop", "-e", "a/b"), "can't name an environment"),
        (("restore", "shop", "a#b"), "can't be a setting's key"),
        (("change", "show", "../services/shop"), "is no id"),
        (("change", "drop", "a?b"), "is no id"),
        (("rollout", "show", "production/3"), "is no id"),
        (("token", "revoke", "%2e%2e"), "is no id"),
        (("contract", "show", "shop", "../web"), "can't name a consumer"),
        (("policy", "show", "lab/x"), "can't name an environment"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_can_not_be_a_name_is_told_before_anybody_is_asked(
    arguments: tuple[str, ...], told: str
) -> None:
    done = CliRunner().invoke(cli, [*arguments, *NOBODY])
    assert (done.exit_code, told in done.output) == (2, True), done.output


def test_a_name_that_can_be_one_is_asked_for() -> None:
    done = CliRunner().invoke(cli, ["get", "demo-shop", "Tiles.per_row-2", *NOBODY])
    assert "Invalid value" not in done.output
    assert done.exception is not None
