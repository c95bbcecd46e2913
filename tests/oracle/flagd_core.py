"""flagd's own Python core as an oracle: one case in, what it answers out.

Imported, it is the version of this environment (2.0.0, bucketing v3). Run as a program it reads
cases as JSON lines and writes answers as JSON lines: so the environment with 1.0.0 (bucketing v2),
which can't live in the same process, serves thousands of cases.

It needs nothing of Holdfast, since the other environment has none.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from types import SimpleNamespace
from typing import Any

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.contrib.tools.flagd.core.targeting import targeting
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ParseError

NOW_S = 1_767_225_600.75
KEY = "the-flag"

logging.getLogger("openfeature.contrib").setLevel(logging.CRITICAL)
# The oracle reads the clock through this name; a case must mean the same a second later.
sys.modules["openfeature.contrib.tools.flagd.core.targeting.targeting"].__dict__["time"] = (
    SimpleNamespace(time=lambda: NOW_S)
)


def shown(value: Any) -> str:
    """A value as text: equal texts are equal values of equal types, in whatever order of keys."""
    return json.dumps(value, sort_keys=True)


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """`{"document", "context"}` to `{"reason", "variant", "value"}` or `{"error", "exception"}`.

    `document` is a flagd document as text, with one flag under `KEY`. Either answer has `given`,
    `shown` of what the targeting alone gave, where there is targeting and it gave something.
    """
    attributes = dict(case["context"])
    context = EvaluationContext(attributes.pop("targetingKey", None), attributes)
    core = FlagdCore()
    given = {}
    try:
        core.set_flags(case["document"])
        flag = core._flag_store.get_flag(KEY)
        with contextlib.redirect_stdout(io.StringIO()):
            if flag.targeting and flag.state == "ENABLED":
                given = {"given": shown(targeting(KEY, flag.targeting, context))}
            details = core._resolve(KEY, None, context)
    except Exception as error:  # noqa: BLE001 - OpenFeature's client makes GENERAL of any other
        code = "PARSE_ERROR" if isinstance(error, (ParseError, ReferenceError)) else "GENERAL"
        return {"error": code, "exception": f"{type(error).__name__}: {error}", **given}
    return {
        "reason": str(details.reason.value),
        "variant": details.variant,
        "value": details.value,
        "metadata": dict(details.flag_metadata),
        **given,
    }


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)  # noqa: T201 - its protocol


if __name__ == "__main__":
    main()
