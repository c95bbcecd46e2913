"""flagd files in and out: what is mended, what is refused, and that nothing answers otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openfeature.contrib.tools.flagd.core.flagd_core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError

from holdfast.core import limits
from holdfast.core.authoring import audience_of
from holdfast.core.authoring.tree import PROBLEMS_MAX
from holdfast.core.errors import NotFound
from holdfast.core.flagd import Imported, export_flagd, import_flagd, type_of
from holdfast.core.history import EMPTY, State, fold, seal
from holdfast.core.model import (
    Edit,
    Environment,
    PutEnvironment,
    PutSegment,
    PutService,
    PutSetting,
    Rule,
    Segment,
    Service,
    Setting,
    Split,
    Targeting,
)
from holdfast.core.validate import validate

DEMO = Path(__file__).parents[2] / "examples" / "demo-shop.flagd.json"


def after(state: State, *edits: Edit) -> State:
    return fold(state, seal(state.head, 1, "me", "", edits))


START = after(
    EMPTY, PutEnvironment("production", Environment()), PutEnvironment("staging", Environment())
)


def taken(
    document: Any, state: State = START, environment: str = "production", **rest: Any
) -> Imported:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return import_flagd(
        text, "f.json", service="shop", environment=environment, services=state.services, **rest
    )


def imported(document: Any, state: State = START, **rest: Any) -> State:
    found = taken(document, state, **rest)
    assert found.problems == ()
    assert validate(state, found.edits) == []
    return after(state, *found.edits)


def exported(state: State, service: str = "shop", **rest: Any) -> dict[str, Any]:
    def no_members(digest: str) -> bytes | None:
        return None

    body = export_flagd(state, service, "production", rest.pop("members", no_members), **rest)
    return json.loads(body)  # type: ignore[no-any-return]


def answers(document: dict[str, Any], contexts: list[dict[str, Any]]) -> list[Any]:
    """What flagd's own core answers to each flag in each context."""
    core = FlagdCore()
    flags = {
        key: {name: value for name, value in flag.items() if name != "description"}
        for key, flag in document["flags"].items()
    }
    core.set_flags(json.dumps({**document, "flags": flags}))
    found = []
    for key in sorted(flags):
        for context in contexts:
            who = EvaluationContext(context.get("targetingKey"), context)
            try:
                details = core._resolve(key, "code default", who)
            except OpenFeatureError as error:
                found.append((key, error.error_code))
            else:
                found.append((key, details.value, details.variant, details.reason))
    return found


FLAG = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}


def one(**changed: Any) -> dict[str, Any]:
    flag = {name: value for name, value in {**FLAG, **changed}.items() if value is not ...}
    return {"flags": {"flag": flag}}


# In -----------------------------------------------------------------------------------------------


def test_the_demo_shop_is_taken_over_as_it_is() -> None:
    state = imported(DEMO.read_bytes())
    found = {key: kept.setting for key, kept in state.services["shop"].settings.items()}
    document = json.loads(DEMO.read_text())
    assert found.keys() == document["flags"].keys()
    assert found["cartFailure"].type == "number"
    assert found["loadGeneratorVUs"].type == "integer"
    assert found["adFailure"].type == "boolean"
    assert found["adFailure"].description == "Fail ad service"
    contexts = [{}, {"product_id": "OLJCESPC7Z"}, {"targetingKey": "u"}]
    assert answers(exported(state), contexts) == answers(document, contexts)


def test_taking_it_over_again_changes_nothing() -> None:
    state = imported(DEMO.read_bytes())
    assert taken(DEMO.read_bytes(), state).edits == ()


@pytest.mark.parametrize(
    ("variants", "kind"),
    [
        ({"a": 1, "b": 2}, "integer"),
        ({"a": 0.1, "b": 1, "c": 0}, "number"),
        ({"a": 1.0}, "number"),
        ({"a": True}, "boolean"),
        ({"a": "x"}, "string"),
        ({"a": {}}, "object"),
        ({"a": 1, "b": True}, None),
        ({"a": 1, "b": "1"}, None),
        ({"a": [1]}, None),
        ({"a": None}, None),
        ({}, None),
    ],
)
def test_the_type_follows_from_the_variants(variants: dict[str, Any], kind: str | None) -> None:
    assert type_of(variants) == kind


