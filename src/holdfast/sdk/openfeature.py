"""OpenFeature's provider over a client.

from openfeature import api
from holdfast import Client
from holdfast.openfeature import HoldfastProvider

api.set_provider(HoldfastProvider(Client(service="demo-shop")))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from holdfast.core.model import TARGETING_KEY
from holdfast.sdk.client import Client
from holdfast.sdk.evaluation import Kind
from holdfast.sdk.status import State

READY_S: Final = 5.0
_METADATA: Final = Metadata(name="Holdfast")
_REASONS: Final = {reason.value: reason for reason in Reason}
_ABSENT: Final = object()


class HoldfastProvider(AbstractProvider):
    """Resolves from `client`, which stays the caller's: shutting the provider down closes it too.

    `ready_s` bounds how long `initialize` waits for first settings. When none come the provider is
    in error, goes on following, and becomes ready with the first ones.
    """

    def __init__(self, client: Client, ready_s: float = READY_S) -> None:
        super().__init__()
        self._client = client
        self._ready_s = ready_s
        self._unsubscribe: list[Callable[[], None]] = []

    def get_metadata(self) -> Metadata:
        return _METADATA

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002  the port's
        self._unsubscribe = [self._client.on_change(self._changed)]
        if not self._client.wait_until_ready(self._ready_s):
            self._unsubscribe.append(self._client.on_state(self._moved, told="starting"))
            raise ProviderNotReadyError(f"no settings within {self._ready_s} s")
        # OpenFeature says READY when this returns; if that isn't so, the next step corrects it.
        self._unsubscribe.append(self._client.on_state(self._moved, told="ready"))

    def shutdown(self) -> None:
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._unsubscribe = []
        self._client.close()

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        return self._resolve("boolean", flag_key, default_value, evaluation_context)

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        return self._resolve("string", flag_key, default_value, evaluation_context)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        return self._resolve("integer", flag_key, default_value, evaluation_context)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        return self._resolve("number", flag_key, default_value, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        return self._resolve("object", flag_key, default_value, evaluation_context)

    def _resolve(
        self, kind: Kind, key: str, default: Any, asked: EvaluationContext | None
    ) -> FlagResolutionDetails[Any]:
        context = _flat(asked)
        outcome = self._client.answer(key, context)
        value = getattr(outcome, kind, _ABSENT)
        if value is _ABSENT:
            return self._unresolved(key, default, context)
        return FlagResolutionDetails(
            value=value,
            reason=_REASONS[outcome.reason],
            variant=outcome.variant,
            flag_metadata=outcome.metadata,
        )

    def _unresolved(
        self, key: str, default: Any, context: Mapping[str, Any]
    ) -> FlagResolutionDetails[Any]:
        """The caller's default, and why."""
        evaluation = self._client.evaluate(key, context, default=default)
        code = evaluation.error_code
        return FlagResolutionDetails(
            value=default,
            reason=_REASONS[evaluation.reason],
            error_code=ErrorCode(code) if code else None,
            error_message=evaluation.error_message,
            flag_metadata=evaluation.metadata,
        )

    def _changed(self, keys: frozenset[str], revision: int) -> None:
        self.emit_provider_configuration_changed(
            ProviderEventDetails(flags_changed=sorted(keys), metadata={"revision": revision})
        )

    def _moved(self, state: State) -> None:
        if state == "ready":
            self.emit_provider_ready(ProviderEventDetails())
        elif state == "stale":
            message = "nobody can say that these settings are the newest; they go on answering"
            self.emit_provider_stale(ProviderEventDetails(message=message))


def _flat(context: EvaluationContext | None) -> Mapping[str, Any]:
    """Attributes and the targeting key as one mapping."""
    if context is None:
        return {}
    if context.targeting_key is None:
        return context.attributes
    return {**context.attributes, TARGETING_KEY: context.targeting_key}
