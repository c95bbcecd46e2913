"""`HoldfastProvider` for OpenFeature; needs the extra `holdfast[openfeature]`."""

from holdfast.sdk.openfeature import HoldfastProvider

__all__ = ["HoldfastProvider"]
