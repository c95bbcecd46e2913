"""One example of each request body, by operation; the tests send them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_DOCUMENT: Final = """\
service: teams-calling
owners: [calling-oncall@example.com]
attributes: {tenant: string}
settings:
  max-video-tiles:
    type: integer
    schema: {minimum: 1, maximum: 49}
    variants: {few: 9, many: 49}
    environments:
      production:
        default: few
        rules:
          - {name: pilot tenants, when: tenant == "contoso", serve: many}
"""
_FLAGD: Final = """\
{"flags": {"dark-mode": {"state": "ENABLED", "variants": {"on": true, "off": false},
 "defaultVariant": "off"}}}
"""
_CHANGE: Final = {
    "documents": [{"file": "teams-calling.yaml", "text": _DOCUMENT}],
    "reason": "pilot tenants get 49 tiles",
}
_CONTRACT: Final = {
    "needs": {
        "max-video-tiles": {"type": "integer", "schema": {"minimum": 1, "maximum": 49}},
    },
    "examples": [{"context": {"tenant": "contoso"}, "expected": {"max-video-tiles": 49}}],
    "environments": ["production"],
    "version": "1.5.0",
}
_POLICY: Final = {
    "policy": {
        "approvals": 1,
        "settings_max": 100,
        "freezes": [
            {"begin_s": 1_830_297_600, "end_s": 1_830_384_000, "reason": "the last day of sales"}
        ],
    },
    "reason": "a second pair of eyes",
}
_WHERE: Final = {"environment": "production", "service": "teams-calling"}

EXAMPLES: Final[Mapping[str, Any]] = {
    "check_change": _CHANGE,
    "preview_impact": {
        **_CHANGE,
        "environment": "production",
        "contexts": [{"context": {"targetingKey": "user-1", "tenant": "contoso"}, "count": 12}],
    },
    "commit": {**_CHANGE, "base_revision": 12},
    "propose_change": _CHANGE,
    "commit_change": {},
    "propose_revert": {"revision": 12, "reason": "calls without video since revision 12"},
    "revise_change": _CHANGE,
    "approve_change": {"digest": "5f" * 32},
    "reject_change": {"reason": "49 tiles are too many for a phone"},
    "schedule_change": {"at_s": 1_830_297_600},
    "put_policy": _POLICY,
    "propose_policy": _POLICY,
    "revert": {"revision": 12, "reason": "calls without video since revision 12"},
    "restore": {"service": "teams-calling", "key": "max-video-tiles"},
    "put_environment": {"bucketing": "v3", "description": "everybody"},
    "explain": {
        **_WHERE,
        "key": "max-video-tiles",
        "context": {"targetingKey": "user-1", "tenant": "contoso"},
    },
    "put_contract": {"contract": _CONTRACT, "reason": "the web client reads the tiles"},
    "can_deploy": {
        "reader": {"service": "teams-calling", "consumer": "web-client", "contract": _CONTRACT},
        "environments": ["production"],
    },
    "import_flagd": {**_WHERE, "text": _FLAGD, "check": True},
    "advance_rollout": {"reason": "the pilots have seen it for a week"},
    "hold_rollout": {"reason": "the on-call wants to look first"},
    "resume_rollout": {},
    "roll_back_rollout": {"reason": "calls without video"},
    "take_reports": {
        "reports": [
            {
                **_WHERE,
                "consumer": "0f6b2c9a1d8e4f70",
                "kind": "sdk",
                "build": "holdfast/0.1.0",
                "application": "calling/7.4.1",
                "sequence": 3,
                "at_ms": 1_800_000_000_000,
                "revision": 12,
                "trust": "probation",
                "outcomes": [
                    {
                        "rollout": "production.12",
                        "stage": 1,
                        "exposed": True,
                        "requests": 120,
                        "errors": 2,
                        "units": 44,
                    }
                ],
            }
        ]
    },
    "issue_token": {
        "name": "calling in production",
        "scopes": [{"verbs": ["read"], **_WHERE}],
        "expires_s": 1_830_297_600,
    },
}
