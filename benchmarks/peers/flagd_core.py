"""flagd's in-process core for Python."""

from __future__ import annotations

import json
import logging
from typing import Any

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from workloads import USER, Setting

from peers.flagd_format import flag_set

logging.getLogger("openfeature.contrib").setLevel(logging.CRITICAL)


def document(settings: list[Setting]) -> str:
    return json.dumps(flag_set(settings))


def load(flags: str) -> FlagdCore:
    core = FlagdCore()
    core.set_flags(flags)
    return core


def statement(core: FlagdCore, setting: Setting, context: dict[str, str]) -> tuple[str, Any]:
    call = "resolve_boolean_value" if setting.type == "boolean" else "resolve_object_value"
    default = False if setting.type == "boolean" else {}
    names = {
        "get": getattr(core, call),
        "default": default,
        "context": EvaluationContext(USER, dict(context)),
    }
    return f"get({setting.key!r}, default, context).value", names
