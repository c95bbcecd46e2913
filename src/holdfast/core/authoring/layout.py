"""What a settings file looks like: the one source of its checks and of its JSON Schema."""

from __future__ import annotations

from typing import Final, get_args

from holdfast.core import limits
from holdfast.core.authoring.shape import (
    Anything,
    Field,
    ListOf,
    MapOf,
    Nullable,
    Record,
    Switch,
    Text,
    Whole,
    schema,
)
from holdfast.core.model import JSON, KEY, NAME, AttributeType, SettingType
from holdfast.core.probe_check import WRITTEN_MAX

SCHEMA_ID: Final = "https://holdfast.dev/schema/v1/settings.schema.json"
_NAME_HINT: Final = "use lower-case letters, digits and dashes, at most 63"

NAMES: Final = Text("a name", pattern=NAME, hint=_NAME_HINT)
KEYS: Final = Text(
    "a key",
    pattern=KEY,
    hint="use letters, digits, `_`, `-` and single dots, at most 128: clients put it into URLs",
)
ATTRIBUTES: Final = Text(
    "a name of an attribute",
    pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$",
    hint="use letters, digits and `_`, so that conditions can name it",
)
VARIANT_NAMES: Final = Text("a name", pattern=r"^[^$]", chars_max=limits.NAME_CHARS_MAX,
                            hint="begin with anything but `$`")  # fmt: skip
_VARIANT: Final = Text("a name of a variant", pattern=r"^[^$]", chars_max=limits.NAME_CHARS_MAX,
                       hint="name one of the variants")  # fmt: skip
_LOGIC: Final = Anything("JsonLogic", ("object", "boolean"))
_CONDITION: Final = Text("a condition in CEL", chars_max=limits.SOURCE_CHARS_MAX)
_MEMBER: Final = Text("text", chars_max=limits.TEXT_CHARS_MAX)

