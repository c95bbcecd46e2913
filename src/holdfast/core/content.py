"""Checks of one setting, one segment, one service by themselves, whoever wrote them.

Every check returns all problems, their paths relative to the noun. The authoring side and the write
door both call these: a file, an import and the API can't differ in what they let through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from holdfast.core import limits
from holdfast.core.errors import Problem
from holdfast.core.json_check import check_json, check_mapping_key, check_text, is_encodable
from holdfast.core.logic_check import check_logic
from holdfast.core.model import (
    JSON,
    KEY,
    NAME,
    AttributeType,
    Audience,
    Rule,
    Segment,
    Service,
    Setting,
    SettingType,
    Split,
    Targeting,
)
from holdfast.core.pointer import below, near, pointer, short
from holdfast.core.probe_check import check_probes

if TYPE_CHECKING:
    import jsonschema_rs

_KEY, _NAME = re.compile(KEY), re.compile(NAME)
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_encode = msgspec.json.Encoder(order="deterministic").encode

_FITS: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
}
_TYPE_WORDS = (
    (bool, "a boolean"), (str, "a string"), (int, "an integer"), (float, "a number"),
    (dict, "an object"), (list, "a list"),
)  # fmt: skip


def fits(value: JSON, setting_type: str) -> bool:
    """Whether a value is of a setting's type. A boolean is no integer; 3.0 is one."""
    if isinstance(value, bool):
        return setting_type == "boolean"
    if setting_type == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _FITS[setting_type])


def word(value: JSON) -> str:
    """A value's type in words."""
    return next((words for kind, words in _TYPE_WORDS if isinstance(value, kind)), "null")


def check_name(name: str, what: str, path: str = "") -> Iterator[Problem]:
    if name.startswith("_"):
        hint = "names that begin with `_` belong to Holdfast itself"
        yield Problem(code="reserved-name", message=f"`{name}` is reserved", path=path, hint=hint)
    elif not _NAME.fullmatch(name):
        hint = "use lower-case letters, digits and dashes, at most 63"
        message = f"`{short(name)}` can't name {what}"
        yield Problem(code="wrong-name", message=message, path=path, hint=hint)


def check_key(key: str) -> Iterator[Problem]:
    if not _KEY.fullmatch(key):
        hint = (
            "use letters, digits, `_`, `-` and single dots, at most 128: clients put it into URLs"
        )
        message = f"`{short(key)}` can't be a setting's key"
        yield Problem(code="wrong-name", message=message, hint=hint)
    elif key.startswith("_"):
        hint = "keys that begin with `_` belong to Holdfast itself"
        yield Problem(code="reserved-name", message=f"`{key}` is reserved", hint=hint)


def check_service(name: str, service: Service) -> list[Problem]:
    """A service's own facts; whether those that it names exist is for `core.validate`."""
    found = [*check_name(name, "a service")]
    found += check_text(service.description, "/description")
    for number, owner in enumerate(service.owners):
        found += check_text(owner, f"/owners/{number}")
    for field, names in (("depends_on", service.depends_on), ("includes", service.includes)):
        found += _repeated(names, f"/{field}")
        for number, other in enumerate(names):
            path = f"/{field}/{number}"
            found += check_name(other, "a service", path)
            if other == name:
                message, hint = f"`{name}` names itself", "take it out"
                found.append(Problem(code="self-reference", message=message, path=path, hint=hint))
    for attribute, kind in service.attributes.items():
        found += _attribute(attribute, kind)
    return found


def _attribute(name: str, kind: str) -> Iterator[Problem]:
    path = pointer(("attributes", name))
    if not _ATTRIBUTE.fullmatch(name):
        hint = "use letters, digits and `_`, so that conditions can name it"
        message = f"`{short(name)}` can't name an attribute"
        yield Problem(code="wrong-name", message=message, path=path, hint=hint)
    if kind not in get_args(AttributeType):
        hint = f"write one of {', '.join(get_args(AttributeType))}"
        message = f"`{kind}` is not a type of attribute"
        yield Problem(code="wrong-value", message=message, path=path, hint=hint)


