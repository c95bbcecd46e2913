"""Rules and contexts to try on two evaluators: every operator, with right and odd arguments."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

KEY = "the-flag"

TEXTS = [
    "", "a", "b", "ab", "true", "null", "1", "2", "1.0", " 5 ", "0x1f", "1_0", "inf", "infinity",
    "-inf", "nan", "length", "contoso", "fabrikam", "é", "日本", "𝄞", "a,b", "x.y",
    "[object Object]",
]  # fmt: skip
VERSIONS = [
    "1.5.0", "1.5", "1", "v1.5.0", "V2", "1.5.0-rc.1", "1.5.0-rc.10", "1.5.0-rc.x", "1.5.0+build.7",
    "1.5.0-1", "2.0.0", "1.10.0", "01.0.0", "1.5.0.0", "1.5.0-", "1.5.0-01", "vv1", "-1", "1.5-x",
    "+1",     "1.5.0-0a", "1.5.0--", "99999999999999999999.0.0", "\uff11.0.0",
]  # fmt: skip
ATTRIBUTES = [
    "tenant", "user", "version", "n", "f", "beta", "list", "texts", "object", "nothing", "absent",
]  # fmt: skip
PATHS = [
    *ATTRIBUTES, "targetingKey", "$flagd.flagKey", "$flagd.timestamp", "$flagd", "$flagd.absent",
    "object.a", "object.b.c", "object.absent", "list.0", "list.1", "list.-1", "list.length",
    "list.00", "tenant.0", "tenant.length", "", ".", "object.", "n.a", "accumulator", "current",
    "0", "1",
]  # fmt: skip
VARIANTS: dict[str, Any] = {
    "on": True, "off": False, "true": "yes", "false": "no", "a": 1, "b": 2.5, "ab": None, "1": [1],
    "2.0": {"x": 1}, "null": 0, "": "empty", "contoso": "c", "NaN": -1, "nan": -2, "0": -0.0,
    "[]": "list", "True": "T",
}  # fmt: skip

texts = st.one_of(st.sampled_from(TEXTS), st.sampled_from(VERSIONS), st.text(max_size=4))
integers = st.one_of(
    st.integers(-3, 12),
    st.sampled_from(
        [2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**30]
    ),
)
floats = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 0.5, -1.5, 1e15, 1e16, 1e22, 2.0**63, 2.0**64, 1e-7, 1e300]),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)
scalars = st.one_of(st.none(), st.booleans(), integers, floats, texts)
paths = st.sampled_from(PATHS)


def call(op: str, *args: Any) -> dict[str, Any]:
    return {op: list(args)}


variables = st.one_of(
    paths.map(lambda path: {"var": path}),
    paths.map(lambda path: {"var": [path]}),
    st.tuples(paths, scalars).map(lambda both: {"var": list(both)}),
    st.sampled_from([0, 1, -1, 1.0, 0.5, True, None, []]).map(lambda key: {"var": key}),
)
objects = st.sampled_from([{}, {"a": 1, "b": {"var": "n"}}])
constant_lists = st.lists(scalars, max_size=5)
leaves = st.one_of(variables, scalars, variables, constant_lists, objects)

COMPARING = ["==", "!=", "===", "!==", "<", ">", "<=", ">="]
ANY_OPERATOR = [
    *COMPARING, "!", "!!", "+", "-", "*", "/", "%", "min", "max", "in", "cat", "substr", "merge",
    "log", "if", "?:", "and", "or", "var", "missing", "missing_some", "map", "filter", "reduce",
    "all", "some", "none", "starts_with", "ends_with", "sem_ver", "fractional", "nope", "$ref",
    "a.b", "",
]  # fmt: skip
SEMVER_OPERATORS = ["=", "!=", "<", "<=", ">", ">=", "^", "~", "==", "", None, 1]

attributes = st.sampled_from(ATTRIBUTES).map(lambda name: {"var": name})
versions = st.one_of(st.sampled_from(VERSIONS), st.integers(0, 3), st.floats(0, 3, width=16))
arms = st.one_of(
    st.tuples(st.sampled_from(["on", "off", "a", "b", "nope"]), st.integers(0, 100)).map(list),
    st.tuples(st.sampled_from(["on", "off", "a"])).map(list),
    st.tuples(st.sampled_from(list(VARIANTS)), integers).map(list),
    st.tuples(scalars, scalars).map(list),
)


def calls(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One more operator around what `inner` makes."""
    value = st.one_of(attributes, inner)
    listed = st.one_of(attributes, constant_lists, inner, st.lists(inner, max_size=3))
    return st.one_of(
        st.builds(call, st.sampled_from(COMPARING), value, inner),
        st.builds(call, st.sampled_from(COMPARING), inner, value, inner),
        st.builds(lambda op, args: {op: args}, st.sampled_from(["and", "or"]),
                  st.lists(inner, max_size=4)),
        st.builds(lambda args: {"if": args}, st.lists(inner, max_size=6)),
        st.builds(call, st.just("in"), value, listed),
        st.builds(call, st.sampled_from(["!", "!!", "log"]), value),
        st.builds(lambda op, args: {op: args},
                  st.sampled_from(["+", "-", "*", "/", "%", "min", "max", "cat", "merge"]),
                  st.lists(value, max_size=4)),
        st.builds(call, st.just("substr"), value, st.integers(-4, 4), st.integers(-4, 4)),
        st.builds(call, st.just("sem_ver"), st.one_of(attributes, versions),
                  st.sampled_from(SEMVER_OPERATORS), versions),
        st.builds(call, st.sampled_from(["starts_with", "ends_with"]), value,
                  st.one_of(texts, inner)),
        fractionals(inner),
        st.builds(call, st.sampled_from(["map", "filter", "all", "some", "none"]), listed, inner),
        st.builds(call, st.just("reduce"), listed, inner, st.one_of(scalars, inner)),
        st.builds(lambda keys: {"missing": keys}, st.lists(st.one_of(paths, inner), max_size=3)),
        st.builds(call, st.just("missing_some"), integers, st.lists(paths, max_size=3)),
        st.builds(lambda op, args: {op: args}, st.sampled_from(ANY_OPERATOR),
                  st.one_of(inner, st.lists(inner, max_size=4))),
        st.lists(inner, max_size=3),
    )  # fmt: skip