def test_state_default_metadata_and_targeting_are_kept() -> None:
    logic = {"if": [{"===": [{"var": "tenant"}, "a"]}, "on", None]}
    document = one(state="DISABLED", defaultVariant=None, metadata={"team": "x"}, targeting=logic)
    document["metadata"] = {"flagSetId": "other", "version": "3", "team": "all", "tier": 1}
    setting = imported(document).services["shop"].settings["flag"].setting
    assert setting.environments["production"] == Targeting(enabled=False, logic=logic)
    assert setting.metadata == {"team": "x", "tier": 1}


def test_an_empty_targeting_is_none() -> None:
    setting = imported(one(targeting={})).services["shop"].settings["flag"].setting
    assert setting.environments["production"].logic is None


def test_evaluators_become_segments_with_names_that_segments_can_have() -> None:
    document = one(targeting={"if": [{"$ref": "emailWithFaas"}, "on", "off"]})
    document["$evaluators"] = {"emailWithFaas": {"ends_with": [{"var": "email"}, "@faas.com"]}}
    state = imported(document)
    assert list(state.services["shop"].segments) == ["email-with-faas"]
    assert [note.code for note in taken(document).mended] == ["renamed"]
    contexts = [{"email": "a@faas.com"}, {"email": "b"}, {}]
    assert answers(exported(state), contexts) == answers(document, contexts)


@pytest.mark.parametrize(
    ("document", "code", "path"),
    [
        (one(state=...), "state", "/flags/flag/state"),
        (one(state="enabled"), "state", "/flags/flag/state"),
        (one(defaultVariant="of"), "unknown-variant", "/flags/flag/defaultVariant"),
        (one(variants={"on": True, "off": 0}), "variant-types", "/flags/flag/variants"),
        (one(variants={}), "variant-types", "/flags/flag/variants"),
        (one(variants=[]), "wrong-type", "/flags/flag/variants"),
        (one(surprise=1), "unknown-key", "/flags/flag/surprise"),
        (one(metadata={"a": None}), "wrong-type", "/flags/flag/metadata/a"),
        (one(targeting={"nope": 1}), "operator", "/flags/flag/targeting/nope"),
        (one(targeting={"$ref": "nobody"}), "unknown-segment", "/flags/flag/targeting"),
        (one(targeting="on"), "logic", "/flags/flag/targeting"),
        (one(targeting=False), "logic", "/flags/flag/targeting"),
        (one(targeting=[]), "logic", "/flags/flag/targeting"),
        (one(state=["ENABLED"]), "state", "/flags/flag/state"),
        (one(defaultVariant={"on": 1}), "unknown-variant", "/flags/flag/defaultVariant"),
        (one(description=5), "wrong-type", "/flags/flag/description"),
        (
            {"flags": {}, "$evaluators": dict.fromkeys(map(str, range(1_001)), FLAG)},
            "too-many",
            "/$evaluators",
        ),
        (
            {"flags": {str(n): FLAG for n in range(4_000)}, "metadata": {"a": "x" * 9_000}},
            "too-large",
            "/metadata",
        ),
        ({"flags": {"a/b": FLAG}}, "wrong-name", "/flags/a~1b"),
        ({"flags": {"_x": FLAG}}, "reserved-name", "/flags/_x"),
        ({"flags": []}, "flagd", ""),
        ({"flags": {}, "surprise": 1}, "unknown-key", "/surprise"),
        ([], "flagd", ""),
        (b'{"flags": {"a": {}, "a": {}}}', "duplicate-key", "/flags"),
        (b'{"flags": ', "syntax", ""),
        (b'{"flags": {"a": NaN}}', "not-a-number", "/flags/a"),
    ],
)
def test_what_flagd_forbids_is_refused_with_its_place(document: Any, code: str, path: str) -> None:
    found = taken(document)
    assert (code, path) in [(problem.code, problem.path) for problem in found.problems]
    assert found.edits == ()


def test_nested_references_are_refused_and_leniently_written_out() -> None:
    document = one(targeting={"if": [{"$ref": "a"}, "on", "off"]})
    document["$evaluators"] = {"a": {"!": [{"$ref": "b"}]}, "b": {"===": [{"var": "t"}, "x"]}}
    assert [problem.code for problem in taken(document).problems] == ["nested-segment"]
    state = imported(document, lenient=True)
    contexts = [{"t": "x"}, {"t": "y"}]
    assert answers(exported(state), contexts) == answers(document, contexts)