SPLIT: Final = Record(
    "split",
    {
        "weights": Field(
            MapOf(Whole(limits.WEIGHT_SUM_MAX), _VARIANT, "a mapping of variants to weights",
                  limits.VARIANTS_MAX, 1),
            "Variant to whole-number weight: its share of the sum.",
            required=True,
            examples=({"many": 10, "few": 90},),
        ),
        "by": Field(
            Text("a name of an attribute", pattern="^.", hint="leave it out for the targetingKey"),
            "The attribute that sticks to its share; the targetingKey without it. "
            "Who lacks it goes on to the next rule.",
            examples=("user", "tenant"),
        ),
        "seed": Field(
            Text(),
            "Splits with the same seed and attribute fall alike; without one they are independent.",
        ),
    },
    noun="a mapping with `weights`",
)  # fmt: skip
RULE: Final = Record(
    "rule",
    {
        "name": Field(Text(), "What the rule is for; `explain` shows it."),
        "when": Field(
            _CONDITION,
            "The condition in CEL. A rule without one always decides.",
            examples=('tenant in segment("pilot") && semver(version) >= semver("1.5.0")',),
        ),
        "logic": Field(
            _LOGIC, "The condition as JsonLogic with flagd's operators, instead of `when`."
        ),
        "serve": Field(_VARIANT, "The variant to serve."),
        "split": Field(SPLIT, "Shares of the audience, instead of `serve`."),
    },
    together={
        "oneOf": [{"required": ["serve"]}, {"required": ["split"]}],
        "not": {"required": ["when", "logic"]},
    },
)
TARGETING: Final = Record(
    "targeting",
    {
        "enabled": Field(Switch(), "False turns the setting off: callers get their own default."),
        "default": Field(
            Nullable(_VARIANT),
            "The variant when no rule decides; none means the caller's own default.",
        ),
        "rules": Field(
            ListOf(RULE, "a list of rules", limits.RULES_MAX), "The first that holds decides."
        ),
        "targeting": Field(
            Anything("JsonLogic", ("object",)),
            "Raw JsonLogic that gives a variant, instead of `rules`.",
        ),
    },
    together={
        "not": {
            "required": ["rules", "targeting"],
            "properties": {"rules": {"minItems": 1}, "targeting": {"minProperties": 1}},
        }
    },
)
PROBE: Final = Record(
    "probe",
    {
        "context": Field(
            Anything("a mapping of attributes", ("object",)),
            "Who asks: attributes of the evaluation context.",
            required=True,
            examples=({"targetingKey": "user-1", "tenant": "contoso"},),
        ),
        "expected": Field(
            Anything(),
            "The value that must come out, of whichever variant; null for the caller's default.",
            required=True,
        ),
        "environments": Field(
            ListOf(NAMES, "a list of environments", limits.ENVIRONMENTS_MAX),
            "Where that holds; without it, in all environments of the setting.",
        ),
    },
)
SETTING: Final = Record(
    "setting",
    {
        "type": Field(
            Text("a type of setting", words=get_args(SettingType)),
            "What callers get.",
            required=True,
        ),
        "description": Field(Text(), "What it does, for those who operate it."),
        "schema": Field(
            Anything("a JSON Schema", ("object", "boolean")),
            "A JSON Schema that every variant must satisfy.",
            examples=({"minimum": 1, "maximum": 49},),
        ),
        "metadata": Field(
            MapOf(Anything("text, a number, or true or false", ("string", "number", "boolean")),
                  Text(chars_max=limits.NAME_CHARS_MAX)),
            "Facts that callers get along with the value.",
        ),
        "expires": Field(
            Text("a date", pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
                 hint="write it as 2026-12-31"),
            "The day on which somebody should remove the setting.",
            examples=("2026-12-31",),
        ),
        "variants": Field(
            MapOf(Anything(), VARIANT_NAMES, "a mapping of names", limits.VARIANTS_MAX, 1),
            "The values by name. An object may be written as `{$extends: other, …}`: a JSON "
            "merge patch over another variant.",
            required=True,
        ),
        "environments": Field(
            MapOf(TARGETING, NAMES, "a mapping of environments", limits.ENVIRONMENTS_MAX),
            "Who gets which variant, by environment.",
        ),
        "probes": Field(
            ListOf(PROBE, "a list of probes", WRITTEN_MAX),
            "Contexts with the value that must come out: checked at every change, and by every "
            "consumer before it takes one.",
        ),
    },
)  # fmt: skip
_AUDIENCE: Final = {
    "by": Field(
        Text("a name of an attribute", pattern="^.", hint="name the attribute"),
        "The attribute whose values are listed.",
    ),
    "members": Field(ListOf(_MEMBER, "a list of text", limits.SEGMENT_MEMBERS_MAX), "The values."),
    "members_file": Field(
        Text("a path"), "A file with one value to a line, its path relative to this file."
    ),
    "members_digest": Field(
        Text("a SHA-256 digest", pattern="^[0-9a-f]{64}$"), "A list that the service holds already."
    ),
    "member_count": Field(Whole(limits.SEGMENT_MEMBERS_MAX), "How many values that list has."),
    "table_digest": Field(
        Text("a SHA-256 digest", pattern="^[0-9a-f]{64}$"), "The table made from that list."
    ),
    "table_bytes": Field(Whole(limits.SEGMENT_BYTES_MAX), "How many bytes the table has."),
    "when": Field(_CONDITION, "A condition in CEL, instead of a list."),
    "logic": Field(_LOGIC, "A condition as JsonLogic, instead of a list."),
}
GOES_WITH: Final = {
    **dict.fromkeys(("members", "members_file", "members_digest"), "by"),
    **dict.fromkeys(("member_count", "table_digest", "table_bytes"), "members_digest"),
}
"""What means nothing in an audience without another field."""
_ONE_KIND: Final = {
    "oneOf": [
        {"required": ["by", "members"]},
        {"required": ["by", "members_file"]},
        {"required": ["by", "members_digest"]},
        {"required": ["when"]},
        {"required": ["logic"]},
    ],
    "not": {"anyOf": [{"required": ["by", "when"]}, {"required": ["by", "logic"]}]},
    "dependentRequired": {name: [whole] for name, whole in GOES_WITH.items()},
}
AUDIENCE: Final = Record("audience", _AUDIENCE, together=_ONE_KIND)
SEGMENT: Final = Record(
    "segment",
    {
        "description": Field(Text(), "Who that is."),
        **_AUDIENCE,
        "environments": Field(
            MapOf(AUDIENCE, NAMES, "a mapping of environments", limits.ENVIRONMENTS_MAX),
            "Another audience in these environments.",
        ),
    },
    together=_ONE_KIND,
)
DOCUMENT: Final = Record(
    "document",
    {
        "service": Field(NAMES, "The service's name. The file is the whole of it.", required=True),
        "description": Field(Text(), "What the service is."),
        "owners": Field(ListOf(Text(), "a list of text", 64), "Who answers for it."),
        "depends_on": Field(ListOf(NAMES, "a list of services", 256), "Services that it calls."),
        "includes": Field(
            ListOf(NAMES, "a list of services", 64),
            "Shared services whose settings and segments are its own too.",
        ),
        "attributes": Field(
            MapOf(
                Text("a type of attribute", words=get_args(AttributeType)), ATTRIBUTES, most=1_000
            ),
            "Attributes of the evaluation context that conditions may use, with their types.",
            examples=({"tenant": "string", "seats": "integer", "roles": "list<string>"},),
        ),
        "segments": Field(
            MapOf(SEGMENT, NAMES, "a mapping of segments", limits.SEGMENTS_MAX), "Named audiences."
        ),
        "settings": Field(
            MapOf(SETTING, KEYS, "a mapping of settings", limits.SETTINGS_MAX),
            "The settings by key.",
        ),
    },
)


def json_schema() -> dict[str, JSON]:
    """The JSON Schema of a settings file, for editors."""
    definitions: dict[str, JSON] = {}
    root = schema(DOCUMENT, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Holdfast settings of one service",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }
