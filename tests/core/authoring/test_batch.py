"""Files to edits and back: includes, variants, long lists, the least edits, rendering."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core import limits
from holdfast.core.authoring import SourceFile, plan, render
from holdfast.core.authoring.variants import merge_patch
from holdfast.core.history import EMPTY, State, fold, seal
from holdfast.core.model import (
    Audience,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
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

CONTOSO = sorted((Path(__file__).parents[3] / "examples" / "contoso").glob("*.yaml"))


def after(state: State, *edits: Edit) -> State:
    return fold(state, seal(state.head, 1, "me", "", edits))


def start(*texts: str) -> State:
    state = after(EMPTY, PutEnvironment("production", Environment()))
    return after(state, *edits_of(state, *texts))


def edits_of(state: State, *texts: str, **rest: Any) -> tuple[Edit, ...]:
    files = [SourceFile(f"{number}.yaml", text.encode()) for number, text in enumerate(texts)]
    planned = plan(files, state.services, environments=state.environments, **rest)
    assert planned.problems == ()
    return planned.edits


CHAT = """\
service: chat
attributes: {tenant: string}
segments:
  pilot: {by: tenant, members: [b, a, b]}
settings:
  on-off: {type: boolean, variants: {on: true, off: false}}
  words: {type: string, variants: {a: x}, environments: {production: {default: a}}}
"""


def test_a_new_service_is_all_edits_and_then_none() -> None:
    state = start(CHAT)
    assert state.services["chat"].segments["pilot"].segment.audience.members == ("a", "b")
    assert edits_of(state, CHAT) == ()


def test_only_what_differs_is_edited() -> None:
    state = start(CHAT)
    assert edits_of(state, CHAT.replace("a: x", "a: y")) == (
        PutSetting(
            "chat",
            "words",
            Setting(
                type="string",
                variants={"a": "y"},
                environments={"production": Targeting(default="a")},
            ),
        ),
    )


def test_true_is_not_taken_for_one() -> None:
    text = "service: s\nsettings:\n  o: {type: object, variants: {a: {x: 1}}}\n"
    (edit,) = edits_of(start(text), text.replace("x: 1", "x: true"))
    assert isinstance(edit, PutSetting)


def test_a_file_is_the_whole_of_its_service() -> None:
    state = start(CHAT)
    assert edits_of(state, "service: chat\nattributes: {tenant: string}\n") == (
        DeleteSetting("chat", "on-off"),
        DeleteSetting("chat", "words"),
        DeleteSegment("chat", "pilot"),
    )


def test_services_without_a_file_are_deleted_only_on_demand() -> None:
    state = start(CHAT, "service: mail\n")
    assert edits_of(state, CHAT) == ()
    assert edits_of(state, CHAT, prune=True) == (DeleteService("mail"),)


def test_problems_leave_no_edits() -> None:
    files = [SourceFile("a", CHAT.encode()), SourceFile("b", b"service: mail\nfoo: 1\n")]
    planned = plan(files, {})
    assert planned.edits == ()
    assert [problem.code for problem in planned.problems] == ["unknown-key"]


# Includes -----------------------------------------------------------------------------------------

SHARED = """\
service: shared
attributes: {tenant: string}
segments:
  pilot: {by: tenant, members: [a]}
"""
USER = """\
service: user
includes: [shared]
settings:
  x:
    type: boolean
    variants: {on: true}
    environments: {production: {rules: [{when: tenant in segment("pilot"), serve: on}]}}
"""


@pytest.mark.parametrize("together", [True, False])
def test_what_an_included_service_has_can_be_used(together: bool) -> None:
    state = start(*([] if together else [SHARED]))
    edits = edits_of(state, *([SHARED, USER] if together else [USER]))
    assert validate(state, edits) == []


def test_without_the_include_nothing_of_it_is_known() -> None:
    text = USER.replace("includes: [shared]\n", "")
    planned = plan([SourceFile("a", SHARED.encode()), SourceFile("b", text.encode())], {})
    assert [problem.code for problem in planned.problems] == ["cel-unknown-attribute"]


def test_the_batch_counts_before_the_state() -> None:
    state = start(SHARED, USER)
    rule = SHARED.replace("{by: tenant, members: [a]}", "{when: tenant == 'a'}")
    files = [SourceFile("a", rule.encode()), SourceFile("b", USER.encode())]
    (problem,) = plan(files, state.services).problems
    assert problem.code == "cel-segment-attribute"
    assert 'in_segment("pilot")' in problem.hint


# Variants -----------------------------------------------------------------------------------------


def test_variants_extend_one_another_by_merge_patches() -> None:
    text = """\
service: s
settings:
  o:
    type: object
    variants:
      huge: {$extends: large, tiles: 99}
      small: {tiles: 4, side: {left: 1, right: 2}, tags: [a]}
      large: {$extends: small, tiles: 49, side: {left: null}, tags: [b, c]}