@pytest.mark.parametrize("names", [("a", "b"), ("next",)])
def test_references_that_double_end_soon(names: tuple[str, ...]) -> None:
    """Sixty evaluators of two references each would come to 2^60 values."""
    document = one()
    document["$evaluators"] = {
        f"{name}{n}": {"and": [{"$ref": f"{name}{n + 1}"}, {"$ref": f"{names[0]}{n + 1}"}]}
        for n in range(60)
        for name in names
    }
    assert {problem.code for problem in taken(document).problems} == {"nested-segment"}
    assert "too-large" in {problem.code for problem in taken(document, lenient=True).problems}


def test_problems_are_bounded_and_counted() -> None:
    found = taken({"flags": {f"flag-{n}": 1 for n in range(3_000)}})
    assert len(found.problems) == PROBLEMS_MAX + 1
    assert found.problems[-1].code == "more"


def test_lenient_mends_what_it_can_and_lists_it() -> None:
    document = {
        "flags": {
            "loose": {**FLAG, "state": None, "surprise": 1, "metadata": {"a": []}},
            "truth": {**FLAG, "variants": {"true": 1}, "defaultVariant": True},
            "mixed": {**FLAG, "variants": {"on": 1, "off": "x"}},
            "good": FLAG,
        }
    }
    found = taken(document, lenient=True)
    assert found.problems == ()
    assert {(note.code, note.path) for note in found.mended} == {
        ("state", "/flags/loose/state"),
        ("unknown-key", "/flags/loose/surprise"),
        ("wrong-type", "/flags/loose/metadata/a"),
        ("wrong-type", "/flags/truth/defaultVariant"),
        ("left-out", "/flags/mixed"),
    }
    assert all(note.severity == "warning" for note in found.mended)
    keys = [edit.key for edit in found.edits if isinstance(edit, PutSetting)]
    assert keys == ["good", "loose", "truth"]


def test_other_environments_and_settings_stay() -> None:
    state = imported(one(), environment="staging")
    state = after(state, PutSetting("shop", "mine", Setting(type="boolean", variants={"on": True})))
    state = imported(one(defaultVariant="on"), state)
    found = state.services["shop"].settings
    assert found["flag"].setting.environments["staging"].default == "off"
    assert found["flag"].setting.environments["production"].default == "on"
    assert "mine" in found


def test_what_would_change_another_environment_is_a_conflict() -> None:
    state = imported(one(), environment="staging")
    found = taken(one(variants={"on": False, "off": False}), state)
    assert [problem.code for problem in found.problems] == ["variant-conflict"]
    found = taken(one(variants={"a": 1}, defaultVariant="a"), state)
    assert [problem.code for problem in found.problems] == ["type-conflict"]


# Out ----------------------------------------------------------------------------------------------


def test_included_settings_and_long_lists_go_out_too() -> None:
    members = [f"t{number}" for number in range(limits.INLINE_MEMBERS_MAX + 1)]
    kept: dict[str, bytes] = {}

    def put_blob(body: bytes) -> str:
        kept["digest"] = body
        return "0" * 64

    audience = msgspec.structs.replace(
        audience_of("tenant", members, put_blob), table_digest="1" * 64, table_bytes=1
    )
    rules = (Rule(logic={"$ref": "big"}, serve="on"),)
    setting = Setting(
        type="boolean",
        variants={"on": True, "off": False},
        environments={"production": Targeting(default="off", rules=rules)},
        description="Who is big",
    )
    state = after(
        START,
        PutService("shared", Service()),
        PutSegment("shared", "big", Segment(audience)),
        PutSetting("shared", "flag", setting),
        PutService("shop", Service(includes=("shared",))),
    )
    document = exported(state, members=lambda _: kept["digest"], descriptions=True)
    assert document["flags"]["flag"]["description"] == "Who is big"
    contexts = [{"tenant": "t7"}, {"tenant": "nobody"}, {}]
    assert [answer[1] for answer in answers(document, contexts)] == [True, False, False]
    with pytest.raises(NotFound):
        exported(state)


def test_what_is_not_there_can_not_go_out() -> None:
    with pytest.raises(NotFound):
        exported(START, "nobody")


