"""The client: settings in this process, right and fast, whatever happens behind it.

    client = Client(endpoints=["http://127.0.0.1:8016"], service="demo-shop", cache_dir="/var/…")
    client.get_bool("new-checkout", False, {"targetingKey": "user-1", "tenant": "contoso"})

A read never raises, never blocks, takes no lock and asks nobody: it calls one function out of one
table. The follower's thread swaps the table when newer settings were verified.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from holdfast.core.conversation import Report
from holdfast.core.model import Contract, Subject
from holdfast.core.roots import RootSet
from holdfast.core.targeting.outcome import Outcome
from holdfast.core.trust import Generation
from holdfast.sdk.evaluation import (
    ABSENT,
    NOT_READY,
    TYPE_MISMATCH,
    Evaluation,
    Kind,
    Origin,
    Tally,
    View,
    kind_of,
    read_as,
    warm,
)
from holdfast.sdk.file import defaults_view, read_file, view_of_snapshot
from holdfast.sdk.follower import Follower
from holdfast.sdk.forks import survive
from holdfast.sdk.listeners import OnState, StateListener, drop
from holdfast.sdk.said import Said
from holdfast.sdk.sampled import WINDOW, Sampled
from holdfast.sdk.settings import ClientSettings, Given, settle
from holdfast.sdk.setup import follower_for, loud, reporting_for
from holdfast.sdk.status import ClientStatus, State, status_of

if TYPE_CHECKING:
    from holdfast.sdk.bind import Live
    from holdfast.sdk.reporting import Reporting

T = TypeVar("T")
Context = Mapping[str, Any]
OnChange = Callable[[frozenset[str], int], None]

_NOBODY: Final[Context] = {}


class Client:
    """Settings of one service in one environment. Thread-safe, and safe to fork.

    Reads take a key, the value to give when there is no answer, and a context: one flat mapping of
    attributes with `targetingKey` among them. Values that are objects are shared: read-only.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_follower",
        "_listeners",
        "_problems",
        "_reporting",
        "_said",
        "_sampled",
        "_starting",
        "_state_listeners",
        "_subject",
        "_table",
        "_tally",
        "_view",
    )
    _reporting: Reporting | None
    _sampled: Sampled | None

    def __init__(  # noqa: PLR0913  each is one thing that a deployment may have to say
        self,
        endpoints: Sequence[str] | None = None,
        environment: str | None = None,
        service: str | None = None,
        *,
        token: str | None = None,
        root: str | os.PathLike[str] | Mapping[str, Any] | Sequence[Any] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        defaults: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        poll_interval_s: float | None = None,
        streams: bool = True,
        reports: bool = True,
        application: str | None = None,
        ring: str | None = None,
        contract: Contract | None = None,
        health: Callable[[], Any] | None = None,
        probation_s: float | None = None,
    ) -> None:
        """Start from disk at once and follow the endpoints in a thread; never waits for them.

        - `endpoints`: base URLs of edges or control planes, preferred one first
          (`HOLDFAST_ENDPOINTS`, separated by commas).
        - `environment`, `service`: whose settings (`HOLDFAST_ENVIRONMENT`, default `production`;
          `HOLDFAST_SERVICE`).
        - `token`: `hf_…`, with the verb `read` (`HOLDFAST_TOKEN`).
        - `root`: the roots to trust, a file or JSON (`HOLDFAST_ROOT`). Without it the first ones
          seen are pinned in `cache_dir`, and a warning is logged.
        - `cache_dir`: where verified settings are kept (`HOLDFAST_CACHE_DIR`). Without it a start
          with everything dead has only `defaults`, and a warning is logged.
        - `defaults`: settings to answer from while there is nothing else: keys with values, or a
          flagd file.
        - `poll_interval_s`: instead of what the snapshots ask for. `streams`: listen for hints.
        - `reports`: tell upstream what this client has, refused and counted (`report`), as this
          `application` in this `ring` (`HOLDFAST_APPLICATION`, `HOLDFAST_RING`).
        - `contract`: what this program reads; settings that don't have it are refused.
        - `health`: asked about once a second while new settings are on probation (`probation_s`,
          60); false, or an exception, goes back to the last proven ones. It should return soon.

        Raises `Invalid` with all problems of the arguments; nothing else.
        """
        given = Given(
            endpoints=endpoints,
            environment=environment,
            service=service,
            token=token,
            root=root,
            cache_dir=cache_dir,
            defaults=defaults,
            poll_interval_s=poll_interval_s,
            streams=streams,
            reports=reports,
            application=application,
            ring=ring,
            contract=contract,
            health=health,
            probation_s=probation_s,
        )
        self._start(settle(given, os.environ))

    def _start(self, settings: ClientSettings) -> None:
        follower = follower_for(
            settings,
            used=self._is_used,
            on_activate=self._activated,
            on_report=self._refused,
            on_root=self._trusted,
            on_step=self._stepped,
        )
        self._begin(defaults_view(settings.defaults), settings.subject, follower)
        self._reporting = reporting_for(settings, follower)
        follower.start()
        if self._reporting is not None:
            self._sampled = Sampled(follower, settings.subject, self._open_window)
            self._reporting.samples = self._sampled.take
            self._reporting.start()
        self._starting = False
        if self._view.origin == "defaults":
            loud("there are no settings on disk: answering from the bundled defaults for now")
        self._stepped()
        survive(self)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Client:
        """A client on a flagd file, a snapshot or a bundle (JSON): for tests and offline work.

        Raises `NotFound`, `Damaged`, or `Invalid` with every bad flag.
        """
        client = cls.__new__(cls)
        client._begin(read_file(path), Subject("", ""), None)  # noqa: SLF001  its own class
        return client

    def _begin(self, view: View, subject: Subject, follower: Follower | None) -> None:
        self._reporting = None
        self._sampled = None
        self._subject = subject
        self._follower = follower
        self._view = view
        self._table = view.evaluator.table
        self._tally = Tally()
        self._problems: dict[str, int] = {}
        self._listeners: list[OnChange] = []
        self._state_listeners: list[StateListener] = []
        self._said = Said(subject, "starting" if follower else "ready")
        self._starting = follower is not None
        self._closed = False

    # The five reads are written out: a call more would cost a third of the whole. They read the
    # slot of their type inside the try: that it isn't there is the rare case (ruff: TRY300).

    def get_bool(self, key: str, default: bool, context: Context | None = None) -> bool:
        try:
            outcome = self._table[key](_NOBODY if context is None else context)
            outcome.count += 1.0
            return outcome.boolean  # noqa: TRY300
        except Exception:  # noqa: BLE001  a read never raises
            return self._other(key, default, context, "boolean")

    def get_str(self, key: str, default: str, context: Context | None = None) -> str:
        try:
            outcome = self._table[key](_NOBODY if context is None else context)
            outcome.count += 1.0
            return outcome.string  # noqa: TRY300
        except Exception:  # noqa: BLE001  a read never raises
            return self._other(key, default, context, "string")

    def get_int(self, key: str, default: int, context: Context | None = None) -> int:
        try:
            outcome = self._table[key](_NOBODY if context is None else context)
            outcome.count += 1.0
            return outcome.integer  # noqa: TRY300
        except Exception:  # noqa: BLE001  a read never raises
            return self._other(key, default, context, "integer")

    def get_float(self, key: str, default: float, context: Context | None = None) -> float:
        """A number, whole ones too: 5 is read as 5.0."""
        try:
            outcome = self._table[key](_NOBODY if context is None else context)
            outcome.count += 1.0
            return outcome.number  # noqa: TRY300
        except Exception:  # noqa: BLE001  a read never raises
            return self._other(key, default, context, "number")

    def get_object(self, key: str, default: T, context: Context | None = None) -> T:
        """A dict or a list, shared with all other readers: read-only."""
        try:
            outcome = self._table[key](_NOBODY if context is None else context)
            outcome.count += 1.0
            return outcome.object  # type: ignore[return-value] # noqa: TRY300  its shape is the caller's belief
        except Exception:  # noqa: BLE001  a read never raises
            return self._other(key, default, context, "object")

    def evaluate(
        self, key: str, context: Context | None = None, *, default: Any = None
    ) -> Evaluation:
        """The answer with variant, reason, revision and staleness. Never raises.

        With a `default` its type is asked for: another one is a TYPE_MISMATCH, and `default` is
        the value. Without, any value is given.
        """
        view = self._view
        outcome = self._answer(view, key, context)
        if self._sampled is not None and context is not None:
            self._sampled.offer(context)
        kind = kind_of(default)
        value = read_as(outcome, kind)
        found = value is not ABSENT
        code, message = self._judge(view, outcome, kind, found=found)
        return Evaluation(
            value=value if found else default,
            variant=outcome.variant if found else None,
            reason="ERROR" if code else outcome.reason,
            error_code=code,
            error_message=message,
            revision=view.revision,
            stale=self._is_stale(),
            metadata=outcome.metadata,
        )

    def answer(self, key: str, context: Context | None = None) -> Outcome:
        """The setting's shared answer as it is, the fastest way to its variant and reason."""
        return self._answer(self._view, key, context)

    def evaluate_all(self, context: Context | None = None) -> Mapping[str, Outcome]:
        """Every setting's answer in one context, by key. The answers are shared: read-only."""
        evaluator, table = self._view.evaluator, self._table
        asked = _NOBODY if context is None else context
        answers = {}
        for key in evaluator.keys():  # noqa: SIM118  an evaluator is no mapping
            try:
                outcome = table[key](asked)
            except KeyError:
                outcome = evaluator.evaluate(key, asked)
            outcome.count += 1.0
            answers[key] = outcome
        return answers

    def bind(self, shape: type[T], context: Context | None = None) -> T:
        """A dataclass or Struct filled from settings by the names of its fields, once.

        Raises `Invalid` with every field that can't be filled.
        """
        from holdfast.sdk.bind import fill  # late: dataclasses lengthen every start

        return fill(shape, lambda key: self._known(key, context))

    def bind_live(self, shape: type[T], context: Context | None = None) -> Live[T]:
        """Like `bind`, but call what comes back for the configuration of now."""
        from holdfast.sdk.bind import Live  # late: as above

        return Live(lambda: self.bind(shape, context), lambda: self._view)

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Answers so far: setting -> variant -> number; variant "" is the caller's default."""
        return self._tally.counts(self._view.evaluator)

    def on_change(self, callback: OnChange) -> Callable[[], None]:
        """Call `callback(keys, revision)` when settings changed; what comes back ends that.

        It runs in the follower's thread, after reads see the change. What it raises is counted.
        """
        self._listeners.append(callback)
        return lambda: drop(self._listeners, callback)

    def on_state(self, callback: OnState, told: State | None = None) -> Callable[[], None]:
        """Call `callback(state)` when the client becomes ready or stale; as `on_change`.

        `told` is the state that the caller believes in, if another one than now: then the callback
        hears of the difference as soon as the follower does anything.
        """
        listener = StateListener(callback, told or self._now())
        self._state_listeners.append(listener)
        return lambda: drop(self._state_listeners, listener)

    def keys(self) -> frozenset[str]:
        """The settings that there are."""
        return frozenset(self._view.evaluator.keys())

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Whether there are settings, from disk or an endpoint, waiting until the timeout."""
        follower = self._follower
        return follower is None or follower.wait_for(self._subject, timeout_s)

    def status(self) -> ClientStatus:
        follower = self._follower.status() if self._follower is not None else None
        return status_of(self._view, self._subject, self._now(), follower, self._problems)

    def report(
        self, context: Context | None = None, ok: bool = True, latency_ms: float | None = None
    ) -> None:
        """Tell how one request went that used these settings: rollouts are judged by that.

        It is counted on the side of each running rollout that `context` is on, and sent in sums.
        Of some contexts the declared attributes are sent. Cheap, thread-safe, and never raises.
        """
        if self._sampled is not None and context is not None:
            self._sampled.offer(context)
        if self._reporting is not None:
            self._reporting.count(_NOBODY if context is None else context, ok, latency_ms)

    def pin(self, revision: int, reason: str = "") -> None:
        """Answer from that revision, of those on disk, until `unpin`, with nobody else alive.

        Within a second or so in every process of the same `cache_dir`. Raises `NotFound`.
        """
        if self._follower is not None:
            self._follower.pin(self._subject, revision, reason)

    def unpin(self) -> None:
        """Follow again."""
        if self._follower is not None:
            self._follower.unpin(self._subject)

    def close(self) -> None:
        """Stop following. Reads go on answering from what is there."""
        self._closed = True
        if self._reporting is not None:
            self._reporting.close()
        if self._follower is not None:
            self._follower.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def renew(self) -> None:
        """After a fork, in the child: see `sdk.forks`, which calls it."""
        if self._follower is not None:
            self._follower.renew()
        if self._reporting is not None:
            self._reporting.renew()

    # What the five reads leave over: a first use, another type, an error, no answer.

    def _other(self, key: str, default: T, context: Context | None, kind: Kind) -> T:
        try:
            view = self._view
            counted = key in self._table
            asked = _NOBODY if context is None else context
            outcome = view.evaluator.evaluate(key, asked)
            if not counted:
                outcome.count += 1.0
            value = read_as(outcome, kind)
            self._judge(view, outcome, kind, found=value is not ABSENT)
            if self._table is WINDOW:
                self._look_at(asked)
        except Exception:  # noqa: BLE001  a read never raises: not for a key that is a list either
            self._count("errors")
            return default
        return default if value is ABSENT else value

    # The window after each report, in which reads come by `_other`: see `sdk.sampled`.

    def _open_window(self) -> None:
        self._table = WINDOW

    def _look_at(self, context: Context) -> None:
        if self._sampled is None or self._sampled.read(context):
            view = None
            while view is not self._view:  # which may be swapped meanwhile
                view = self._view
                self._table = view.evaluator.table

    def _answer(self, view: View, key: str, context: Context | None) -> Outcome:
        try:
            outcome = view.evaluator.evaluate(key, _NOBODY if context is None else context)
        except Exception as error:  # noqa: BLE001  a read never raises
            return Outcome(str(key), "ERROR", error=("GENERAL", repr(error)))
        outcome.count += 1.0
        return outcome

    def _judge(
        self, view: View, outcome: Outcome, kind: Kind | None, *, found: bool
    ) -> tuple[str | None, str | None]:
        """OpenFeature's error code and message, and a count of it."""
        if outcome.error_code == "FLAG_NOT_FOUND":
            self._count("not_found")
            if view.origin == "none":
                return NOT_READY, "there are no settings yet"
        elif outcome.error_code:
            self._count("errors")
        elif not found and outcome.value is not None:
            self._count("type_mismatch")
            name = type(outcome.value).__name__
            return TYPE_MISMATCH, f"the setting gives {name}, {kind} was asked for"
        return outcome.error_code, outcome.error_message

    def _count(self, problem: str) -> None:
        self._problems[problem] = self._problems.get(problem, 0) + 1

    def _known(self, key: str, context: Context | None) -> Outcome | None:
        view = self._view
        return self._answer(view, key, context) if key in view.evaluator else None

    def _is_stale(self) -> bool:
        follower = self._follower
        return follower is not None and follower.is_stale(self._subject)

    def _now(self) -> State:
        if self._closed:
            return "closed"
        if self._view.origin in {"none", "defaults"}:
            return "starting"
        return "stale" if self._is_stale() else "ready"

    # What the follower calls, in its thread (or in the constructor).

    def _is_used(self, _: Subject) -> bool:
        return any(outcome.count for outcome in self._view.evaluator.outcomes())

    def _activated(self, _: Subject, generation: Generation) -> None:
        old = self._view
        if old.evaluator is generation.evaluator:
            return  # the same settings, under newer roots or after a fork
        origin: Origin = "disk" if self._starting else "upstream"
        evaluator = generation.evaluator
        view = view_of_snapshot(evaluator, generation.snapshot, generation.digest, origin)
        warm(evaluator, old.evaluator)
        self._view, self._table = view, evaluator.table
        self._tally.replaced(old.evaluator)
        if self._reporting is not None:
            self._reporting.activated(generation)
        keys = view.changed(old) if self._listeners and old.origin != "none" else frozenset()
        if keys:
            for listener in list(self._listeners):
                self._tell(listener, keys, view.revision)

    def _trusted(self, roots: RootSet, seen_first: bool) -> None:
        if seen_first:
            loud(
                f"no root= was given: trusting and pinning the first roots seen, {roots.digest}; "
                "compare them with `holdfast keys show` and give them as root="
            )
        if roots.development:
            loud("the trusted keys are development keys: made by themselves, proof of nothing")

    def _refused(self, report: Report) -> None:
        name = self._follower.name_of(report.upstream) if self._follower else ""
        loud(f"an answer of {name} was refused [{report.code}]: {report.message}")
        if self._reporting is not None:
            self._reporting.refused(report)

    def _stepped(self) -> None:
        """After everything that the follower did: the state may be another one."""
        state = self._now()
        self._said.now(state, self._follower.silence if self._follower else "")
        for listener in list(self._state_listeners):
            if listener.told != state:
                listener.told = state
                self._tell(listener.callback, state)

    def _tell(self, listener: Callable[..., None], *facts: object) -> None:
        try:
            listener(*facts)
        except (Exception, SystemExit) as error:  # noqa: BLE001  the host's own must not end the thread
            self._count("callbacks_failed")
            loud(f"a callback failed: {error!r}")