def fractionals(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.one_of(
        attributes,
        st.just({"cat": [{"var": "$flagd.flagKey"}, {"var": "user"}]}),
        st.just({"cat": ["seed", {"var": "tenant"}]}),
        st.just({"var": "targetingKey"}),
        inner,
    )
    nested = st.tuples(inner, st.one_of(st.integers(0, 100), inner)).map(list)
    return st.one_of(
        st.builds(lambda shares: {"fractional": shares}, st.lists(arms, max_size=4)),
        st.builds(
            lambda key, shares: {"fractional": [key, *shares]}, keys, st.lists(arms, max_size=4)
        ),
        st.builds(
            lambda key, shares: {"fractional": [key, *shares]},
            keys,
            st.lists(st.one_of(arms, nested), max_size=3),
        ),
    )


logic = st.recursive(leaves, calls, max_leaves=12)
variants = st.sampled_from(list(VARIANTS))
conditions = st.one_of(
    st.builds(call, st.just("in"), attributes, st.lists(st.sampled_from(["contoso", "a", "b", 1]))),
    st.builds(call, st.just("sem_ver"), st.just({"var": "version"}),
              st.sampled_from(SEMVER_OPERATORS[:8]), st.sampled_from(VERSIONS)),
    st.builds(call, st.sampled_from(COMPARING), attributes, scalars),
    st.builds(call, st.sampled_from(["starts_with", "ends_with"]), attributes, texts),
    st.builds(call, st.sampled_from(["and", "or"]), logic, logic),
    logic,
)  # fmt: skip
serves = st.one_of(variants, fractionals(logic), variants, logic)


@st.composite
def chains(draw: st.DrawFn) -> Any:
    """Rules as Holdfast lowers them: condition, answer, condition, answer, and perhaps the rest."""
    pairs = draw(st.lists(st.tuples(conditions, serves), min_size=1, max_size=4))
    rest = draw(st.one_of(serves.map(lambda last: [last]), st.just([])))
    return {"if": [part for pair in pairs for part in pair] + rest}


targetings = st.one_of(
    chains(),
    logic.filter(lambda rule: isinstance(rule, dict)),
    chains(),
    fractionals(logic),
)

json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc01"), inner, max_size=3)
    ),
    max_leaves=4,
)
expected = {
    "targetingKey": st.text(min_size=1, max_size=4),
    "tenant": st.sampled_from(["contoso", "fabrikam", "a", ""]),
    "user": texts,
    "version": st.sampled_from(VERSIONS),
    "n": integers,
    "f": floats,
    "beta": st.booleans(),
    "list": st.lists(json_values, max_size=4),
    "texts": st.lists(texts, max_size=4),
    "object": st.fixed_dictionaries({"a": scalars}, optional={"b": json_values}),
    "nothing": st.none(),
}
odd = dict.fromkeys(expected, json_values) | {"$flagd": json_values}
contexts = st.one_of(
    st.fixed_dictionaries(expected),
    st.fixed_dictionaries({}, optional=expected),
    st.builds(
        lambda usual, unusual: usual | unusual,
        st.fixed_dictionaries(expected),
        st.fixed_dictionaries({}, optional=odd),
    ),
)
defaults = st.sampled_from(["off", "on", "ab", "missing", "", None, True, False])


