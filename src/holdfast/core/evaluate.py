"""Evaluate settings: one compiled function for each, made when it is first asked for.

    evaluator = Evaluator(flags, now_s=clock)
    outcome = evaluator.evaluate("max-video-tiles", {"targetingKey": "u1", "tenant": "contoso"})

A context is one flat mapping of JSON values, best a dict: attributes, and `targetingKey` among
them. Nothing here raises on a read; what goes wrong is an outcome with reason ERROR.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar
from weakref import ref
from zlib import crc32

import msgspec

from holdfast.core import limits
from holdfast.core.model import Bucketing
from holdfast.core.targeting import flags as definitions
from holdfast.core.targeting.answers import Answers
from holdfast.core.targeting.attributes import Every, optional_attributes
from holdfast.core.targeting.check import check_bounds
from holdfast.core.targeting.compile import Function, compiled, constant
from holdfast.core.targeting.explain import (
    Explanation,
    Recorded,
    RuleTrace,
    Trace,
    explanation,
    follow,
)
from holdfast.core.targeting.facts import Facts
from holdfast.core.targeting.fuse import Fused, Member, Ruled, fuse
from holdfast.core.targeting.interpret import Exhausted, Run, SharedRun
from holdfast.core.targeting.outcome import NO_METADATA, ErrorCode, Outcome
from holdfast.core.targeting.prepare import NULL, BadRule, Node, Rules, decoded_rule
from holdfast.core.targeting.reading import Reading, costs_ns
from holdfast.core.targeting.segments import SegmentTable
from holdfast.core.targeting.work import Metered, TooMuchWork, walks

T = TypeVar("T")
Body = bytes | msgspec.Raw
FAILING_KEPT: Final = 8
"""Contexts kept in which a setting failed, the last ones."""
MISSES_MAX: Final = 200
"""Reads past the generated function after which it is made anew at the latest, for contexts that
lack more. Each setting has a number of its own below that, so that those that are always read
together are not all made in one request."""
NO_ATTRIBUTES: Final[Mapping[str, Any]] = {}


__all__ = ["Evaluator", "Explanation", "Outcome"]


class Owner(Protocol):
    """What a setting tells who holds it."""

    def replace(self, key: str, function: Function) -> None:
        """Use this function from now on."""

    def failed_in(self, key: str, context: Mapping[str, Any]) -> None:
        """The setting could not be evaluated in this context."""


class Source:
    """What the settings of one snapshot are read from."""

    __slots__ = ("_rules", "flags")

    def __init__(self, flags: Mapping[str, Body], rules: Rules) -> None:
        self.flags = flags
        self._rules = rules

    def flag(self, key: str) -> definitions.Flag:
        """Raises `BadFlag`."""
        return definitions.decode(self.flags[key])

    def prepared(self, flag: definitions.Flag) -> Node | None:
        """Its targeting; None when it has none. Raises `BadRule`."""
        return self._rules.prepare(flag.targeting)

    def targeting(self, key: str) -> Node:
        """The prepared targeting of a setting that was read before, and has one."""
        root = self.prepared(self.flag(key))
        return NULL if root is None else root


class Setting:
    """One setting, loaded: its answers, and how they are come to where no function does.

    Its function refers to it, so it refers neither to that nor, but weakly, to who holds both:
    a replaced snapshot is freed when it is let go, and leaves no circles to a garbage collection,
    which all threads would wait for.

    The prepared targeting is a hundred objects for the garbage collector, so it is let go once
    compiled, and comes back when the function first meets a context that it does not expect.

    The function expects most attributes to be there, and what is not there costs some
    microseconds. When that went on for long enough, a function that expects it takes its place.
    """

    __slots__ = (
        "_facts", "_misses", "_owner", "_root", "_source", "answers", "key", "reading", "walks",
    )  # fmt: skip

    def __init__(
        self, answers: Answers, root: Node, facts: Facts, source: Source, owner: ref[Owner]
    ) -> None:
        self.key = answers.key
        self.answers = answers
        self._root: Node | None = root
        self._facts = facts
        self._source = source
        self._owner = owner
        self._misses = crc32(self.key.encode()) % MISSES_MAX
        self.walks = walks(root)
        self.reading: Reading | None = None

    def function(self) -> Function:
        """The function that it begins with."""
        root = self.root
        function = compiled(root, self._facts, self.answers, self, optional_attributes(root))
        self.let_go()
        return function

    @property
    def root(self) -> Node:
        root = self._root
        if root is None:
            root = self._root = self._source.targeting(self.key)
        return root

    def data(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """What `var` reads from: the context, with what flagd puts over it."""
        return {
            **context,
            "$flagd": {"flagKey": self.key, "timestamp": self._facts.now()},
            "targetingKey": context.get("targetingKey"),
        }

    def whole(self, context: Mapping[str, Any]) -> Outcome:
        """The interpreter's answer; never raises."""
        if type(context) is Metered and context.left < 0:
            return self.answers.failed(Exhausted())
        misses = self._misses = self._misses + 1
        try:
            run = self._run(context)
            return self.answers.resolve(run.apply(self.root, self.data(context)))
        except Exhausted as error:  # the context's doing, and no failure of the setting
            return self.answers.failed(error)
        except Exception as error:  # noqa: BLE001 - a read never raises; the outcome says what failed
            owner = self._owner()
            if owner is not None:
                owner.failed_in(self.key, context)
            return self.answers.failed(error)
        finally:
            if misses == MISSES_MAX:
                self._expect_absence()

    def let_go(self) -> None:
        """Keep nothing that can be made again."""
        self._root = None

    def explain(self, context: Mapping[str, Any], rule_names: Sequence[str]) -> Explanation:
        """The interpreter's answer and its way there; never raises."""
        trace = Trace(self._facts.bucketing, self._facts.segments)
        rules: list[RuleTrace] = []
        read: dict[str, Any] = {}
        try:
            data = Recorded(self.data(context))
            read = data.read
            outcome = self.answers.resolve(follow(self.root, trace, data, rule_names, rules))
        except Exception as error:  # noqa: BLE001 - as above
            outcome = self.answers.failed(error)
        told = explanation(outcome, self._facts.bucketing)
        told.rules, told.attributes, told.buckets = rules, read, trace.buckets
        told.complete = trace.complete
        if rules and outcome.reason == "TARGETING_MATCH":
            told.rule, told.rule_name = rules[-1].index, rules[-1].name
        return told

    def begin(self, context: Mapping[str, Any]) -> Callable[[Node], Any]:
        run, data = self._run(context), self.data(context)
        return lambda node: run.apply(node, data)

    def _run(self, context: Mapping[str, Any]) -> Run:
        """Raises `Exhausted` when the context's request has no work left."""
        if type(context) is Metered:
            return SharedRun(self._facts.bucketing, self._facts.segments, context)
        return Run(self._facts.bucketing, self._facts.segments)

    def _expect_absence(self) -> None:
        """Once for a setting. Takes 0.05 to 0.3 ms for up to ten conditions, 1 ms for fifty.

        Settings that one request asks for one by one come to it together: 100 of them take 5 to
        30 ms. Where all are one function (`fused`) absence is expected from the start.
        """
        owner = self._owner()
        if owner is not None:
            function = compiled(self.root, self._facts, self.answers, self, Every())
            owner.replace(self.key, function)
            self.let_go()


