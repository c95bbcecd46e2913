"""Comparing versions, with and without the memo."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.targeting import semver

ORDERED = [
    "0.9.9", "1.0.0-0", "1.0.0-1", "1.0.0-9", "1.0.0-10", "1.0.0--", "1.0.0-alpha", "1.0.0-alpha.1",
    "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0",
    "1.0.1", "1.2.0", "1.10.0", "2.0.0",
]  # fmt: skip
OPERATORS = ["=", "!=", "<", "<=", ">", ">=", "^", "~", "nope"]


def test_precedence_is_semvers() -> None:
    for (place, left), (other, right) in itertools.product(enumerate(ORDERED), repeat=2):
        assert semver.compare(left, "<", right) is (place < other)
        assert semver.compare(left, ">=", right) is (place >= other)
        assert semver.compare(left, "=", right) is (place == other)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("1", "1.0.0"), ("v1.2", "1.2.0"), ("V1.2.3", "1.2.3"), (3, "3.0.0"), (1.5, "1.5.0"),
     ("1.2.3+build.5", "1.2.3"), ("1-rc", "1.0.0-rc"), ("1.2+b", "1.2.0")],
)  # fmt: skip
def test_what_is_written_otherwise_is_the_same_version(written: object, meant: str) -> None:
    assert semver.compare(written, "=", meant) is True


@pytest.mark.parametrize(
    "written", ["", "x", "1.2.3.4", "01.0.0", "1.0.0-", "1.0.0-01", "vv1", "-1", None, True, [1],
                "1" * 5_000, "\uff11.0.0", "1.0.0\n"],
)  # fmt: skip
def test_what_is_no_version_compares_to_nothing(written: object) -> None:
    assert semver.compare(written, "=", "1.0.0") is None
    assert semver.compare("1.0.0", "=", written) is None


def test_same_major_and_same_minor() -> None:
    assert semver.compare("1.9.9", "^", "1.0.0") is True
    assert semver.compare("2.0.0", "^", "1.0.0") is False
    assert semver.compare("1.2.9", "~", "1.2.0") is True
    assert semver.compare("1.3.0", "~", "1.2.0") is False


odd = st.one_of(st.integers(0, 2), st.booleans(), st.floats(0, 2), st.none())


@given(
    st.lists(st.one_of(st.sampled_from(ORDERED), odd)),
    st.sampled_from(OPERATORS),
    st.sampled_from(ORDERED),
)
def test_the_memo_says_what_comparing_says(versions: list[object], op: str, literal: str) -> None:
    memo = semver.VersionMemos().memo(op, literal)
    for version in versions * 2:
        assert memo[version] is semver.compare(version, op, literal)


def test_the_memo_is_bounded() -> None:
    memo = semver.VersionMemos().memo(">=", "1.0.0")
    for patch in range(3 * semver.MEMO_VERSIONS_MAX):
        assert memo[f"1.0.{patch}"] is True
    assert memo["9" * 100_000] is None
    assert len(memo) <= semver.MEMO_VERSIONS_MAX
    assert all(len(version) <= semver.MEMO_CHARS_MAX for version in memo)


def test_all_memos_together_are_bounded() -> None:
    memos = semver.VersionMemos()
    most = 0
    for literal in range(100):
        memo = memos.memo(">=", f"{literal}.0.0")
        for patch in range(500):
            assert memo[f"100.0.{patch}"] is True
        most = max(most, len(memos))
    assert semver.ALL_VERSIONS_MAX // 2 < most <= semver.ALL_VERSIONS_MAX