"""
    (_, edit) = edits_of(EMPTY, text)
    assert isinstance(edit, PutSetting)
    assert edit.to.variants["large"] == {"tiles": 49, "side": {"right": 2}, "tags": ["b", "c"]}
    assert edit.to.variants["huge"] == {"tiles": 99, "side": {"right": 2}, "tags": ["b", "c"]}
    assert edit.to.extends["large"].base == "small"
    assert edits_of(after(EMPTY, _, edit), text) == ()


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_are_those_of_rfc_7386(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


# Member lists -------------------------------------------------------------------------------------


def test_long_lists_become_blobs() -> None:
    members = [f"tenant-{number}" for number in range(limits.INLINE_MEMBERS_MAX + 1)]
    kept: dict[str, bytes] = {}

    def put_blob(body: bytes) -> str:
        digest = hashlib.sha256(body).hexdigest()
        kept[digest] = body
        return digest

    def read_members(path: str) -> bytes:
        assert path == "lists/big.txt"
        return ("\ufeff" + "\r\n".join([*members, "", members[0]])).encode()

    text = (
        "service: s\nattributes: {tenant: string}\n"
        "segments: {big: {by: tenant, members_file: lists/big.txt}}\n"
    )
    (_, edit) = edits_of(EMPTY, text, put_blob=put_blob, read_members=read_members)
    assert isinstance(edit, PutSegment)
    audience = edit.to.audience
    assert audience.members == ()
    assert audience.member_count == len(members)
    assert kept[audience.members_digest].decode().splitlines() == sorted(members)
    settled = Audience(
        by="tenant",
        members_digest=audience.members_digest,
        member_count=audience.member_count,
        table_digest="0" * 64,
        table_bytes=1,
    )
    state = after(EMPTY, _, PutSegment("s", "big", Segment(settled)))
    assert edits_of(state, text, read_members=read_members) == ()
    assert edits_of(state, render("s", state.services["s"])) == ()


def test_a_list_that_can_not_be_read_is_a_problem() -> None:
    def read_members(path: str) -> bytes:
        raise FileNotFoundError(2, "No such file or directory")

    text = "service: s\nsegments: {big: {by: targetingKey, members_file: x}}\n"
    (problem,) = plan([SourceFile("a", text.encode())], {}, read_members=read_members).problems
    assert (problem.code, problem.line, problem.column) == ("members-file", 2, 50)


# Rendering ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", CONTOSO, ids=lambda file: file.stem)
def test_the_examples_are_good_and_come_back_from_the_state(file: Path) -> None:
    state = start(*(each.read_text() for each in CONTOSO))
    name = file.stem
    assert edits_of(state, render(name, state.services[name])) == ()


def test_the_examples_pass_the_write_door() -> None:
    state = after(EMPTY, PutEnvironment("production", Environment()))
    assert len(CONTOSO) >= 6
    assert validate(state, edits_of(state, *(each.read_text() for each in CONTOSO))) == []


words = st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF), min_size=1, max_size=12)
tricky = st.sampled_from(
    ["1e5", ".5", "on", "null", "~", "NaN", ".inf", "0x1", "2026-01-01", "- a", "a: b", "#", "|",
     "\n", "a\n\nb ", " x", "x\n", "'", '"', "\x85", "\u2028", "\x00", "$", "<<", "=", "1_0"]
)  # fmt: skip
text = words | tricky
scalars = text | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e9, 1e9)
objects = st.dictionaries(
    text, st.recursive(scalars | st.none(), lambda i: st.lists(i, max_size=3), max_leaves=5)
)
variants = st.dictionaries(
    text.filter(lambda name: name[0] != "$"), objects, min_size=1, max_size=3
)


@st.composite
def service_edits(draw: st.DrawFn) -> list[Edit]:
    found = draw(variants)
    names = st.sampled_from(sorted(found))
    rules = draw(
        st.lists(
            st.builds(Rule, name=text, serve=names)
            | st.builds(
                Rule,
                name=text,
                when=st.just('targetingKey == "a"\n  || targetingKey == "b"'),
                logic=st.just(
                    {
                        "or": [
                            {"===": [{"var": "targetingKey"}, "a"]},
                            {"===": [{"var": "targetingKey"}, "b"]},
                        ]
                    }
                ),
                split=st.builds(
                    Split, weights=st.dictionaries(names, st.integers(1, 9), min_size=1), seed=text
                ),
            ),
            max_size=3,
        )
    )
    setting = Setting(
        type="object",
        variants=found,
        environments={
            "production": Targeting(
                default=draw(st.none() | names), enabled=draw(st.booleans()), rules=tuple(rules)
            )
        },
        description=draw(text),
        metadata=draw(st.dictionaries(text, scalars, max_size=3)),
        expires=draw(st.sampled_from(["", "2026-12-31"])),
    )
    members = tuple(sorted(draw(st.sets(text, max_size=4))))
    return [
        PutService(
            "s", Service(description=draw(text), owners=tuple(draw(st.lists(text, max_size=2))))
        ),
        PutSegment("s", "list", Segment(Audience(by="targetingKey", members=members))),
        PutSegment("s", "rule", Segment(Audience(logic={"var": draw(text)}))),
        PutSetting("s", "x", setting),
    ]


@given(service_edits())
@settings(max_examples=150, deadline=None)
def test_whatever_stands_can_be_rendered_and_read_again(edits: list[Edit]) -> None:
    state = after(EMPTY, PutEnvironment("production", Environment()), *edits)
    assert edits_of(state, render("s", state.services["s"])) == ()
