"""The write door's checks: what dangles, collides or is too much in a resulting state."""

from __future__ import annotations

import time
from typing import Any

import pytest

from holdfast.core import limits
from holdfast.core.history import EMPTY, State, fold, seal
from holdfast.core.model import (
    Audience,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    Edit,
    Environment,
    PutEnvironment,
    PutRoot,
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

PILOT = PutSegment("shared", "pilot", Segment(Audience(by="tenant", members=("a",))))
IN_PILOT = {"$ref": "pilot"}


def after(state: State, *edits: Edit) -> State:
    return fold(state, seal(state.head, 1, "me", "", edits))


def setting(logic: Any = None, *, environment: str = "production", **rest: Any) -> Setting:
    rules = () if logic is None else (Rule(logic=logic, serve="on"),)
    targeting = {environment: Targeting(default="off", rules=rules)}
    variants = {"on": True, "off": False}
    return Setting(**{"type": "boolean", "variants": variants, "environments": targeting, **rest})


def problems(state: State, *edits: Edit) -> list[tuple[str, str]]:
    return [(problem.code, problem.path) for problem in validate(state, edits)]


@pytest.fixture(scope="module")
def state() -> State:
    """`user` includes `shared` and depends on `other`; each has a setting."""
    edits: tuple[Edit, ...] = (
        PutEnvironment("production", Environment()),
        PutService("shared", Service()),
        PutService("other", Service()),
        PutService("user", Service(includes=("shared",), depends_on=("other",))),
        PILOT,
        PutSetting("shared", "common", setting(IN_PILOT)),
        PutSetting("user", "own", setting(IN_PILOT)),
        PutSetting("other", "alone", setting()),
    )
    assert validate(EMPTY, edits) == []
    return after(EMPTY, *edits)


def test_a_good_edit_passes(state: State) -> None:
    assert problems(state, PutSetting("user", "new", setting(IN_PILOT))) == []
    assert problems(state) == []


def test_what_is_included_or_depended_on_must_be_there(state: State) -> None:
    edit = PutService("user", Service(includes=("share",), depends_on=("othr",)))
    found = problems(state, edit)
    assert ("unknown-service", "/services/user/includes/0") in found
    assert ("unknown-service", "/services/user/depends_on/0") in found


@pytest.mark.parametrize(
    ("gone", "path"),
    [("shared", "/services/user/includes/0"), ("other", "/services/user/depends_on/0")],
)
def test_a_service_in_use_can_not_be_deleted(state: State, gone: str, path: str) -> None:
    assert ("unknown-service", path) in problems(state, DeleteService(gone))


def test_a_service_can_go_with_all_that_uses_it(state: State) -> None:
    assert problems(state, DeleteService("shared"), DeleteService("user")) == []


@pytest.mark.parametrize(
    "edit",
    [
        PutSetting("usr", "new", setting()),
        PutSegment("usr", "some", Segment(Audience(by="tenant", members=("a",)))),
    ],
)
def test_what_is_put_belongs_to_a_service(state: State, edit: Edit) -> None:
    (problem,) = validate(state, [edit])
    assert (problem.code, problem.path) == ("unknown-service", "/services/usr")
    assert problem.hint == "did you mean `user`?"
    assert problems(state, edit, PutService("usr", Service())) == []


def test_a_deleted_service_does_not_come_back_by_its_setting(state: State) -> None:
    found = problems(state, DeleteService("user"), PutSetting("user", "new", setting()))
    assert found == [("unknown-service", "/services/user")]


def test_includes_make_no_circle(state: State) -> None:
    found = problems(state, PutService("shared", Service(includes=("user",))))
    assert ("include-cycle", "/services/shared/includes") in found


def test_a_service_does_not_include_itself(state: State) -> None:
    found = problems(state, PutService("other", Service(includes=("other",))))
    assert ("self-reference", "/services/other/includes/0") in found


@pytest.mark.parametrize(
    "edit",
    [PutSetting("shared", "own", setting()), PutSetting("user", "common", setting())],
)
def test_included_keys_do_not_collide(state: State, edit: Edit) -> None:
    (problem,) = validate(state, [edit])
    assert problem.code == "key-collision"
    assert "`shared`" in problem.message
    assert "`user`" in problem.message


def test_a_new_include_brings_no_key_that_is_there_already(state: State) -> None:
    other = PutService("other", Service(includes=("shared",)))
    found = problems(state, other, PutSetting("other", "common", setting()))
    assert [code for code, _ in found] == ["key-collision"]
    assert problems(state, other) == []


def test_environments_must_exist(state: State) -> None:
    edit = PutSetting("user", "own", setting(environment="prodution"))
    (problem,) = validate(state, [edit])
    assert problem.code == "unknown-environment"
    assert problem.hint == "did you mean `production`?"
    (problem,) = validate(state, [PutSetting("user", "own", setting(environment="elsewhere"))])
    assert problem.hint == "create it first: holdfast env put NAME"
    assert problems(state, PutEnvironment("prodution", Environment()), edit) == []


@pytest.mark.parametrize("name", ["v1", "config", "Production", "_x", ""])
def test_environments_have_names_that_fit_into_urls(state: State, name: str) -> None:
    assert "wrong-name" in [c for c, _ in problems(state, PutEnvironment(name, Environment()))]


def test_references_must_resolve_where_their_setting_stands(state: State) -> None:
    found = problems(state, PutSetting("other", "alone", setting(IN_PILOT)))
    path = "/services/other/settings/alone/environments/production/rules/0"
    assert found == [("unknown-segment", path)]


def test_a_segment_in_use_can_not_be_deleted(state: State) -> None:
    found = problems(state, DeleteSegment("shared", "pilot"))
    assert [path.split("/")[2] for _, path in found] == ["shared", "user"]
    edits = (DeleteSetting("shared", "common"), DeleteSetting("user", "own"))
    assert problems(state, DeleteSegment("shared", "pilot"), *edits) == []


def test_an_include_in_use_can_not_be_dropped(state: State) -> None:
    found = problems(state, PutService("user", Service()))
    assert [code for code, _ in found] == ["unknown-segment"]


@pytest.mark.parametrize(
    ("wrong", "code", "path"),
    [
        ({"variants": {"on": 1, "off": False}}, "variant-type", "/variants/on"),
        ({"variants": {}}, "variants", "/variants"),
        ({"schema": {"const": True}}, "variant-schema", "/variants/off"),
        ({"schema": {"type": 3}}, "schema", "/schema"),
        ({"type": "bool"}, "wrong-value", "/type"),
        ({"expires": "tomorrow"}, "wrong-value", "/expires"),
        ({"description": "x" * 2_000}, "too-long", "/description"),
        ({"metadata": {"a": []}}, "wrong-type", "/metadata/a"),
        ({"metadata": {"a": float("nan")}}, "not-a-number", "/metadata/a"),
        ({"type": "string", "variants": {"on": "\ud800"}}, "lone-surrogate", "/variants/on"),
        ({"type": "integer", "variants": {"on": 2**53}}, "number-range", "/variants/on"),
        ({"type": "string", "variants": {"on": "x" * 300_000}}, "too-large", "/variants/on"),
    ],
)  # fmt: skip
def test_the_content_of_each_setting_is_checked(
    state: State, wrong: dict[str, Any], code: str, path: str
) -> None:
    assert (code, f"/services/user/settings/own{path}") in problems_of(state, **wrong)


def problems_of(state: State, **wrong: Any) -> list[tuple[str, str]]:
    edit = PutSetting("user", "own", setting(**wrong))
    # Folded by hand: what has no canonical form can't be sealed, and must be refused all the same.
    new = fold(
        state,
        seal(state.head, 1, "me", "", [PutSetting("user", "own", setting())]),
    )
    new.services["user"].settings["own"] = type(new.services["user"].settings["own"])(edit.to)
    return [(problem.code, problem.path) for problem in validate(state, [edit], new)]


@pytest.mark.parametrize("key", ["a/b", "", "a..b", "_x", "x" * 129, "a b", "ä"])
def test_keys_fit_into_urls(state: State, key: str) -> None:
    codes = [code for code, _ in problems(state, PutSetting("user", key, setting()))]
    assert codes
    assert set(codes) <= {"wrong-name", "reserved-name"}


@pytest.mark.parametrize("name", ["_access", "Upper", "", "x" * 64])
def test_services_and_segments_have_plain_names(state: State, name: str) -> None:
    segment = Segment(Audience(logic=True))
    for edit in (PutService(name, Service()), PutSegment("user", name, segment)):
        codes = [code for code, _ in problems(state, edit)]
        assert codes
        assert set(codes) <= {"wrong-name", "reserved-name"}


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (Rule(), "rule"),
        (Rule(serve="on", split=Split({"on": 1})), "rule"),
        (Rule(serve="no"), "unknown-variant"),
        (Rule(when="true", serve="on"), "not-lowered"),
        (Rule(split=Split({"on": 0})), "weights"),
        (Rule(split=Split({"on": 2**31})), "weights"),
        (Rule(split=Split({"on": -1, "off": 2})), "weights"),
        (Rule(split=Split({"no": 1})), "unknown-variant"),
        (Rule(logic={"nope": []}, serve="on"), "operator"),
        (Rule(logic={"?:": [1, 2, 3]}, serve="on"), "operator"),
        (Rule(logic={"in_segment": [{"var": "t"}, "pilot"]}, serve="on"), "operator"),
        (Rule(logic={"a": 1, "b": 2}, serve="on"), "logic"),
        (Rule(logic={"===": [1]}, serve="on"), "arguments"),
        (Rule(logic={"sem_ver": [{"var": "v"}, "=>", "1.0.0"]}, serve="on"), "operator"),
        (Rule(logic={"sem_ver": [{"var": "v"}, ">", "one"]}, serve="on"), "version"),
        (Rule(logic={"fractional": [["on", 0]]}, serve="on"), "fractional"),
        (Rule(logic={"fractional": [["on", 1.5]]}, serve="on"), "fractional"),
        (Rule(logic={"and": [{"!": [True]}] * 30_000}, serve="on"), "too-large"),
    ],
)
def test_rules_are_checked_whoever_wrote_them(state: State, rule: Rule, code: str) -> None:
    environments = {"production": Targeting(default="off", rules=(rule,))}
    found = problems(state, PutSetting("user", "own", setting(environments=environments)))
    assert code in [code for code, _ in found]


