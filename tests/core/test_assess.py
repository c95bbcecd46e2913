"""The baseline: every rule can fail, passes where all is well, and is unknown without its facts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.apps.cli.assess_page import page
from holdfast.core.assess import (
    FOUND_MAX,
    ConsumerFacts,
    Facts,
    GlassFacts,
    LocalFacts,
    ServiceFacts,
    TokenFacts,
    assess,
)
from holdfast.core.assess_rules import RULES
from holdfast.core.model import Scope, Service, Setting, Targeting
from holdfast.core.policies import STANDARD, Policy
from holdfast.core.reports import Refusal
from holdfast.core.roots import Key, RootSet

NOW_S = 1_800_000_000.0
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "assess.md"


def token(name: str = "ci", *scopes: Scope, expires_s: int = int(NOW_S) + 86_400) -> TokenFacts:
    mine = scopes or (Scope(("write",), "production", "shop"),)
    return TokenFacts(f"id-{name}", name, mine, expires_s)


def setting(**more: Any) -> Setting:
    facts: dict[str, Any] = {
        "type": "integer",
        "variants": {"few": 9},
        "environments": {"production": Targeting("few")},
        "schema": {"minimum": 1},
    }
    return Setting(**{**facts, **more})


def service(**more: Setting) -> ServiceFacts:
    settings = more or {"tiles": setting()}
    return ServiceFacts(Service(owners=("ann",)), settings, ("web",))


CONSUMER = ConsumerFacts(
    consumer="c1",
    kind="edge",
    environment="production",
    service="shop",
    build="holdfast/1.4.2",
    revision=7,
    trust="proven",
    stale=False,
    silent=False,
    behind=False,
    crashes=0,
    witnesses=2,
    age_s=3.0,
    known_s=10_000.0,
)
ADMIN = Scope(("admin",))
WELL = Facts(
    now_s=NOW_S,
    server="https://control.example",
    revision=7,
    build="holdfast/1.4.0",
    loopback=False,
    encrypted=True,
    open_reads=False,
    rewritten=(),
    root=RootSet(
        version=1,
        development=False,
        roots={"r": "00"},
        keys={"k1": Key("01", ("production",)), "k2": Key("02", ("staging",))},
    ),
    environments={"production": STANDARD, "staging": Policy()},
    tokens=(token("root", ADMIN), token()),
    services={"shop": service()},
    consumers=(CONSUMER,),
    broken_glass=(),
    local=LocalFacts("/var/lib/holdfast", (), False, True, True, NOW_S - 60),
)


def but(**changed: Any) -> Facts:
    return msgspec.structs.replace(WELL, **changed)


def policy(**changed: Any) -> Facts:
    return but(environments={"production": msgspec.structs.replace(STANDARD, **changed)})


def consumer(**changed: Any) -> Facts:
    return but(consumers=(msgspec.structs.replace(CONSUMER, **changed),))


def local(**changed: Any) -> Facts:
    assert WELL.local
    return but(local=msgspec.structs.replace(WELL.local, **changed))


def root(**changed: Any) -> Facts:
    assert WELL.root
    return but(root=msgspec.structs.replace(WELL.root, **changed))


def refusal(code: str) -> Refusal:
    return Refusal(8, "d", code, "no", 1)


assert STANDARD.rollout
UNWATCHED = msgspec.structs.replace(STANDARD.rollout, gates=type(STANDARD.rollout.gates)())
ILL: Mapping[str, Facts] = {
    "approvals": policy(approvals=0),
    "rollout": policy(rollout=None),
    "fast-rollout": policy(fast=None),
    "silence-gate": policy(rollout=UNWATCHED),
    "deletion": policy(deletion_percent=100.0),
    "compatibility": policy(compatibility="NONE"),
    "change-size": policy(settings_max=0),
    "break-glass-length": policy(break_glass_s=86_400),
    "break-glass-open": but(broken_glass=(GlassFacts("production", "ann", "an outage", 6),)),
    "token-admin": but(tokens=(token("a", ADMIN), token("b", ADMIN))),
    "token-admin-expiry": but(tokens=(token("a", ADMIN, expires_s=0),)),
    "token-expiry": but(tokens=(token(expires_s=0),)),
    "token-write-everywhere": but(tokens=(token("ci", Scope(("write",))),)),
    "token-expired": but(tokens=(token(expires_s=int(NOW_S) - 1),)),
    "development-keys": root(development=True),
    "one-key": root(keys={"k": Key("01", ("*",))}),
    "roots-end": root(version=60),
    "root-key-on-server": local(root_key_here=True),
    "data-dir-open": local(open_paths=("/var/lib/holdfast/journal.db",)),
    "backup": local(backup_s=NOW_S - 200_000),
    "head-witness": local(head_witness=False),
    "owners": but(services={"shop": msgspec.structs.replace(service(), info=Service())}),
    "schemas": but(services={"shop": service(tiles=setting(schema=None))}),
    "contracts": but(services={"shop": msgspec.structs.replace(service(), contracts=())}),
    "expired-settings": but(services={"shop": service(tiles=setting(expires="2020-01-01"))}),
    "secrets": but(
        services={
            "shop": service(
                key=setting(type="string", variants={"few": "AKIA" + "ABCDEFGHIJKLMNOP"})
            )
        }
    ),
    "no-consumers": but(consumers=()),
    "stale": consumer(stale=True),
    "silent": consumer(silent=True),
    "behind": consumer(behind=True),
    "refusing": consumer(refusals=(refusal("probe"),)),
    "crashing": consumer(crashes=1),
    "old-consumers": consumer(build="holdfast/1.3.9"),
    "witness": consumer(witnesses=0),
    "rewritten": but(rewritten=("entry 4 is rewritten",)),
    "ready": but(ready="a build that departs"),
    "open-reads": but(open_reads=True),
    "plain-http": but(encrypted=False),
}


def test_an_installation_as_it_should_be_fails_no_rule() -> None:
    made = assess(WELL, RULES)
    assert [one.id for one in made.results if one.status != "passed"] == []
    assert made.worst() is None
    assert not made.fails("info")


@pytest.mark.parametrize("rule", [rule.id for rule in RULES])
def test_every_rule_can_fail_and_says_where(rule: str) -> None:
    made = {one.id: one for one in assess(ILL[rule], RULES).results}
    assert made[rule].status == "failed"
    assert made[rule].found
    assert all(each.where and each.what for each in made[rule].found)
    assert made[rule].way_out


def test_what_could_not_be_gathered_is_unknown_and_not_passed() -> None:
    nothing = Facts(now_s=NOW_S, server="http://127.0.0.1:1", revision=0, build="holdfast/1.4.0")
    made = assess(nothing, RULES)
    assert made.unknown == len(RULES) - 2
    assert {one.id for one in made.results if one.status == "passed"} == {"ready", "plain-http"}


def test_the_worst_comes_first_and_decides_the_exit_code() -> None:
    made = assess(policy(approvals=0, settings_max=0), RULES)
    assert [one.id for one in made.results[:2]] == ["approvals", "change-size"]
    assert made.failed == {"high": 1, "low": 1}
    assert made.fails("high")
    assert not made.fails("critical")


def test_an_environment_counts_as_production_by_its_name_or_when_told() -> None:
    bare = but(environments={"production-eu": Policy(), "canary": Policy(), "test": Policy()})
    named = msgspec.structs.replace(bare, production=("canary",))
    where = [
        {each.where for one in assess(facts, RULES).results if one.id == "approvals"
         for each in one.found}
        for facts in (bare, named)
    ]  # fmt: skip
    assert where == [{"production-eu"}, {"production-eu", "canary"}]


def test_places_are_bounded_and_the_rest_is_counted() -> None:
    settings = {f"k{at}": setting(schema=None) for at in range(FOUND_MAX + 5)}
    made = {one.id: one for one in assess(but(services={"s": service(**settings)}), RULES).results}
    assert (len(made["schemas"].found), made["schemas"].more) == (FOUND_MAX, 5)


def test_the_page_needs_nothing_else_and_lets_no_text_out_of_its_place() -> None:
    script = "<script>alert(1)</script>"
    facts = but(services={script: msgspec.structs.replace(service(), info=Service())})
    made = page(assess(facts, RULES))
    assert script not in made
    assert "&lt;script&gt;" in made
    assert made.startswith("<!doctype html>")
    assert not any(word in made for word in ("http://", "src=", "@import", "url("))
    assert "All hold" in page(assess(WELL, RULES))


def test_the_reference_lists_the_rules_as_they_are() -> None:
    assert reference() in REFERENCE.read_text()


def reference() -> str:
    lines = ["| rule | severity | what should hold | the way out |", "|---|---|---|---|"]
    for rule in RULES:
        out = rule.way_out.replace("|", "\\|")
        lines.append(f"| `{rule.id}` | {rule.severity} | {rule.title}. {rule.why} | {out} |")
    return "\n".join(lines) + "\n"