@st.composite
def flags(draw: st.DrawFn, asking: int) -> tuple[str, list[dict[str, Any]]]:
    """A flagd document as text, with one flag, and the contexts of `asking` who ask for it."""
    flag = {
        "state": "ENABLED",
        "variants": VARIANTS,
        "targeting": draw(targetings),
        "defaultVariant": draw(defaults),
    }
    document = json.dumps({"flags": {KEY: flag}})
    return document, draw(st.lists(contexts, min_size=asking, max_size=asking))


plain_rules = st.sampled_from(
    [
        {"in": [{"var": "tenant"}, ["contoso", "a"]]},
        {"==": [{"var": "n"}, 1]},
        {"!": {"var": "beta"}},
        True,
        "on",
        ["on"],
        None,
    ]
)
metadata = st.dictionaries(
    st.sampled_from(["owner", "version"]),
    st.one_of(st.booleans(), st.integers(0, 3), st.sampled_from(["a", "b"]), st.just(1.5)),
)
references = st.sampled_from([{"$ref": "one"}, {"$ref": "two"}, {"$ref": "absent"}])


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]]]:
    """Documents with references, metadata, and whatever flagd takes for a definition."""
    whole = st.one_of(
        references, st.sampled_from([{}, None, [], 0, "", [1], "on", {"a": 1, "b": 2}])
    )
    flag = {
        "state": draw(st.sampled_from(["ENABLED", "ENABLED", "DISABLED"])),
        "variants": draw(st.sampled_from([VARIANTS, {"on": 1}, {"true": 1, "false": 0}])),
        "targeting": draw(
            st.one_of(
                st.builds(lambda rule: {"if": [rule, "on", "off"]}, references),
                st.builds(lambda rule: {"if": [{"and": [True, rule]}, "on"]}, references),
                whole,
            )
        ),
        **draw(
            st.fixed_dictionaries({}, optional={"metadata": metadata, "defaultVariant": defaults})
        ),
    }
    document = {
        "flags": {KEY: flag},
        **draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "metadata": metadata,
                    "$evaluators": st.fixed_dictionaries(
                        {}, optional={"one": plain_rules, "two": plain_rules}
                    ),
                },
            )
        ),
    }
    return json.dumps(document), draw(st.lists(contexts, min_size=2, max_size=2))
