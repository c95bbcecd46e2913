"""The drills by name; each is a module here with a `DRILL`, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from holdfast.core.errors import Invalid, Problem
from holdfast.gameday.drill import Drill

MODULES: Final = {
    "ecs-2022": "ecs_2022",
    "crowdstrike-2024": "crowdstrike_2024",
    "cloudflare-2025-11": "cloudflare_2025_11",
    "cloudflare-2025-12": "cloudflare_2025_12",
    "google-2025": "google_2025",
    "azure-ddos-2024": "azure_ddos_2024",
    "atlassian-2022": "atlassian_2022",
    "bad-value": "bad_value",
    "roblox-2021": "roblox_2021",
    "launchdarkly-2025": "launchdarkly_2025",
    "fastly-2021": "fastly_2021",
    "facebook-2021": "facebook_2021",
    "aws-2025": "aws_2025",
}
ALL: Final = "all"


def drill(name: str) -> Drill:
    """Raises `Invalid` for a name that none has."""
    if name not in MODULES:
        known = ", ".join(MODULES)
        problem = Problem(
            code="no-such-drill", message=f"there is no game day {name!r}", hint=f"one of: {known}"
        )
        raise Invalid([problem])
    found = import_module(f"{__name__}.{MODULES[name]}").DRILL
    assert isinstance(found, Drill)  # noqa: S101  our own table
    return found