def _repeated(names: Iterable[str], path: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name in seen:
            place, hint = f"{path}/{number}", "take one out"
            yield Problem(
                code="repeated", message=f"`{name}` stands here twice", path=place, hint=hint
            )
        seen.add(name)


# Settings ---------------------------------------------------------------------------------------


def check_setting(key: str, setting: Setting) -> list[Problem]:
    """Everything about one setting that needs no other part of the state."""
    found = [*check_key(key), *check_text(setting.description, "/description")]
    if setting.type not in get_args(SettingType):
        hint = f"write one of {', '.join(get_args(SettingType))}"
        message = f"`{setting.type}` is not a type of setting"
        found.append(Problem(code="wrong-value", message=message, path="/type", hint=hint))
        return found
    found += _expiry(setting.expires)
    found += _metadata(setting.metadata)
    found += _variants(setting)
    found += _schema(setting)
    found += _extensions(setting)
    found += check_probes(setting)
    for environment, targeting in setting.environments.items():
        path = pointer(("environments", environment))
        found += check_name(environment, "an environment", path)
        found += below(path, check_targeting(targeting, setting.variants))
    return found


def _expiry(expires: str) -> Iterator[Problem]:
    if expires and not _is_date(expires):
        message, hint = f"`{short(expires)}` is not a date", "write it as 2026-12-31"
        yield Problem(code="wrong-value", message=message, path="/expires", hint=hint)


def _is_date(text: str) -> bool:
    try:
        return bool(_DATE.fullmatch(text) and date.fromisoformat(text))
    except ValueError:
        return False


def _metadata(metadata: dict[str, Any]) -> Iterator[Problem]:
    for name, value in metadata.items():
        path = pointer(("metadata", name))
        if not isinstance(value, str | int | float | bool):
            hint = "metadata is text, numbers, true and false"
            message = f"metadata can't hold {word(value)}"
            yield Problem(code="wrong-type", message=message, path=path, hint=hint)
        yield from check_json(value, path)
        yield from check_mapping_key(name, path)


def _variants(setting: Setting) -> Iterator[Problem]:
    count = len(setting.variants)
    if not count or count > limits.VARIANTS_MAX:
        message = f"{count} variants; 1 to {limits.VARIANTS_MAX} are possible"
        hint = "add a variant" if not count else "split the setting"
        yield Problem(code="variants", message=message, path="/variants", hint=hint)
    for name, value in setting.variants.items():
        path = pointer(("variants", name))
        if not name or len(name) > limits.NAME_CHARS_MAX or name.startswith("$"):
            hint = f"use 1 to {limits.NAME_CHARS_MAX} characters and no leading `$`"
            message = f"`{short(name)}` can't name a variant"
            yield Problem(code="wrong-name", message=message, path=path, hint=hint)
        yield from check_mapping_key(name, path)
        if not fits(value, setting.type):
            message = (
                f"variant `{short(name)}` is {word(value)}, the setting's type is {setting.type}"
            )
            yield Problem(code="variant-type", message=message, path=path, hint=_type_hint(value))
        yield from _bounded(value, path)


def _type_hint(value: JSON) -> str:
    if isinstance(value, str):
        return "take the quotes off, or change the type"
    if isinstance(value, list):
        return "put the list into an object: {items: […]}"
    return "change the variant or the type"


def _bounded(value: JSON, path: str) -> Iterator[Problem]:
    problems = [*check_json(value, path)]
    yield from problems
    if not problems and len(_encode(value)) > limits.VALUE_BYTES_MAX:
        message = f"the value has more than {limits.VALUE_BYTES_MAX} bytes"
        hint = "keep large data elsewhere and refer to it"
        yield Problem(code="too-large", message=message, path=path, hint=hint)


def _schema(setting: Setting) -> Iterator[Problem]:
    if setting.schema is None:
        return
    problems = [*check_json(setting.schema, "/schema")]
    yield from problems
    if problems:
        return
    validator = validator_of(setting.schema)
    if isinstance(validator, str):
        hint = "write a JSON Schema (2020-12) without references to other files"
        yield Problem(code="schema", message=validator, path="/schema", hint=hint)
        return
    for name, value in setting.variants.items():
        if not fits(value, setting.type):
            continue
        for error in validator.iter_errors(value):
            path = pointer(("variants", name, *error.instance_path))
            hint = "change the variant or the schema"
            message = f"variant `{short(name)}`: {short(error.message, 200)}"
            yield Problem(code="variant-schema", message=message, path=path, hint=hint)


def validator_of(schema: JSON) -> jsonschema_rs.Validator | str:
    """The validator of a JSON Schema, or what is wrong with the schema."""
    return _validator(_encode(schema))


@lru_cache(maxsize=1024)
def _validator(body: bytes) -> jsonschema_rs.Validator | str:
    """The validator of a schema in JSON, or what is wrong with the schema."""
    import jsonschema_rs  # large, and most settings have no schema

    schema = msgspec.json.decode(body)
    try:
        jsonschema_rs.meta.validate(schema)
        return jsonschema_rs.validator_for(schema, retriever=_no_reference)
    except jsonschema_rs.ValidationError as error:
        return f"the schema is not valid: {short(error.message, 200)}"
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return f"the schema can't be used: {short(str(error), 200)}"


def _no_reference(uri: str) -> JSON:
    raise ValueError(f"{uri} is outside of the schema")


def _extensions(setting: Setting) -> Iterator[Problem]:
    for name, extension in setting.extends.items():
        path = pointer(("extends", name))
        for variant in (name, extension.base):
            if variant not in setting.variants:
                message = f"there is no variant `{short(variant)}` to extend"
                hint = "name a variant of the setting"
                yield Problem(code="unknown-variant", message=message, path=path, hint=hint)
        yield from check_json(extension.patch, path)


# Targeting --------------------------------------------------------------------------------------


def check_targeting(targeting: Targeting, variants: Iterable[str]) -> list[Problem]:
    """One environment of a setting that has these variants."""
    known = list(variants)
    found: list[Problem] = []
    if targeting.default is not None:
        found += _variant(targeting.default, known, "/default")
    if targeting.rules and targeting.logic is not None:
        hint = "keep one of them"
        message = "`rules` and raw `targeting` exclude each other"
        found.append(
            Problem(code="rules-and-targeting", message=message, path="/targeting", hint=hint)
        )
    if len(targeting.rules) > limits.RULES_MAX:
        message = f"{len(targeting.rules)} rules; {limits.RULES_MAX} are the most"
        hint = "name audiences as segments"
        found.append(Problem(code="too-many", message=message, path="/rules", hint=hint))
    for number, rule in enumerate(targeting.rules):
        found += below(f"/rules/{number}", check_rule(rule, known))
    if targeting.logic is not None:
        found += check_logic(targeting.logic, "/targeting", whole=True)
    return found


def check_rule(rule: Rule, variants: list[str]) -> list[Problem]:
    found = [*check_text(rule.name, "/name")]
    found += check_text(rule.when, "/when", limits.SOURCE_CHARS_MAX)
    if bool(rule.serve) == (rule.split is not None):
        message, hint = "a rule serves one variant or splits", "give `serve` or `split`"
        found.append(Problem(code="rule", message=message, hint=hint))
    elif rule.serve:
        found += _variant(rule.serve, variants, "/serve")
    if rule.when and rule.logic is None:
        hint = "compile it first: only `logic` is evaluated"
        message = "a condition without its logic"
        found.append(Problem(code="not-lowered", message=message, path="/when", hint=hint))
    if rule.logic is not None:
        found += check_logic(rule.logic, "/logic")
    if rule.split is not None:
        found += below("/split", _split(rule.split, variants))
    return found


def _split(split: Split, variants: list[str]) -> Iterator[Problem]:
    if not split.by:
        hint = "leave `by` out for the targetingKey"
        yield Problem(code="wrong-name", message="`by` is empty", path="/by", hint=hint)
    yield from check_text(split.by, "/by")
    yield from check_text(split.seed, "/seed")
    good = True
    for name, weight in split.weights.items():
        yield from _variant(name, variants, pointer(("weights", name)))
        if isinstance(weight, bool) or not isinstance(weight, int) or weight < 0:
            good = False
            hint = "use whole numbers from 0"
            path = pointer(("weights", name))
            yield Problem(code="weights", message=f"`{weight}` is no weight", path=path, hint=hint)
    total = sum(split.weights.values()) if good else 1
    if not 0 < total <= limits.WEIGHT_SUM_MAX:
        message = f"the weights sum to {total}; 1 to {limits.WEIGHT_SUM_MAX} is possible"
        hint = "give one a share" if not total else "divide them all"
        yield Problem(code="weights", message=message, path="/weights", hint=hint)


def _variant(name: str, variants: list[str], path: str) -> Iterator[Problem]:
    if name not in variants:
        close = near(name, variants)
        hint = close or f"the variants are {short(', '.join(variants), 200)}"
        message = f"there is no variant `{short(name)}`"
        yield Problem(code="unknown-variant", message=message, path=path, hint=hint)


# Segments ---------------------------------------------------------------------------------------


def check_segment(name: str, segment: Segment) -> list[Problem]:
    """Everything about one segment that needs no other part of the state."""
    found = [*check_name(name, "a segment"), *check_text(segment.description, "/description")]
    found += check_audience(segment.audience)
    for environment, audience in segment.environments.items():
        path = pointer(("environments", environment))
        found += check_name(environment, "an environment", path)
        found += below(path, check_audience(audience))
    return found


def check_audience(audience: Audience) -> list[Problem]:
    listed = bool(audience.by)
    if listed == (audience.logic is not None) or (audience.when and audience.logic is None):
        message = "a segment is a list `by` an attribute, or a rule"
        hint = "give `by` and `members`, or `when`, or `logic`"
        return [Problem(code="segment", message=message, hint=hint)]
    if not listed:
        if audience.members or audience.members_digest:
            hint = "keep the members or the rule"
            return [Problem(code="segment", message="a rule has no members", hint=hint)]
        when = check_text(audience.when, "/when", limits.SOURCE_CHARS_MAX)
        return [*when, *check_logic(audience.logic, "/logic", segments=False)]
    return [*check_text(audience.by, "/by"), *_members(audience)]


def _members(audience: Audience) -> Iterator[Problem]:
    if audience.members_digest:
        if audience.members:
            hint = "keep one of them"
            message = "`members` and `members_digest` exclude each other"
            yield Problem(code="segment", message=message, path="/members", hint=hint)
        for field in ("members_digest", "table_digest"):
            digest = getattr(audience, field)
            if digest and not _DIGEST.fullmatch(digest):
                message, hint = f"`{field}` is not a digest", "upload the list first"
                yield Problem(code="wrong-value", message=message, path=f"/{field}", hint=hint)
        if not 0 <= audience.member_count <= limits.SEGMENT_MEMBERS_MAX:
            message = f"{audience.member_count} members; {limits.SEGMENT_MEMBERS_MAX} are the most"
            yield Problem(code="too-many", message=message, path="/member_count")
        return
    if len(audience.members) > limits.INLINE_MEMBERS_MAX:
        message = (
            f"{len(audience.members)} members inline; {limits.INLINE_MEMBERS_MAX} are the most"
        )
        hint = "give them as `members_file`: longer lists travel as tables"
        yield Problem(code="too-many", message=message, path="/members", hint=hint)
    for number, member in enumerate(audience.members):
        if len(member) > limits.TEXT_CHARS_MAX or not is_encodable(member):
            message = f"member {number + 1} is too long or no valid text"
            yield Problem(code="member", message=message, path=f"/members/{number}")
