"""Conditions in, JsonLogic out: what each construct becomes, and that it means what CEL means."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from json_logic import jsonLogic
from openfeature.contrib.tools.flagd.core.targeting.targeting import OPERATORS

from holdfast.core import limits
from holdfast.core.cel import Scope, lower
from holdfast.core.cel.environment import _environment

SCOPE = Scope(
    {
        "s": "string", "t": "string", "n": "integer", "k": "integer", "f": "number",
        "b": "boolean", "c": "boolean", "l": "list<string>", "m": "map", "at": "timestamp",
        "version": "string", "tenant": "string",
    },
    {
        "pilot": frozenset({"tenant"}),
        "eu": frozenset({""}),
        "mixed": frozenset({"tenant", "s"}),
    },
)  # fmt: skip
EXAMPLES = int(os.environ.get("HOLDFAST_CEL_EXAMPLES", "300"))


def logic(source: str) -> Any:
    lowered = lower(source, SCOPE)
    assert lowered.problems == ()
    return lowered.logic


def problems(source: str) -> list[tuple[str, int, int]]:
    return [(p.code, p.line, p.column) for p in lower(source, SCOPE).problems]


def holds(source: str, context: dict[str, Any]) -> bool:
    """As flagd's own core evaluates the lowered condition."""
    data = {"$flagd": {"flagKey": "key", "timestamp": 1_000_000}, **context}
    return bool(jsonLogic(logic(source), data, OPERATORS))


def cel(source: str, context: dict[str, Any]) -> bool:
    """As CEL itself evaluates it: an error is no match."""
    expression = _environment(tuple(sorted(SCOPE.types().items()))).compile(source)
    try:
        return expression.eval(data=context).plain_value() is True
    except RuntimeError:
        return False


PRESENT = {"!==": [{"var": "n"}, None]}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("true", True),
        ("false", False),
        ('s == "a"', {"===": [{"var": "s"}, "a"]}),
        ('s != "a"', {"and": [{"!==": [{"var": "s"}, None]}, {"!==": [{"var": "s"}, "a"]}]}),
        ("n >= 5", {">=": [{"var": "n"}, 5]}),
        ("n < 5", {"and": [PRESENT, {"<": [{"var": "n"}, 5]}]}),
        ("!(n < 5)", {">=": [{"var": "n"}, 5]}),
        ("f == 1", {"===": [{"var": "f"}, 1]}),
        ("b", {"===": [{"var": "b"}, True]}),
        ("!b", {"===": [{"var": "b"}, False]}),
        ("b && c && b", {"and": [{"===": [{"var": "b"}, True]}, {"===": [{"var": "c"}, True]}]}),
        ('s in ["a", "b"]', {"in": [{"var": "s"}, ["a", "b"]]}),
        ('"a" in l', {"in": ["a", {"var": "l"}]}),
        ('s.startsWith("a")', {"starts_with": [{"var": "s"}, "a"]}),
        ('!s.endsWith("a")', {"===": [{"ends_with": [{"var": "s"}, "a"]}, False]}),
        ('s.contains("a")', {"in": ["a", {"var": "s"}]}),
        ('m.a.b == "x"', {"===": [{"var": "m.a.b"}, "x"]}),
        ('m["a"] == "x"', {"===": [{"var": "m.a"}, "x"]}),
        ('l[0] == "x"', {"===": [{"var": "l.0"}, "x"]}),
        ("has(m.a)", {"!==": [{"var": "m.a"}, None]}),
        ("is_set(s)", {"!==": [{"var": "s"}, None]}),
        ("!is_set(s)", {"===": [{"var": "s"}, None]}),
        (
            'semver(version) >= semver("1.5.0")',
            {"sem_ver": [{"var": "version"}, ">=", "1.5.0"]},
        ),
        (
            '!(semver(version) >= semver("1.5.0"))',
            {"sem_ver": [{"var": "version"}, "<", "1.5.0"]},
        ),
        ('semver(version).same_major("v1")', {"sem_ver": [{"var": "version"}, "^", "v1"]}),
        ('semver(version).same_minor("1.2")', {"sem_ver": [{"var": "version"}, "~", "1.2"]}),
        (
            'now >= timestamp("2026-12-01T00:00:00Z")',
            {">=": [{"var": "$flagd.timestamp"}, 1_796_083_200]},
        ),
        (
            'now - at < duration("1h30m")',
            {
                "and": [
                    {"!==": [{"var": "at"}, None]},
                    {"<": [{"-": [{"var": "$flagd.timestamp"}, {"var": "at"}]}, 5400]},
                ]
            },
        ),
        ('tenant in segment("pilot")', {"$ref": "pilot"}),
        (
            '!(tenant in segment("pilot"))',
            {"and": [{"!==": [{"var": "tenant"}, None]}, {"!": [{"$ref": "pilot"}]}]},
        ),
        ('in_segment("eu")', {"$ref": "eu"}),
        ('!in_segment("pilot")', {"!": [{"$ref": "pilot"}]}),
        ('l.exists(x, x == "a")', {"some": [{"var": "l"}, {"===": [{"var": ""}, "a"]}]}),
        ('targetingKey == "u"', {"===": [{"var": "targetingKey"}, "u"]}),
    ],
)
def test_what_each_construct_becomes(source: str, expected: Any) -> None:
    assert logic(source) == expected


@pytest.mark.parametrize(
    ("source", "code", "line", "column"),
    [
        ('tenat == "a"', "cel-unknown-attribute", 1, 1),
        ('s == "a" &&\n  tenat == "a"', "cel-unknown-attribute", 2, 3),
        ("s == 1", "cel-type", 1, 3),
        ("n > f || s > n", "cel-type", 1, 12),
        ("s ==", "cel-syntax", 1, 5),
        ('s == "a" and b', "cel-syntax", 1, 10),
        ("", "cel-syntax", 1, 1),
        ("n + 1", "cel-not-boolean", 1, 1),
        ('s.matches("a+")', "cel-unsupported", 1, 10),
        ("s.upper() == s", "cel-unknown-function", 1, 3),
        ('semver("1.x") < semver(version)', "cel-literal", 1, 8),
        ('semver(version) < "1.0"', "cel-type", 1, 17),
        ('now > timestamp("tomorrow")', "cel-literal", 1, 17),
        ('now > timestamp("2026-12-01")', "cel-literal", 1, 17),
        ("n / k == 1", "cel-unsupported", 1, 5),
        ("n / 2 == 1", "cel-unsupported", 1, 3),
        ("l == l", "cel-type", 1, 3),
        ("s == null", "cel-type", 1, 3),
        ("has(s)", "cel-type", 1, 5),
        ("l.exists(x, x == s)", "cel-unsupported", 1, 18),
        ('l.exists(x, in_segment("eu"))', "cel-unsupported", 1, 23),
        ('l.exists_one(x, x == "a")', "cel-unsupported", 1, 13),
        ('l.map(x, x + "a").exists(y, y == "b")', "cel-unsupported", 1, 6),
        ('m["a.b"] == 1', "cel-unsupported", 1, 2),
        ('s in segment("pilot")', "cel-segment-attribute", 1, 1),
        ('tenant in segment("eu")', "cel-segment-attribute", 1, 1),
        ('s in segment("mixed")', "cel-segment-attribute", 1, 1),
        ('in_segment("pilo")', "cel-unknown-segment", 1, 12),
        ("n == 9007199254740993", "cel-literal", 1, 6),
        ("int(f) == 1", "cel-unsupported", 1, 4),
        ("1u == 1u", "cel-type", 1, 4),
        ('b"x" == b"x"', "cel-type", 1, 6),
        ("(" * 40 + "b" + ")" * 40, "cel-too-deep", 1, 1),
    ],
)
def test_what_is_refused_says_where(source: str, code: str, line: int, column: int) -> None:
    assert (code, line, column) in problems(source)