def test_logic_is_bounded_in_depth(state: State) -> None:
    logic: Any = True
    for _ in range(limits.LOGIC_DEPTH_MAX // 2):
        logic = {"!": [logic]}
    found = problems(state, PutSetting("user", "own", setting(logic)))
    assert [code for code, _ in found] == ["too-deep"]


def test_rules_and_raw_targeting_exclude_each_other(state: State) -> None:
    both = Targeting(default="off", rules=(Rule(serve="on"),), logic={"if": [True, "on"]})
    found = problems(state, PutSetting("user", "own", setting(environments={"production": both})))
    assert [code for code, _ in found] == ["rules-and-targeting"]


@pytest.mark.parametrize(
    ("audience", "code"),
    [
        (Audience(), "segment"),
        (Audience(by="tenant", logic=True), "segment"),
        (Audience(when="true"), "segment"),
        (Audience(logic={"$ref": "pilot"}), "nested-segment"),
        (Audience(by="tenant", members=("x" * 2_000,)), "member"),
        (Audience(by="tenant", members=("a",), members_digest="0" * 64), "segment"),
        (Audience(by="tenant", members=("a",) * (limits.INLINE_MEMBERS_MAX + 1)), "too-many"),
    ],
)
def test_segments_are_checked(state: State, audience: Audience, code: str) -> None:
    found = problems(state, PutSegment("user", "mine", Segment(audience)))
    assert code in [code for code, _ in found]


def test_too_many_settings_are_refused_with_those_of_includes(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SETTINGS_MAX", 2)
    found = problems(state, PutSetting("shared", "more", setting()))
    assert found == [("too-many", "/services/user/settings")]


def test_snapshots_that_grow_too_large_are_refused(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SNAPSHOT_BYTES_MAX", 10_000)
    large = setting(type="string", variants={"on": "x" * 10_000, "off": ""})
    found = problems(state, PutSetting("shared", "large", large))
    assert found == [
        ("too-large", "/services/shared/settings"),
        ("too-large", "/services/user/settings"),
    ]


def test_root_documents_come_one_after_the_other(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two writers of one version: with both in the chain, every consumer would refuse all of it."""
    monkeypatch.setattr(limits, "ROOTS_MAX", 2)
    first, second = PutRoot(1, {}), PutRoot(2, {})
    assert problems(state, first, second) == []
    assert problems(state, second) == [("root-version", "/roots/0")]
    after = fold(state, seal(state.head, 1, "ann", "", [first]))
    assert problems(after, first) == [("root-version", "/roots/1")]
    assert problems(after, second) == []
    assert problems(after, second, PutRoot(3, {})) == [("too-many", "/roots/2")]


def test_an_edit_that_is_undone_in_the_same_change_is_not_checked(state: State) -> None:
    bad = PutSetting("user", "bad", setting(type="nope"))
    assert problems(state, bad, DeleteSetting("user", "bad")) == []


def test_too_many_edits_are_one_problem(state: State) -> None:
    found = problems(state, *[DeleteSetting("user", "x")] * (limits.EDITS_MAX + 1))
    assert [code for code, _ in found] == ["too-many"]


def test_one_edit_costs_little_in_a_large_state() -> None:
    """Measured against the whole: an edit of one setting is not a check of all of them."""
    edits: list[Edit] = [PutEnvironment("production", Environment())]
    for number in range(200):
        edits.append(PutService(f"s{number}", Service()))
        edits += [PutSetting(f"s{number}", f"k{key}", setting({"var": "x"})) for key in range(8)]
    state = after(EMPTY, *edits)
    edit = PutSetting("s7", "k1", setting({"var": "y"}))
    new = after(state, edit)

    def best(*args: Any) -> float:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            assert validate(*args) == []
            times.append(time.perf_counter() - started)
        return min(times)

    assert best(state, [edit], new) * 20 < best(EMPTY, edits, state)
