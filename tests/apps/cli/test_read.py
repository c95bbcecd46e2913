"""`get` and `explain`: what is read from the command line."""

from __future__ import annotations

import click
import pytest

from holdfast.apps.cli.read import context_of


def test_a_context_from_json_and_pairs() -> None:
    pairs = ("tenant=contoso", "n=3", "beta=true", 'roles=["a"]', "version=1.6.0", "q==")
    assert context_of('{"ring": "r0", "n": 1}', pairs) == {
        "ring": "r0",
        "tenant": "contoso",
        "n": 3,
        "beta": True,
        "roles": ["a"],
        "version": "1.6.0",
        "q": "=",
    }


@pytest.mark.parametrize(
    ("text", "pairs"), [("[1]", ()), ("{", ()), (None, ("tenant",)), (None, ("=x",))]
)
def test_a_bad_context_is_wrong_use(text: str | None, pairs: tuple[str, ...]) -> None:
    with pytest.raises(click.BadParameter):
        context_of(text, pairs)
