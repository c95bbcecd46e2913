"""Text to tree: what YAML and JSON become, and everything that is refused, with its place."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core import limits
from holdfast.core.authoring.tree import read_tree


def plain(text: str) -> object:
    tree = read_tree(text.encode(), "x.yaml")
    assert tree.problems == []
    assert tree.root is not None
    return tree.root.plain()


def problems(text: bytes) -> list[tuple[str, int, int]]:
    return [(p.code, p.line, p.column) for p in read_tree(text, "x.yaml").problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("No", "No"),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("12", 12), ("-3", -3), ("+4", 4), ("1.5", 1.5), (".5", 0.5), ("1e3", 1000), ("3.0", 3),
        ("-0.0", 0), ("1_000", "1_000"), ("0o17", "0o17"), ("017", "017"), ("0x1F", "0x1F"),
        ("1:30", "1:30"), ("2026-12-01", "2026-12-01"), ("1.2.3", "1.2.3"), ("'1'", "1"),
    ],
)  # fmt: skip
def test_plain_scalars_follow_yaml_1_2_without_its_ambiguous_numbers(
    text: str, value: object
) -> None:
    found = plain(f"key: {text}")
    assert found == {"key": value}
    assert type(found["key"]) is type(value)  # type: ignore[index]


def test_keys_are_text_as_written() -> None:
    assert plain("{on: 1, 10: 2, true: 3, 1.0: 4}") == {"on": 1, "10": 2, "true": 3, "1.0": 4}


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        (b"", "empty", 1, 1),
        (b"# only a comment\n", "empty", 1, 1),
        (b"a: 1\nb: 2\na: 3\n", "duplicate-key", 3, 1),
        (b'{"a": 1,\n "a": 2}', "duplicate-key", 2, 2),
        (b"a: &x 1", "anchor", 1, 4),
        (b"a: &x 1\nb: *x", "alias", 2, 4),
        (b"a: !!str 1", "tag", 1, 4),
        (b"a: !thing {}", "tag", 1, 4),
        (b"a: .nan", "not-a-number", 1, 4),
        (b"a: -.inf", "not-a-number", 1, 4),
        (b'{"a": NaN}', "not-a-number", 1, 7),
        (b'{"a": -Infinity}', "not-a-number", 1, 7),
        (b"a: 9007199254740992", "number-range", 1, 4),
        (b"a: 1e999", "number-range", 1, 4),
        (b"a: -1e-999", "number-range", 1, 4),
        ("a: 1\n# b\u2028c: 2".encode(), "hidden-break", 2, 4),
        ("a: 'b\x85c'".encode(), "hidden-break", 1, 6),
        ("{a: b\u2029c}".encode(), "hidden-break", 1, 6),
        (b"a: 1\n---\nb: 2", "several-documents", 2, 1),
        (b"\xff\xfe", "encoding", 0, 0),
        (b'a: "\\ud800"', "lone-surrogate", 1, 7),
        (b'{"a": "\\udc00"}', "lone-surrogate", 1, 10),
        (b"a: b: c", "syntax", 1, 5),
        (b"a: [1, 2", "syntax", 2, 1),
        (b"\ta: 1", "syntax", 1, 1),
        (b"a: 1\nb: \x01", "syntax", 2, 4),
        (b"? [a, b]\n: 1", "key", 1, 3),
        (b"a: " + b"x" * limits.DOCUMENT_BYTES_MAX, "too-large", 0, 0),
    ],
)
def test_what_has_no_place_in_a_settings_file(
    text: bytes, code: str, line: int, column: int
) -> None:
    assert (code, line, column) in problems(text)


def test_a_duplicate_key_names_both_places() -> None:
    (problem,) = read_tree(b"a: 1\n  \na: 2", "x.yaml").problems
    assert "line 1, column 1" in problem.message
    assert (problem.file, problem.line, problem.path) == ("x.yaml", 3, "")


@pytest.mark.parametrize("depth", [1_000, 100_000])
@pytest.mark.parametrize("opening", ["[", '{"a":', "- ", "a:\n "])
def test_depth_without_end_is_one_problem_and_no_recursion(opening: str, depth: int) -> None:
    if opening == "a:\n ":
        text = "".join(" " * min(n, 5_000) + "a:\n" for n in range(min(depth, 1_000)))
    else:
        text = opening * depth
    started = time.monotonic()
    assert [code for code, _, _ in problems(text.encode())] == ["too-deep"]
    assert time.monotonic() - started < 5


def test_several_things_wrong_are_all_told() -> None:
    found = problems(b"a: .nan\nb: &x 1\nc: *x\na: 2\nd: !!int 3\ne: 99999999999999999\n")
    assert [code for code, _, _ in found] == [
        "not-a-number", "anchor", "alias", "duplicate-key", "tag", "number-range",
    ]  # fmt: skip


def test_columns_count_characters_and_survive_a_byte_order_mark() -> None:
    tree = read_tree("\ufeff{é😀: 1, b: .nan}".encode(), "x.yaml")
    assert [(p.line, p.column) for p in tree.problems] == [(1, 12)]


values = st.recursive(
    st.none() | st.booleans() | st.text() | st.integers(-(2**53) + 1, 2**53 - 1),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(min_size=1, max_size=20), values, max_size=5), st.booleans())
def test_json_is_read_as_json(value: dict[str, object], ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    tree = read_tree(text.encode(), "x.json")
    assert tree.problems == []
    assert tree.root is not None
    assert tree.root.plain() == value


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_give_a_tree_or_problems(text: bytes) -> None:
    tree = read_tree(text, "x.yaml")
    assert tree.problems or tree.root is not None