class Evaluator:
    """All settings of one snapshot. Immutable to its callers and thread-safe.

    `table` has the functions compiled so far: index it directly, and on KeyError ask `function`.
    `failed` counts evaluations that could not be made, `failing` has the last of them; `exhausted`
    counts requests that were too much work. `walks`: a setting loaded so far walks lists;
    `reading`: what all loaded so far cost on long ones.
    """

    def __init__(  # noqa: PLR0913 - the parts of a flagd document, and of ours
        self,
        flags: Mapping[str, Body],
        *,
        evaluators: Mapping[str, Body] = NO_ATTRIBUTES,
        metadata: Mapping[str, Any] = NO_METADATA,
        bucketing: Bucketing = "v3",
        types: Mapping[str, str] = NO_ATTRIBUTES,
        segments: Mapping[str, SegmentTable] = NO_ATTRIBUTES,
        now_s: Callable[[], float],
    ) -> None:
        """`flags` and `evaluators` are JSON by name; `types` declares values' types by key.

        `now_s` gives unix seconds, for `$flagd.timestamp`.
        """
        self.table: dict[str, Function] = {}
        self.failed = 0
        self.exhausted = 0
        self.walks = False
        self.reading = Reading()
        self.failing: deque[tuple[str, Mapping[str, Any]]] = deque(maxlen=FAILING_KEPT)
        self.metadata = metadata
        self._flags = flags
        self._types = types
        self._settings: dict[str, Setting | Outcome] = {}
        self._charged: set[str] = set()
        self._source = Source(flags, Rules(evaluators, lambda name: decoded_rule(evaluators[name])))
        self._self: ref[Owner] = ref(self)
        self._facts = Facts(bucketing, segments, lambda: int(now_s()))

    def keys(self) -> Iterator[str]:
        return iter(self._flags)

    def __contains__(self, key: str) -> bool:
        return key in self._flags

    def __len__(self) -> int:
        return len(self._flags)

    def type_of(self, key: str) -> str | None:
        """The declared type of a setting; None where none is declared."""
        return self._types.get(key)

    def function(self, key: str) -> Function:
        """The setting's function: context -> `Outcome`. It never raises; compiled on first use."""
        known = self.table.get(key)
        if known is not None:
            return known
        if key not in self._flags:
            return constant(self._unloadable(key, "FLAG_NOT_FOUND", f"no setting {key!r}"))
        setting = self._settings.setdefault(key, self._load(key))
        made = constant(setting) if isinstance(setting, Outcome) else setting.function()
        return self.table.setdefault(key, made)

    def evaluate(self, key: str, context: Mapping[str, Any] = NO_ATTRIBUTES) -> Outcome:
        return (self.table.get(key) or self.function(key))(context)

    def let_go(self, key: str) -> None:
        """Keep of a setting only what its function needs: it was asked, and will not be soon."""
        setting = self._settings.get(key)
        if isinstance(setting, Setting):
            setting.let_go()

    def forget(self, key: str) -> None:
        """Keep nothing of a setting, until it is asked for again. Not where others may ask it."""
        self.table.pop(key, None)
        self._settings.pop(key, None)

    def bounded(self, key: str) -> Function:
        """`function`, with the same answers, which does not begin what is too much work."""
        function, setting = self.function(key), self._settings.get(key)
        if not isinstance(setting, Setting) or not (setting.walks or setting.reading):
            return function
        whole, reading = setting.whole, setting.reading

        def answer(context: Mapping[str, Any]) -> Outcome:
            metered = Metered(context, 2 * limits.EVALUATION_STEPS_MAX)
            if reading is not None:
                metered.left -= reading.steps(context, metered.left)
            outcome = function(metered) if metered.left >= 0 else whole(metered)
            self.exhausted += metered.left < 0
            return outcome

        return answer

    def metered(self, context: Mapping[str, Any]) -> Mapping[str, Any]:
        """The context for a request for all settings, charged for its long lists and texts.

        The same one when it costs next to nothing and no setting walks lists. One that is metered
        pays on: a request may ask several evaluators. Raises `TooMuchWork` where that is plain
        beforehand.
        """
        if type(context) is Metered:
            context.left -= self.reading.steps(context, context.left)
            self.settle(context)
            return context
        steps = self.reading.steps(context, limits.REQUEST_STEPS_MAX)
        if not self.walks and steps < limits.REQUEST_STEPS_MAX // 100:
            return context
        metered = Metered(context, limits.REQUEST_STEPS_MAX - steps)
        self.settle(metered)
        return metered

    def settle(self, context: Mapping[str, Any]) -> None:
        """After such a request; raises `TooMuchWork` when that is what it was."""
        if type(context) is Metered and context.left < 0:
            self.exhausted += 1
            raise TooMuchWork

    def evaluate_all(self, context: Mapping[str, Any] = NO_ATTRIBUTES) -> dict[str, Outcome]:
        """Every setting's answer, by key."""
        return {key: self.evaluate(key, context) for key in self._flags}

    def fused(
        self,
        render: Callable[[Outcome], T],
        join: Callable[[list[T]], T],
        pause: Callable[[], None] = lambda: None,
    ) -> Fused[T]:
        """Every setting's answer in one call, rendered, in the order of `keys` (`targeting.fuse`).

        Compiles all of them, 0.1 to 0.2 ms each; `pause` is called between them.
        """
        members = (self._member(key) for key in self._flags)
        return fuse(members, self._facts, render, join, pause)

    def explain(
        self,
        key: str,
        context: Mapping[str, Any] = NO_ATTRIBUTES,
        rule_names: Sequence[str] = (),
    ) -> Explanation:
        """Why `evaluate` answers as it does; `rule_names` are the authors', in order. Not fast."""
        outcome = self.evaluate(key, context)
        setting = self._settings.get(key)
        if isinstance(setting, Setting):
            return setting.explain(context, rule_names)
        return explanation(outcome, self._facts.bucketing)

    def outcomes(self) -> Iterator[Outcome]:
        """Every answer that exists so far: those of the settings that were asked for."""
        for setting in list(self._settings.values()):
            if isinstance(setting, Outcome):
                yield setting
            else:
                yield from setting.answers

    def replace(self, key: str, function: Function) -> None:
        """See `Owner`."""
        self.table[key] = function

    def failed_in(self, key: str, context: Mapping[str, Any]) -> None:
        """See `Owner`."""
        self.failed += 1
        self.failing.append((key, context))

    def _member(self, key: str) -> Member:
        function = self.function(key)
        setting = self._settings[key]
        if isinstance(setting, Outcome):
            return setting
        return Ruled(setting.answers, self._source.targeting(key), setting, function)

    def _load(self, key: str) -> Setting | Outcome:
        """A setting, or its only answer."""
        try:
            flag = self._source.flag(key)
            for problem in check_bounds(flag, self._flags[key]):
                return self._unloadable(key, "PARSE_ERROR", problem.message)
            metadata = definitions.merged(flag, self.metadata)
            if flag.state == "DISABLED":
                return Outcome(key, "DISABLED", metadata=metadata)
            answers = Answers(
                key, flag.variants, flag.default_variant, metadata, self._types.get(key)
            )
            root = self._source.prepared(flag)
            if root is None:
                return answers.static
            return self._ruled(answers, root)
        except (definitions.BadFlag, BadRule) as error:
            return self._unloadable(key, "PARSE_ERROR", str(error))

    def _ruled(self, answers: Answers, root: Node) -> Setting:
        setting = Setting(answers, root, self._facts, self._source, self._self)
        self.walks = self.walks or setting.walks
        reading, costs = Reading(), costs_ns(root)
        reading.add(costs)
        setting.reading = reading if reading.is_dear else None
        if setting.key not in self._charged:  # it may have been forgotten meanwhile
            self._charged.add(setting.key)
            self.reading.add(costs)
        return setting

    def _unloadable(self, key: str, code: ErrorCode, message: str) -> Outcome:
        return Outcome(key, "ERROR", error=(code, message), metadata=self.metadata)
