"""Files with mistakes: each is told with its place, its code and the way out, all at once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core import limits
from holdfast.core.authoring import SourceFile, parse, plan, read
from holdfast.core.errors import Invalid, Problem

WHEN = 'when: tenant in segment("pilot")'
GOOD = """\
service: calling
attributes: {tenant: string, ring: string, user: string, version: string}
segments:
  pilot: {by: tenant, members: [contoso]}
settings:
  tiles:
    type: integer
    schema: {minimum: 1, maximum: 49}
    variants: {few: 9, many: 49}
    environments:
      production:
        default: few
        rules:
          - when: tenant in segment("pilot")
            serve: many
          - split: {by: user, weights: {many: 10, few: 90}}
"""


def found(text: str, **rest: Any) -> tuple[Problem, ...]:
    return plan([SourceFile("calling.yaml", text.encode())], {}, **rest).problems


def swapped(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


def test_a_good_file_has_no_problems() -> None:
    assert found(GOOD) == ()
    assert read(GOOD.encode(), "calling.yaml").service == "calling"


@pytest.mark.parametrize(
    ("old", "new", "code", "place", "path"),
    [
        ("service: calling", "service: Calling", "wrong-name", (1, 10), "/service"),
        ("service: calling", "service: _access", "wrong-name", (1, 10), "/service"),
        ("service: calling", "name: calling", "missing-key", (1, 1), ""),
        ("service: calling", "servce: calling", "unknown-key", (1, 1), "/servce"),
        ("tenant: string", "now: timestamp", "built-in", (2, 14), "/attributes/now"),
        ("tenant: string", "tenant: strin", "wrong-value", (2, 22), "/attributes/tenant"),
        ("tenant: string", "namespace: string", "reserved-name", (2, 14), "/attributes/namespace"),
        ("  pilot:", "  Pilot:", "wrong-name", (4, 3), "/segments/Pilot"),
        ("by: tenant", "by: tenat", "unknown-attribute", (4, 15), "/segments/pilot/by"),
        ("[contoso]", "[1]", "wrong-type", (4, 33), "/segments/pilot/members/0"),
        ("members: [contoso]", "when: 'true'", "segment", (4, 29), "/segments/pilot/when"),
        (", members: [contoso]", "", "segment", (4, 10), "/segments/pilot"),
        ("members: [contoso]", "members_file: x.txt", "members-file", (4, 37), "…/members_file"),
        ("  tiles:", "  a/b:", "wrong-name", (6, 3), "/settings/a~1b"),
        ("  tiles:", "  _tiles:", "reserved-name", (7, 5), "/settings/_tiles"),
        ("type: integer", "type: int", "wrong-value", (7, 11), "/settings/tiles/type"),
        ("    type: integer\n", "", "missing-key", (7, 5), "/settings/tiles"),
        ("type: integer", "type: [integer]", "wrong-type", (7, 11), "/settings/tiles/type"),
        ("default: few", "enabled: {on: 1}", "wrong-type", (12, 18), "…/production/enabled"),
        ("type: integer", "type: integer\n    expires: '2026-02-30'", "wrong-value", (8, 14),
         "…/tiles/expires"),
        ("minimum: 1,", "minimum: x,", "schema", (8, 13), "…/schema"),
        ("{minimum: 1, maximum: 49}", "{$ref: 'http://x'}", "schema", (8, 13), "…/schema"),
        ("many: 49}\n", "many: 50}\n", "variant-schema", (9, 30), "…/variants/many"),
        ("few: 9,", "few: '9',", "variant-type", (9, 21), "…/variants/few"),
        ("few: 9,", "few: true,", "variant-type", (9, 21), "…/variants/few"),
        ("few: 9,", "few: 9.5,", "variant-type", (9, 21), "…/variants/few"),
        ("few: 9,", "few: null,", "variant-type", (9, 21), "…/variants/few"),
        ("{few: 9, many: 49}", "{}", "empty", (9, 15), "…/variants"),
        ("production:", "Production:", "wrong-name", (11, 7), "…/Production"),
        ("default: few", "default: fw", "unknown-variant", (12, 18), "…/default"),
        ("serve: many", "serve: mny", "unknown-variant", (15, 20), "…/rules/0/serve"),
        ("            serve: many\n", "", "rule", (14, 13), "…/rules/0"),
        (WHEN, "logic: {nope: 1}", "operator", (14, 27), "…/rules/0/logic/nope"),
        (WHEN, "logic: {$ref: pilt}", "unknown-segment", (14, 20), "…/rules/0/logic"),
        (WHEN, "when: tenat == 'a'", "cel-unknown-attribute", (14, 19), "…/rules/0/when"),
        ("by: user", "by: usr", "unknown-attribute", (16, 25), "…/rules/1/split/by"),
        ("many: 10,", "many: 1.5,", "wrong-type", (16, 47), "…/rules/1/split/weights/many"),
        ("many: 10,", "many: -1,", "wrong-type", (16, 47), "…/rules/1/split/weights/many"),
        ("many: 10, few: 90", "many: 0, few: 0", "weights", (16, 40), "…/rules/1/split/weights"),
        ("many: 10,", "many: 2147483647,", "weights", (16, 40), "…/rules/1/split/weights"),
        ("many: 10,", "mny: 10,", "unknown-variant", (16, 46), "…/rules/1/split/weights/mny"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_problem_in_its_place(
    old: str, new: str, code: str, place: tuple[int, int], path: str
) -> None:
    problems = found(swapped(old, new))
    assert any(
        (problem.code, problem.line, problem.column) == (code, *place)
        and problem.path.endswith(path.removeprefix("…"))
        for problem in problems
    ), problems
    assert all(problem.file == "calling.yaml" for problem in problems)


def test_a_rule_serves_or_splits_and_not_both() -> None:
    both = "serve: many\n            split: {weights: {few: 1}}"
    (problem,) = found(swapped("serve: many", both))
    assert (problem.code, problem.line, problem.path[-8:]) == ("rule", 14, "/rules/0")


@pytest.mark.parametrize(
    ("when", "line", "column"),
    [
        ("tenant == 'a' && foo(1)", 14, 36),
        ("\"tenant == 'a' && foo(1)\"", 14, 37),
        ("|\n              tenant == 'a'\n                && foo(1)", 16, 20),
        ("|2-\n                tenant == 'a' && foo(1)", 15, 34),
        (">\n              tenant == 'a'\n              && foo(1)", 14, 19),
        ("'tenant == ''a'' && foo(1)'", 14, 19),
    ],
)
def test_a_problem_inside_of_a_condition_is_placed_in_the_file(
    when: str, line: int, column: int
) -> None:
    """Exactly, but for folded text and escapes: there, where the condition begins."""
    (problem,) = found(swapped('tenant in segment("pilot")', when))
    assert problem.code == "cel-unknown-function"
    assert (problem.line, problem.column) == (line, column)


def test_every_problem_has_a_way_out_where_one_can_be_named() -> None:
    for problem in found(swapped("default: few", "default: fw")):
        assert problem.hint == "did you mean `few`?"
    (environment,) = found(GOOD, environments=["prodution"])
    assert (environment.code, environment.line) == ("unknown-environment", 11)
    assert environment.hint == "did you mean `prodution`?"


def test_all_problems_of_all_files_come_at_once() -> None:
    first = swapped("default: few", "default: fw").replace("tenant in", "tenat in")
    second = (
        "service: chat\ndepends_on: [nobody]\nsettings: {a: {type: boolean, variants: {on: 1}}}\n"
    )
    third = "service: calling\n"
    problems = plan(
        [
            SourceFile("calling.yaml", first.encode()),
            SourceFile("chat.yaml", second.encode()),
            SourceFile("again.yaml", third.encode()),
            SourceFile("broken.yaml", b"a: ["),
        ],
        {},
    ).problems
    assert {(problem.file, problem.code) for problem in problems} == {
        ("calling.yaml", "unknown-variant"),
        ("calling.yaml", "cel-unknown-attribute"),
        ("chat.yaml", "unknown-service"),
        ("chat.yaml", "variant-type"),
        ("again.yaml", "repeated-service"),
        ("broken.yaml", "syntax"),
    }


def test_what_only_follows_from_a_problem_is_not_told() -> None:
    text = swapped("few: 9,", "few: .nan,")
    assert [problem.code for problem in found(text)] == ["not-a-number"]
    text = swapped("    variants: {few: 9, many: 49}\n", "")
    assert [problem.code for problem in found(text)] == ["missing-key"]


@pytest.mark.parametrize("old", ["{few: 9, many: 49}", "{many: 10, few: 90}"])
def test_nothing_where_something_is_needed_is_one_problem(old: str) -> None:
    [problem] = found(swapped(old, "{}"))
    assert (problem.code, problem.hint) == ("empty", "add one")


def test_extends_must_lead_somewhere_and_not_in_a_circle() -> None:
    text = (
        "service: s\nsettings:\n  o:\n    type: object\n    variants:\n"
        "      a: {$extends: b}\n      b: {$extends: a}\n      c: {$extends: d}\n"
        "      e: {$extends: f}\n      f: 1\n"
    )
    codes = [(problem.code, problem.line) for problem in found(text)]
    assert ("extends-cycle", 6) in codes
    assert ("unknown-variant", 8) in codes
    assert ("extends", 9) in codes


def test_an_attribute_has_one_type_for_all_who_see_it() -> None:
    shared = "service: shared\nattributes: {tenant: string}\n"
    user = "service: user\nincludes: [shared]\nattributes: {tenant: integer}\n"
    files = [SourceFile("a", shared.encode()), SourceFile("b", user.encode())]
    (problem,) = plan(files, {}).problems
    assert (problem.code, problem.file, problem.line) == ("attribute-type", "b", 3)


def test_of_what_is_too_many_only_the_first_are_read() -> None:
    """Each of the others would be looked up among all of them."""
    many = ", ".join(f"v{n}: {{$extends: w{n}}}" for n in range(3_000))
    text = f"service: a\nsettings:\n  b: {{type: object, variants: {{{many}}}}}"
    codes = Counter(problem.code for problem in found(text))
    assert codes == {"too-many": 1, "unknown-variant": limits.VARIANTS_MAX}


def test_problems_without_end_are_bounded_and_counted() -> None:
    text = "service: s\n" + "".join(f"x{number}: 1\n" for number in range(1_500))
    problems = found(text)
    assert len(problems) == 1_001
    assert (problems[-1].code, problems[-1].message) == ("more", "500 or more other problems")


def test_values_that_canonical_json_has_no_bytes_for_are_refused() -> None:
    text = "service: s\nsettings:\n  o: {type: object, variants: {a: {😀: 1}}}\n"
    assert [problem.code for problem in found(text)] == ["key-characters"]


def test_a_file_with_problems_can_not_be_read_into_a_document() -> None:
    with pytest.raises(Invalid) as raised:
        read(b"servce: x", "x.yaml")
    assert {problem.code for problem in raised.value.problems} == {"unknown-key", "missing-key"}


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_without_an_exception(text: str) -> None:
    parse(text.encode(errors="replace"), "x.yaml")
    plan([SourceFile("x.yaml", text.encode(errors="replace"))], {})


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_file_is_read_without_an_exception(data: st.DataObject) -> None:
    lines = GOOD.split("\n")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        start = data.draw(st.integers(0, len(lines[at])))
        piece = data.draw(
            st.sampled_from(["", "[", "{", "}", ": ", "- ", "null", "0", "'", "$extends"])
        )
        end = data.draw(st.integers(start, len(lines[at])))
        lines[at] = lines[at][:start] + piece + lines[at][end:]
    plan([SourceFile("x.yaml", "\n".join(lines).encode())], {})


@pytest.mark.parametrize(
    ("text", "way_out"),
    [
        ("a: [1, 2\n", "close the list"),
        ('{"a": 1', "close the object"),
        ("a: 'x\n", "close the quotes"),
        ("a: 1\n- b\n", "same column"),
        ('{"a": 1,, }', "comma"),
        ('a: "\\q"\n', "backslash"),
        ("a: b: c\n", "quote text"),
        ("\ta: 1\n", "spaces"),
        ("a: |x\n  b\n", "next line"),
        ("a: \x01\n", "take the character out"),
        ("%YAML 9\n---\n", "in the line before"),
    ],
)
def test_text_that_can_not_be_read_comes_with_a_way_out(text: str, way_out: str) -> None:
    (problem,) = found(text)
    assert problem.code == "syntax"
    assert way_out in problem.hint
