"""Base URLs of control planes and edges: a scheme, a host, a path perhaps, and nothing beside.

Who asks is told by a token. A password in one would go to the log, and to nobody else.
"""

from __future__ import annotations

import re
from typing import Final

_CHARS_MAX: Final = 128
_USER: Final = re.compile(r".*@", re.DOTALL)
_BESIDE: Final = re.compile(r"[?#].*", re.DOTALL)


def is_bare(url: str) -> bool:
    """Whether it has no user, no query and no fragment."""
    return not set(url) & set("@?#")


def shown(url: str) -> str:
    """One that is refused, for people: quoted, without what may be secret."""
    return repr(_BESIDE.sub("…", _USER.sub("…@", url))[:_CHARS_MAX])
