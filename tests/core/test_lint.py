"""Lint says what is probably not meant, where, and the way out; and is silent on what is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holdfast.core import lint as linting
from holdfast.core.authoring import SourceFile, lint_together, plan
from holdfast.core.errors import Problem
from holdfast.core.flagd import import_flagd
from holdfast.core.fold import after
from holdfast.core.model import Rule, Service, Setting, Subject, Targeting
from holdfast.core.secret_shapes import looks_like
from holdfast.core.state import EMPTY, ServiceState, SettingState

TODAY = "2026-11-22"
HEAD = "service: s\nowners: [me]\nattributes: {tenant: string, age: integer, beta: boolean}\n"


def findings(text: str, today: str = TODAY) -> tuple[Problem, ...]:
    planned = plan([SourceFile("s.yaml", text.encode())], {})
    assert not planned.problems
    return lint_together(planned, today)


def setting(
    rules: str, kind: str = "string", variants: str = "{x: x, y: y}", more: str = ""
) -> str:
    return (
        f"{HEAD}settings:\n  a:\n    type: {kind}\n{more}    variants: {variants}\n"
        f"    environments:\n      production:\n        default: x\n        rules:\n{rules}"
    )


def rule(text: str) -> str:
    return f"          - {{{text}}}\n"


def codes(text: str) -> list[str]:
    return [found.code for found in findings(text)]


A, B = "tenant == 'a'", "tenant in ['a', 'b']"
CASES = {
    "dead-rule": [
        rule("serve: y") + rule(f"when: \"{A}\", serve: y"),
        rule("when: 'age > 5 && age < 3', serve: y"),
        rule("when: 'true', serve: y") + rule("serve: x"),
        rule("logic: false, serve: y"),
    ],
    "shadowed-rule": [
        rule(f"when: \"{B}\", serve: y") + rule(f"when: \"{A}\", serve: x"),
        rule(f"when: \"{A}\", serve: y") + rule(f"when: \"{A}\", serve: y"),
        rule("when: beta, serve: y") + rule("when: '!beta', serve: x")
        + rule("when: 'beta == true || beta == false', serve: y"),
        rule("when: beta, split: {by: tenant, weights: {x: 1, y: 1}}")
        + rule("when: beta, split: {by: tenant, weights: {x: 1, y: 3}}"),
    ],
    "split-sum": [rule("split: {weights: {x: 50, y: 45}}")],
    "split-zero": [rule("split: {weights: {x: 100, y: 0}}")],
    "split-one": [rule("when: beta, split: {weights: {y: 3}}")],
    "undeclared-attribute": [rule('logic: {"==": [{var: tenent}, a]}, serve: y')],
}  # fmt: skip


@pytest.mark.parametrize(("code", "rules"), [(c, r) for c, many in CASES.items() for r in many])
def test_a_finding(code: str, rules: str) -> None:
    found = findings(setting(rules))
    assert [each.code for each in found] == [code]
    assert found[0].severity == "warning"
    assert found[0].file == "s.yaml"
    assert found[0].line > 3
    assert found[0].hint


@pytest.mark.parametrize(
    "rules",
    [
        rule(f'when: "{A}", serve: y') + rule(f'when: "{B}", serve: x'),
        # Who has no tenant is in no share of it, and comes to the next rule.
        rule("when: beta, split: {by: tenant, weights: {x: 1, y: 1}}")
        + rule("when: beta, serve: y"),
        rule("split: {weights: {x: 1, y: 2}}"),
        rule("split: {weights: {x: 33, y: 33}}"),
        rule("when: 'age > 5', serve: y") + rule("when: 'age > 3', serve: x"),
        rule("when: 'semver(tenant) > semver(\"1.0.0\")', serve: y") + rule("serve: x"),
    ],
)
def test_what_is_meant_is_no_finding(rules: str) -> None:
    assert codes(setting(rules)) == []


def test_a_variant_that_nobody_gets() -> None:
    text = setting(rule(f'when: "{A}", serve: y'), variants="{x: x, y: y, z: z}")
    (found,) = findings(text)
    assert (found.code, found.path) == ("unreachable-variant", "/settings/a/variants/z")
    spare = setting(rule(f'when: "{A}", serve: y'), variants="{x: x, y: y, off: z}")
    assert codes(spare) == []


def test_a_base_of_others_is_no_variant_that_nobody_gets() -> None:
    variants = "{x: {a: 1}, base: {b: 2}, y: {$extends: base, c: 3}}"
    assert codes(setting(rule(f'when: "{A}", serve: y'), "object", variants)) == []


def test_temporary_settings_past_their_date() -> None:
    text = setting(rule("when: beta, serve: y"), more='    expires: "2026-11-21"\n')
    assert codes(text) == ["expired"]
    assert findings(text, today="2026-11-21") == ()


def test_a_setting_silences_what_it_knows_of() -> None:
    more = '    expires: "2020-01-01"\n    metadata: {lint.ignore: "split-one, expired"}\n'
    assert codes(setting(rule("when: beta, split: {weights: {y: 3}}"), more=more)) == []
    other = '    expires: "2020-01-01"\n    metadata: {lint.ignore: "split-one"}\n'
    text = setting(rule("when: beta, split: {weights: {y: 3}}"), more=other)
    assert codes(text) == ["expired"]


def test_nobody_answers_for_it() -> None:
    (found,) = findings("service: s\nsettings: {}\n")
    assert found.code == "no-owner"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("AKIAIOSFODNN7EXAMPLE", ()),
        ("ghp_" + "a1B2" * 9, ()),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", ()),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N", ()),
        ("postgres://admin:hunter22@db.example/x", ()),
        ("Server=db;User=sa;Password=correcthorse;", ()),
        ("q83vEjRWeJCrze8BI0VniQ", ("clientSecret",)),
        ("9f86d081884c7d659a2feaa0c55ad015", ("api-key",)),
    ],
)
def test_secrets_by_their_shape_or_their_name(text: str, names: tuple[str, ...]) -> None:
    assert looks_like(text, names)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("https://login.example.com/oauth2/token", ("token-endpoint",)),
        ("vault://calling/tokens/v2", ("secret",)),
        ("9f86d081884c7d659a2feaa0c55ad015", ("digest",)),
        ("correct horse battery staple", ("password",)),
        ("calling-signing-key-2026", ("signing-key",)),
        ("${DB_PASSWORD}", ("password",)),
        ("postgres://${USER}:${PASSWORD}@db.example/x", ()),
        ("passwordless", ("passwordless",)),
        ("ES256", ("token-signing",)),
        ("00000000-0000-0000-0000-000000000000", ("token",)),
    ],
)
def test_what_is_no_secret(text: str, names: tuple[str, ...]) -> None:
    assert not looks_like(text, names)


def test_a_secret_is_never_told() -> None:
    text = setting(
        rule("when: beta, serve: y"), "object",
        "{x: {password: q83vEjRWeJCrze8BI0VniQ}, y: {p: AKIAIOSFODNN7EXAMPLE}}",
    )  # fmt: skip
    found = findings(text)
    assert [each.code for each in found] == ["secret", "secret"]
    told = "".join(map(str, found))
    assert "q83vEjRWeJ" not in told
    assert "AKIAIOSF" not in told


def test_long_values_are_bounded_work() -> None:
    assert looks_like("a" * 10_000_000) == ""


def test_what_no_sampled_request_carried() -> None:
    text = setting(rule("when: 'age > 3', serve: y"))
    state = after(EMPTY, plan([SourceFile("s.yaml", text.encode())], {}).edits)
    subject = Subject("production", "s")

    def seen(requests: int, *names: str) -> list[str]:
        facts = {subject: linting.Seen(requests, frozenset(names))}
        return [f.code for f in linting.lint(state.services, today=TODAY, seen=facts)]

    assert seen(5_000, "tenant") == ["unseen-attribute"]
    assert seen(5_000, "tenant", "age") == []
    assert seen(10, "tenant") == []


def test_only_what_is_asked_for() -> None:
    text = setting(rule("when: 'age > 5 && age < 3', serve: y"))
    state = after(EMPTY, plan([SourceFile("s.yaml", text.encode())], {}).edits)
    assert linting.lint(state.services, today=TODAY, only={("s", "b")}) == []
    assert linting.lint(state.services, today=TODAY, environment="staging") == []
    assert len(linting.lint(state.services, today=TODAY, only={("s", "a")})) == 1


def test_every_finding_has_a_code_of_the_list() -> None:
    assert set(CASES) <= set(linting.CODES)


# Precision: what is there for others to learn from raises no alarm.

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_examples_have_no_findings() -> None:
    files = sorted((EXAMPLES / "contoso").glob("*.yaml"))
    planned = plan([SourceFile(each.name, each.read_bytes()) for each in files], {})
    assert len(planned.compiled) == 6
    assert lint_together(planned, TODAY) == ()


def test_flagd_files_have_no_findings_but_their_owner() -> None:
    found: list[Any] = []
    for file in sorted(EXAMPLES.glob("*.flagd.json")):
        imported = import_flagd(
            file.read_bytes(), file.name, service="demo", environment="production",
            services={}, lenient=True,
        )  # fmt: skip
        found += linting.lint(after(EMPTY, imported.edits).services, today=TODAY)
    assert {each.code for each in found} <= {"no-owner"}


def test_the_work_of_all_settings_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = tuple(
        Rule(serve="on", logic={"==": [{"var": "tenant"}, str(number)]}) for number in range(20)
    )
    one = Setting(
        "boolean", {"on": True, "off": False}, {"production": Targeting("off", rules=rules)}
    )
    service = ServiceState(
        Service(owners=("ann",)), {f"k{number}": SettingState(one) for number in range(20)}
    )
    assert linting.lint({"shop": service}, today="2026-01-01") == []
    monkeypatch.setattr(linting, "STEPS_MAX", 1_000)
    (finding,) = linting.lint({"shop": service}, today="2026-01-01")
    assert (finding.code, "too much work" in finding.message) == ("more", True)