def test_all_problems_of_a_condition_come_at_once() -> None:
    found = problems('tenat == "a" && s > 1 && foo(b)')
    assert [code for code, _, _ in found] == [
        "cel-unknown-attribute",
        "cel-type",
        "cel-unknown-function",
    ]


def test_an_unknown_attribute_comes_with_the_way_out() -> None:
    (problem,) = lower('tenat == "a"', SCOPE).problems
    assert "`tenant`" in problem.hint
    assert "attributes:" in problem.hint


def test_a_condition_that_would_explode_is_refused() -> None:
    source = "b"
    for _ in range(14):
        source = f"({source} ? b : c)"
    found = problems(source)
    assert {code for code, _, _ in found} <= {"cel-too-large", "cel-too-deep"}
    assert found


def test_a_condition_that_is_too_long_is_refused() -> None:
    source = " || ".join(['s == "a"'] * (limits.SOURCE_CHARS_MAX // 10))
    assert problems(source)[0][0] == "cel-too-long"


def test_conditions_of_segments_reach_no_segments() -> None:
    found = lower('in_segment("eu")', Scope(SCOPE.attributes)).problems
    assert [problem.code for problem in found] == ["cel-unsupported"]


@pytest.mark.parametrize(
    "source",
    ['s != "a"', '!(s == "a")', '!(s in ["a"])', "!(n > 5)", "n < 5", '!s.startsWith("a")',
     "!b", '!("a" in l)', '!l.exists(x, x == "a")', '!l.all(x, x == "a")', '!has(m.a)',
     '!(semver(version) > semver("1.0.0"))', '!s.contains("a")', "!(n % 2 == 0)"],
)  # fmt: skip
def test_negation_never_turns_a_missing_attribute_into_a_match(source: str) -> None:
    assert not holds(source, {})


def test_the_damage_of_lowering_negation_as_it_stands() -> None:
    naive = {"!": [{"===": [{"var": "s"}, "a"]}]}
    assert jsonLogic(naive, {}, OPERATORS) is True
    assert not holds('!(s == "a")', {})


def test_true_is_not_taken_for_one() -> None:
    """flagd's Python core says that they are equal, and others, that they are not."""
    one, true = ({"===": [{"var": "m.a"}, value]} for value in (1, True))
    assert logic("m.a == 1 || m.a == true") == {"or": [one, true]}
    assert logic("m.a != 1 && m.a != true && m.a != 1")["and"][1:] == [
        {"!==": [{"var": "m.a"}, 1]},
        {"!==": [{"var": "m.a"}, True]},
    ]


def test_versions_that_are_none_match_nothing() -> None:
    for version in ("", "latest", None):
        for source in ('semver(version) < semver("9.0.0")', '!(semver(version) < semver("9.0.0"))'):
            assert not holds(source, {"version": version})


def test_all_of_an_empty_list_is_true_as_in_cel() -> None:
    assert holds('l.all(x, x == "a")', {"l": []})
    assert not holds('l.exists(x, x == "a")', {"l": []})


# The property -------------------------------------------------------------------------------------

texts = st.sampled_from(["", "a", "b", "ab", "é", "😀", "10", "true"])
numbers = st.integers(-7, 7)
halves = st.integers(-14, 14).map(lambda number: number / 2)


def quoted(text: str) -> str:
    return '"' + text + '"'


def _strings(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    atoms = st.one_of(st.sampled_from(["s", "t", "m.a", "m.o.p"]), texts.map(quoted))
    return st.one_of(
        atoms,
        st.builds("({} + {})".format, st.sampled_from(["s", "t"]), texts.map(quoted)),
        st.builds("string({})".format, st.sampled_from(["n", "k"])),
        st.builds('({} ? s : "b")'.format, inner),
    )


def _numbers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    whole = st.sampled_from(["n", "k"])
    return st.one_of(
        whole,
        numbers.map(str),
        st.builds("({} {} {})".format, whole, st.sampled_from("+-*"), numbers.map(str)),
        st.builds("({} % {})".format, whole, st.sampled_from(["2", "3", "-3"])),
        st.builds("(-{})".format, whole),
        st.just("size(l)"),
        st.builds("({} ? n : 3)".format, inner),
    )


def _doubles() -> st.SearchStrategy[str]:
    literal = halves.map(lambda number: repr(float(number)))
    return st.one_of(
        st.just("f"),
        literal,
        st.builds("(f {} {})".format, st.sampled_from("+-*"), literal),
        st.just("(double(n) / 2.0)"),
    )


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    order = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    strings, whole, doubles = _strings(inner), _numbers(inner), _doubles()
    words = st.lists(texts.map(quoted), min_size=1, max_size=3).map(", ".join)
    body = st.sampled_from(
        ['x == "a"', 'x != "a"', 'x in ["a", "b"]', 'x.startsWith("a")', '!x.contains("a")',
         'x < "b"', 'x == "a" || x > "ab"', "true"]
    )  # fmt: skip
    return st.one_of(
        st.builds("({} && {})".format, inner, inner),
        st.builds("({} || {})".format, inner, inner),
        st.builds("!{}".format, inner),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["==", "!="]), inner),
        st.builds("({} {} {})".format, strings, order, strings),
        st.builds("({} {} {})".format, whole, order, whole),
        st.builds("({} {} {})".format, doubles, order, st.one_of(doubles, whole)),
        st.builds("({} in [{}])".format, strings, words),
        st.builds("({} in [1, 2, n])".format, whole),
        st.builds("({} in l)".format, strings),
        st.builds(
            "{}.{}({})".format,
            strings,
            st.sampled_from(["startsWith", "endsWith", "contains"]),
            strings,
        ),
        st.builds("l.{}(x, {})".format, st.sampled_from(["exists", "all"]), body),
    )


conditions = st.recursive(
    st.sampled_from(["b", "c", "true", "false", "m.b", "has(m.a)", "has(m.o.p)", '("a" in m)']),
    _larger,
    max_leaves=6,
)
maps = st.fixed_dictionaries(
    {},
    optional={
        "a": texts,
        "b": st.booleans(),
        "o": st.fixed_dictionaries({}, optional={"p": texts}),
    },
)
attributes = {
    "s": texts, "t": texts, "n": numbers, "k": numbers, "f": halves,
    "b": st.booleans(), "c": st.booleans(), "l": st.lists(texts, max_size=3), "m": maps,
}  # fmt: skip
whole_contexts = st.fixed_dictionaries(
    {
        **attributes,
        "m": st.fixed_dictionaries({"a": texts, "b": st.booleans(), "o": st.just({"p": "a"})}),
    }
)
any_contexts = st.fixed_dictionaries({}, optional=attributes)
contexts = st.one_of(whole_contexts, any_contexts)


def _agrees(source: str, context: dict[str, Any]) -> None:
    lowered = lower(source, SCOPE)
    if lowered.problems:
        assert {problem.code for problem in lowered.problems} <= {"cel-too-deep", "cel-too-large"}
        return
    assert holds(source, context) == cel(source, context), (source, lowered.logic, context)


@given(conditions, contexts)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_logic_means_what_the_condition_means(source: str, context: dict[str, Any]) -> None:
    """With all attributes there and with some missing."""
    _agrees(source, context)


@pytest.mark.long
@pytest.mark.timeout(1_800)
@given(conditions, contexts)
@settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_logic_means_what_the_condition_means_at_length(
    source: str, context: dict[str, Any]
) -> None:
    _agrees(source, context)


@given(st.text(max_size=60))
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_text_gives_logic_or_problems(source: str) -> None:
    lowered = lower(source, SCOPE)
    assert (lowered.logic is None) == bool(lowered.problems)
    assert all(problem.line >= 1 and problem.column >= 1 for problem in lowered.problems)
