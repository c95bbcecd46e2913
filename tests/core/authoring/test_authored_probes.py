"""Probes in files: read, checked, placed, and written again as they were."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from holdfast.core.authoring import compile_document, parse, render
from holdfast.core.authoring.compiling import Visible
from holdfast.core.cel import Scope
from holdfast.core.model import Probe
from holdfast.core.state import ServiceState, SettingState

FILE = """\
service: shop
settings:
  tiles:
    type: integer
    variants: {few: 9, many: 49}
    environments:
      production: {default: few}
    probes:
      - {context: {tenant: contoso}, expected: 9}
      - context: {}
        expected: null
        environments: [production]
"""


def problems(text: str) -> Iterator[tuple[str, int]]:
    parsed = parse(text.encode(), "shop.yaml")
    found = list(parsed.problems)
    if parsed.document is not None:
        found += compile_document(parsed.document, Visible(Scope({}))).problems
    return iter([(problem.code, problem.line) for problem in found])


def compiled(text: str) -> tuple[Probe, ...]:
    document = parse(text.encode(), "shop.yaml").document
    assert document is not None
    return compile_document(document, Visible(Scope({}))).settings["tiles"].probes


def test_probes_are_read() -> None:
    assert compiled(FILE) == (Probe({"tenant": "contoso"}, 9), Probe({}, None, ("production",)))
    assert not list(problems(FILE))


@pytest.mark.parametrize(
    ("old", "new", "code", "line"),
    [
        ("expected: 9", "wanted: 9", "missing-key", 9),
        ("{tenant: contoso}", "contoso", "wrong-type", 9),
        ("[production]", "[staging]", "unknown-environment", 12),
        ("[production]", "production", "wrong-type", 12),
        ("expected: 9", f"expected: {2**53}", "number-range", 9),
        ("contoso", "x" * 5_000, "too-large", 9),
    ],
)
def test_what_is_wrong_is_placed(old: str, new: str, code: str, line: int) -> None:
    assert (code, line) in list(problems(FILE.replace(old, new)))


def test_too_many_are_refused() -> None:
    many = FILE + "      - {context: {}, expected: 9}\n" * 70
    assert "too-many" in [code for code, _ in problems(many)]


def test_they_are_written_as_they_were_read() -> None:
    document = parse(FILE.encode(), "shop.yaml").document
    assert document is not None
    made = compile_document(document, Visible(Scope({})))
    settings = {key: SettingState(setting) for key, setting in made.settings.items()}
    assert compiled(render("shop", ServiceState(made.info, settings))) == compiled(FILE)


def test_an_empty_probe_changes_no_bytes() -> None:
    assert b"probes" not in msgspec.json.encode(compiled(FILE)[0])
