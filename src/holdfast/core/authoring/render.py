"""A service of the state as the settings file that it could have come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from holdfast.core.authoring.tree import is_text
from holdfast.core.authoring.variants import EXTENDS
from holdfast.core.model import (
    JSON,
    TARGETING_KEY,
    Audience,
    Probe,
    Rule,
    Segment,
    Setting,
    Split,
    Targeting,
)
from holdfast.core.state import ServiceState


def render(name: str, state: ServiceState) -> str:
    """The YAML document of a service: reading it again gives no edits."""
    return _dump(document_of(name, state))


def document_of(name: str, state: ServiceState) -> dict[str, JSON]:
    """The document of a service as plain values, in the order in which people write it."""
    document: dict[str, JSON] = {"service": name}
    info = msgspec.to_builtins(state.info)
    for field in ("description", "owners", "depends_on", "includes", "attributes"):
        if info.get(field):
            document[field] = info[field]
    if state.segments:
        document["segments"] = {
            key: _segment(found.segment) for key, found in sorted(state.segments.items())
        }
    if state.settings:
        document["settings"] = {
            key: _setting(found.setting) for key, found in sorted(state.settings.items())
        }
    return document


def _segment(segment: Segment) -> dict[str, JSON]:
    written: dict[str, JSON] = {}
    if segment.description:
        written["description"] = segment.description
    written |= _audience(segment.audience)
    if segment.environments:
        written["environments"] = {
            name: _audience(audience) for name, audience in segment.environments.items()
        }
    return written


def _audience(audience: Audience) -> dict[str, JSON]:
    if audience.members_digest:
        return dict(msgspec.to_builtins(audience))
    if audience.by:
        return {"by": audience.by, "members": list(audience.members)}
    return _condition(audience.when, audience.logic)


def _condition(when: str, logic: JSON) -> dict[str, JSON]:
    if when:
        return {"when": when}
    return {} if logic is None else {"logic": logic}


def _setting(setting: Setting) -> dict[str, JSON]:
    written: dict[str, JSON] = {"type": setting.type}
    for field in ("description", "expires"):
        if value := getattr(setting, field):
            written[field] = value
    if setting.schema is not None:
        written["schema"] = setting.schema
    if setting.metadata:
        written["metadata"] = setting.metadata
    written["variants"] = {
        name: {EXTENDS: setting.extends[name].base, **setting.extends[name].patch}
        if name in setting.extends
        else value
        for name, value in setting.variants.items()
    }
    if setting.environments:
        written["environments"] = {
            name: _targeting(targeting) for name, targeting in setting.environments.items()
        }
    if setting.probes:
        written["probes"] = [_probe(probe) for probe in setting.probes]
    return written


def _probe(probe: Probe) -> dict[str, JSON]:
    written: dict[str, JSON] = {"context": probe.context, "expected": probe.expected}
    return {**written, "environments": list(probe.environments)} if probe.environments else written


def _targeting(targeting: Targeting) -> dict[str, JSON]:
    written: dict[str, JSON] = {}
    if not targeting.enabled:
        written["enabled"] = False
    if targeting.default is not None:
        written["default"] = targeting.default
    if targeting.rules:
        written["rules"] = [_rule(rule) for rule in targeting.rules]
    if targeting.logic is not None:
        written["targeting"] = targeting.logic
    return written


def _rule(rule: Rule) -> dict[str, JSON]:
    written: dict[str, JSON] = {"name": rule.name} if rule.name else {}
    written |= _condition(rule.when, rule.logic)
    if rule.serve:
        written["serve"] = rule.serve
    if rule.split is not None:
        written["split"] = _split(rule.split)
    return written


def _split(split: Split) -> dict[str, JSON]:
    written: dict[str, JSON] = {} if split.by == TARGETING_KEY else {"by": split.by}
    if split.seed:
        written["seed"] = split.seed
    return {**written, "weights": split.weights}


_BREAKS = ("\x85", "\u2028", "\u2029")
"""Line breaks to YAML 1.1 and characters like others to YAML 1.2: only escapes keep them."""


class _Dumper(yaml.SafeDumper):
    """Writes no anchors, and every string so that any reader of YAML takes it for one."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """PyYAML quotes what YAML 1.1 takes for something else; we read by other rules (`1e5`)."""
    if any(character in text for character in _BREAKS):
        style: str | None = '"'
    elif "\n" in text:
        style = "|"
    else:
        style = None if is_text(text) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _dump(document: Mapping[str, JSON]) -> str:
    return yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, indent=2
    )
