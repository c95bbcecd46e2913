"""One flag definition of `flagd.dev/schema/v0`, decoded, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from holdfast.core.model import JSON

Metadata = Mapping[str, str | int | float | bool]


class BadFlag(Exception):
    """A flag definition that can't be evaluated at all; the message says why."""


class Flag(msgspec.Struct, frozen=True, rename={"default": "defaultVariant"}):
    """As the document has it; unknown fields are left out.

    `default` is a variant's name, or none; `targeting` should be an object, and is empty for none.
    """

    state: str
    variants: dict[str, JSON]
    default: JSON = None
    targeting: JSON = None
    metadata: dict[str, str | int | float | bool] | None = None

    @property
    def default_variant(self) -> str | None:
        """The default's name; true and false name variants as well, all else empty is none."""
        if isinstance(self.default, bool):
            return "true" if self.default else "false"
        return self.default or None


_DECODER: Final = msgspec.json.Decoder(Flag)


def decode(body: bytes | msgspec.Raw) -> Flag:
    """Raises `BadFlag` for what flagd refuses as well."""
    try:
        flag = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFlag(f"the definition can't be read: {error}") from None
    except RecursionError:
        raise BadFlag("the definition is nested too deep to be read") from None
    if flag.state not in ("ENABLED", "DISABLED"):
        raise BadFlag("the state is neither ENABLED nor DISABLED")
    if not flag.variants:
        raise BadFlag("there are no variants")
    if flag.default and not isinstance(flag.default, str | bool):
        raise BadFlag("the default variant is not a name")
    return flag


def merged(flag: Flag, of_set: Metadata) -> Metadata:
    """The flag's own metadata over those of its set."""
    return {**of_set, **flag.metadata} if flag.metadata else of_set
