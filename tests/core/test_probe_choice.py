"""Which probes a snapshot carries while a rollout is on its way."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec

from holdfast.core.model import JSON, Probe, Setting, Subject, Targeting
from holdfast.core.probe_choice import Given, Meant, choose
from holdfast.core.snapshot import SettingFacts
from holdfast.core.wire import canonical

OLD = {"if": [{"<": [{"var": "$flagd.timestamp"}, 2_000_000_000]}, "on", "off"]}
EXPOSED = {"==": [{"var": "ring"}, "first"]}


def flag(targeting: JSON | None) -> msgspec.Raw:
    variants: Mapping[str, JSON] = {"on": True, "off": False}
    made = {"state": "ENABLED", "variants": variants, "defaultVariant": "off"}
    return msgspec.Raw(canonical(made | ({"targeting": targeting} if targeting else {})))


def chosen(baseline: JSON) -> list[JSON]:
    """Of a setting that goes out to ring `first`, whose author says what it gives now."""
    probe = Probe(context={"ring": "last"}, expected=True)
    setting = Setting(
        "boolean",
        {"on": True, "off": False},
        {"production": Targeting(default="on")},
        probes=(probe,),
    )
    facts = SettingFacts(type="boolean", revision=4, digest="0" * 64)
    given = Given(
        subject=Subject("production", "shop"),
        revision=4,
        bucketing="v3",
        flags={"banner": flag({"if": [EXPOSED, "on", baseline]})},
        facts={"banner": msgspec.Raw(canonical(facts))},
        evaluators={},
        meant={"banner": Meant("shop", setting, flag({"if": [True, "on"]}))},
        meant_evaluators={},
        contracts={},
        contexts=(),
        known={},
    )
    found = choose(given)
    assert not found.problems
    return [json.loads(bytes(one)) for one in found.probes.values()]


def test_what_is_replaced_and_reads_the_time_gives_no_probe() -> None:
    """It would hold until that time, and then speak against every consumer at once."""
    assert chosen(OLD) == []


def test_what_is_replaced_and_reads_no_time_is_probed_as_it_goes_out() -> None:
    [probes] = chosen("off")
    assert {"context": {"ring": "last"}, "origin": "authored", "value": False} in probes
