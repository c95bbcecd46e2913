"""Is this a probe that a snapshot can carry? Whether it comes out, the build says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from holdfast.core.errors import Problem
from holdfast.core.json_check import check_json
from holdfast.core.model import Setting
from holdfast.core.pointer import near, short
from holdfast.core.probes import CONTEXT_BYTES_MAX
from holdfast.core.probing import fits

WRITTEN_MAX: Final = 64
"""Probes that people may write for one setting."""


def check_probes(setting: Setting) -> Iterator[Problem]:
    """All problems of a setting's probes by themselves."""
    if len(setting.probes) > WRITTEN_MAX:
        message = f"{len(setting.probes)} probes; {WRITTEN_MAX} are the most"
        hint = "keep those that matter most"
        yield Problem(code="too-many", message=message, path="/probes", hint=hint)
    for number, probe in enumerate(setting.probes[:WRITTEN_MAX]):
        path = f"/probes/{number}"
        found = [
            *check_json(probe.context, f"{path}/context"),
            *check_json(probe.expected, f"{path}/expected"),
        ]
        yield from found
        if not found and not fits(probe.context):
            message = f"the context is larger than {CONTEXT_BYTES_MAX} bytes"
            hint = "leave out what no rule reads"
            yield Problem(code="too-large", message=message, path=f"{path}/context", hint=hint)
        for place, name in enumerate(probe.environments):
            if name not in setting.environments:
                message = f"the setting is not in `{short(name)}`"
                hint = near(name, setting.environments) or "name environments of this setting"
                where = f"{path}/environments/{place}"
                yield Problem(code="unknown-environment", message=message, path=where, hint=hint)
