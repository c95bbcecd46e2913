"""Conditions: CEL as people write it, lowered to JsonLogic with flagd's operators.

`lower` is the way in. Parsing and type-checking are those of Google's CEL library (`environment`);
the checked tree comes back as a serialised message (`checked`), and `lowering` turns it into logic
that any flagd client evaluates. What has no counterpart there is refused, with the way out.

Server side only: the SDK never imports this package.
"""

from __future__ import annotations

from holdfast.core.cel.lowering import Lowered, lower
from holdfast.core.cel.scope import BUILT_IN, RESERVED, Scope

__all__ = ["BUILT_IN", "RESERVED", "Lowered", "Scope", "lower"]