def test_the_oracle_refuses_descriptions_which_is_why_they_stay_in() -> None:
    state = imported(DEMO.read_bytes())
    assert not any("description" in flag for flag in exported(state)["flags"].values())
    with pytest.raises(OpenFeatureError):
        FlagdCore().set_flags(json.dumps(exported(state, descriptions=True)))


# The property -------------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c"])
attribute = st.sampled_from([{"var": "x"}, {"var": "y"}, {"var": "targetingKey"}])
constants = st.sampled_from(["a", "b", "", 1, 2.5, True, None])
tests_of = st.one_of(
    st.builds(
        lambda op, a, b: {op: [a, b]},
        st.sampled_from(["===", "!=", "<", "in"]),
        attribute,
        constants,
    ),
    st.just({"$ref": "who"}),
    st.just({"$ref": "whoElse"}),
)
conditions = st.recursive(
    tests_of,
    lambda inner: st.builds(
        lambda op, found: {op: found},
        st.sampled_from(["and", "or"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=4,
)
arms = st.lists(
    st.builds(lambda name, weight: [name, weight], names, st.integers(1, 9)), min_size=1, max_size=3
)
fractions = arms.map(lambda found: {"fractional": found})
targetings = st.builds(
    lambda test, then, other: {"if": [test, then, other]},
    conditions,
    names | fractions,
    names | st.none(),
)
values = st.sampled_from(
    [{"a": 1, "b": 2, "c": 3}, {"a": 0.5, "b": 1, "c": 2}, {"a": "x", "b": "", "c": "é"},
     {"a": True, "b": False, "c": True}, {"a": {}, "b": {"x": [1, None]}, "c": {"": 1}}]
)  # fmt: skip
flags = st.fixed_dictionaries(
    {"state": st.sampled_from(["ENABLED", "ENABLED", "DISABLED"]), "variants": values},
    optional={
        "defaultVariant": names | st.none(),
        "targeting": targetings | st.just({}),
        "metadata": st.dictionaries(
            st.text(st.characters(codec="ascii"), min_size=1), st.integers(0, 9), max_size=2
        ),
    },
)
documents = st.fixed_dictionaries(
    {"flags": st.dictionaries(st.sampled_from(["one", "two", "three"]), flags, min_size=1)}
).map(
    lambda found: {
        **found,
        "$evaluators": {"who": {"in": [{"var": "x"}, ["a", "b"]]}, "whoElse": {"var": "y"}},
    }
)
contexts_of = st.lists(
    st.fixed_dictionaries(
        {},
        optional={"x": constants, "y": constants, "targetingKey": st.sampled_from(["u", "v", "w"])},
    ),
    min_size=1,
    max_size=4,
)


@given(documents, contexts_of)
@settings(max_examples=200, deadline=None)
def test_what_was_exported_answers_as_what_was_imported(
    document: dict[str, Any], contexts: list[dict[str, Any]]
) -> None:
    state = imported(document)
    out = exported(state)
    assert answers(out, contexts) == answers(document, contexts)
    again = imported(out)
    assert answers(exported(again), contexts) == answers(document, contexts)


splits = st.builds(
    Split,
    weights=st.dictionaries(st.sampled_from(["on", "off"]), st.integers(1, 9), min_size=1),
    by=st.sampled_from(["targetingKey", "x"]),
    seed=st.sampled_from(["", "s"]),
)
rules = st.lists(
    st.builds(Rule, logic=conditions, serve=st.sampled_from(["on", "off"]))
    | st.builds(Rule, logic=st.none() | conditions, split=splits),
    max_size=3,
)


@given(rules, contexts_of)
@settings(max_examples=100, deadline=None)
def test_what_was_exported_can_be_imported_and_answers_the_same(
    found: list[Rule], contexts: list[dict[str, Any]]
) -> None:
    base = imported({"flags": {}, "$evaluators": {"who": {"var": "x"}, "whoElse": {"var": "y"}}})
    text = json.dumps(msgspec.to_builtins(found)).replace("whoElse", "who-else")
    named = msgspec.json.decode(text, type=tuple[Rule, ...])
    setting = Setting(
        type="boolean",
        variants={"on": True, "off": False},
        environments={"production": Targeting(default="off", rules=named)},
    )
    state = after(base, PutSetting("shop", "flag", setting))
    out = exported(state)
    assert answers(exported(imported(out)), contexts) == answers(out, contexts)
