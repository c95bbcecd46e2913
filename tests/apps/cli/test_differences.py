"""Differences for people."""

from __future__ import annotations

import click

from holdfast.apps.cli.differences import difference_lines, summary
from holdfast.core.difference import Difference

SETTING = {
    "type": "integer",
    "variants": {"few": 9, "many": 49},
    "environments": {
        "production": {"default": "few", "rules": [{"when": "true", "serve": "many"}]},
        "staging": {"default": "many", "enabled": False},
    },
}
CHANGED = {
    **SETTING,
    "variants": {"few": 9, "many": 50},
    "environments": {
        "production": {"default": "many", "rules": [{"when": "true", "serve": "many"}]},
        "staging": {"default": "many", "enabled": False},
    },
}


def lines(*differences: Difference) -> list[str]:
    return [click.unstyle(line).rstrip() for line in difference_lines(differences)]


def setting(before: object, after: object) -> Difference:
    return Difference(
        kind="setting",
        name="tiles",
        service="calling",
        environments=("production",),
        before=before,
        after=after,
    )


def test_a_new_setting_shows_what_it_will_be() -> None:
    assert lines(setting(None, SETTING)) == [
        "+ calling/tiles  (production)",
        "    everywhere  integer: few 9, many 49",
        "    production  default few, 1 rule",
        "    staging     default many, disabled",
    ]


def test_a_changed_setting_shows_what_moved_and_where() -> None:
    assert lines(setting(SETTING, CHANGED)) == [
        "~ calling/tiles  (production)",
        "    everywhere  variants.many: 49 -> 50",
        '    production  default: "few" -> "many"',
    ]


def test_a_setting_that_goes_shows_what_it_was() -> None:
    assert lines(setting(SETTING, None))[0] == "- calling/tiles  (production)"


def test_true_is_not_one() -> None:
    before = {**SETTING, "variants": {"few": True}}
    after = {**SETTING, "variants": {"few": 1}}
    assert "    everywhere  variants.few: true -> 1" in lines(setting(before, after))


def test_what_comes_or_goes_inside_is_called_so() -> None:
    after = {**SETTING, "environments": {"production": SETTING["environments"]["production"]}}  # type: ignore[index]
    assert lines(setting(SETTING, after))[1].startswith("    staging  all: {")
    assert lines(setting(SETTING, after))[1].endswith("-> nothing")


def test_long_values_are_cut() -> None:
    after = {**SETTING, "variants": {"few": "x" * 500, "many": 49}}
    assert all(len(line) < 120 for line in lines(setting(SETTING, after)))


def test_other_nouns_are_named() -> None:
    segment = Difference(kind="segment", name="pilot", service="shared", after={"members": ["a"]})
    token = Difference(kind="token", name="k3v9", before={"name": "ci"})
    assert lines(segment, token) == ["+ shared/pilot (segment)", "- token k3v9"]


def test_the_count_of_each_kind() -> None:
    differences = [setting(None, SETTING), setting(SETTING, CHANGED), setting(SETTING, None)]
    assert summary(differences) == "1 to add, 1 to change, 1 to remove"


def test_what_was_pushed_and_contexts_are_told_in_their_environment() -> None:
    pushed = Difference(
        kind="override",
        name="tiles",
        service="calling",
        environments=("production",),
        after={"value": 9},
        summary="9 pushed by linus in revision 12: INC-7",
    )
    contexts = Difference(
        kind="contexts",
        name="staging",
        service="calling",
        before=[{}],
        after=[{}, {"tier": "gold"}],
        summary="contexts that probes are made from: 1 -> 2",
    )
    assert lines(pushed, contexts) == [
        "+ calling/tiles (pushed over)  (production)",
        "    production  9 pushed by linus in revision 12: INC-7",
        "~ calling (contexts in staging)",
        "    staging  contexts that probes are made from: 1 -> 2",
    ]
