"""All settings of a snapshot in one call: one generated function, or a few for a large snapshot.

    answers = fuse(members, render, join)
    answers(context)          # what `render` makes of each setting's outcome, in order

Each attribute of the context is looked up once, each answer is rendered when the function is made,
and neighbours that answer the same to everybody are joined then. The source is as in `compile`,
with nothing of a rule in it:

    def answers(c):
        g = c.get
        a0 = g(k0)
        try:
            v0 = k2 if (a0 in k1) else k3
        except Exception:
            v0 = k4(c)
        …
        return (k5, v0, v1)

An absent attribute is null, as everywhere, and code that can't go on with null raises; then this
one setting is evaluated by the interpreter, and no other one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from types import CodeType, FunctionType
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from holdfast.core.targeting.answers import Answers
from holdfast.core.targeting.attributes import Every
from holdfast.core.targeting.compile import GLOBALS, Exact, Function, code_of
from holdfast.core.targeting.emit import Emitter, is_choice
from holdfast.core.targeting.facts import Facts
from holdfast.core.targeting.outcome import Outcome
from holdfast.core.targeting.prepare import NULL, Node

T = TypeVar("T")

CHUNK_CALLS: Final = 160
"""Operators in one generated function: Python compiles them in some milliseconds, which other
threads wait for."""
MEMBER_CALLS_MAX: Final = CHUNK_CALLS
"""Rules with more operators keep their own function."""
SHAPES_MAX: Final = 256
"""Code objects kept for later generations, of some 100 kB each at most."""

_shapes: dict[bytes, CodeType] = {}


class Ruled(NamedTuple):
    """A setting with targeting, as `fuse` needs it; `function` is the one of its own."""

    answers: Answers
    root: Node
    exact: Exact
    function: Function


Member: TypeAlias = Outcome | Ruled
"""A setting: its only answer, or how it comes to one."""


class Fused(Generic[T]):
    """`fused(context)` gives each setting's answer, rendered; it never raises.

    Where neighbours were joined there are fewer items than settings.
    """

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[Callable[[Mapping[str, Any]], Sequence[T]]]) -> None:
        self._parts = tuple(parts)

    def __call__(self, context: Mapping[str, Any]) -> list[T]:
        found: list[T] = []
        for part in self._parts:
            found += part(context)
        return found


def fuse(
    members: Iterable[Member],
    facts: Facts,
    render: Callable[[Outcome], T],
    join: Callable[[list[T]], T],
    pause: Callable[[], None],
) -> Fused[T]:
    """One function for all members. Takes some 0.1 ms each, in pieces of a few milliseconds.

    `render` is called once for each outcome, then or when it first comes up; `join` makes one item
    of several; `pause` is called between members.
    """
    rendered = _Rendered(render)
    return Fused([_chunk(chunk, facts, rendered, join, pause) for chunk in _chunks(members)])


class _Rendered(Generic[T]):
    """What was rendered so far: a setting has as many outcomes as variants, and a few errors."""

    def __init__(self, render: Callable[[Outcome], T]) -> None:
        self._render = render
        self._known: dict[Outcome, T] = {}

    def __call__(self, outcome: Outcome) -> T:
        try:
            return self._known[outcome]
        except KeyError:
            return self._known.setdefault(outcome, self._render(outcome))


def _chunks(members: Iterable[Member]) -> Iterator[list[Member]]:
    chunk: list[Member] = []
    calls = 0
    for member in members:
        chunk.append(member)
        calls += 1 + (0 if isinstance(member, Outcome) else member.root.calls)
        if calls >= CHUNK_CALLS:
            yield chunk
            chunk, calls = [], 0
    if chunk:
        yield chunk


def _chunk(
    members: list[Member],
    facts: Facts,
    rendered: _Rendered[T],
    join: Callable[[list[T]], T],
    pause: Callable[[], None],
) -> Callable[[Mapping[str, Any]], Sequence[T]]:
    emitter = _Emitter(facts)
    items: list[str] = []
    alike: list[T] = []

    def settle() -> None:
        if alike:
            items.append(emitter.bind(alike[0] if len(alike) == 1 else join(alike)))
            alike.clear()

    for member in members:
        if isinstance(member, Outcome):
            alike.append(rendered(member))
        else:
            settle()
            items.append(emitter.member(member, rendered))
            pause()
    settle()
    function = emitter.function(items)
    return _one_by_one(members, rendered) if function is None else function


def _one_by_one(
    members: list[Member], rendered: _Rendered[T]
) -> Callable[[Mapping[str, Any]], Sequence[T]]:
    """For rules nested beyond what Python compiles."""

    def answers(context: Mapping[str, Any]) -> list[T]:
        return [
            rendered(member if isinstance(member, Outcome) else member.function(context))
            for member in members
        ]

    return answers


class _Emitter(Emitter):
    """The source of one function over several settings, whose constants are its globals."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts, "", _nothing, Every())
        self._attributes: dict[str, str] = {}
        self._lines: list[str] = []
        self._members = 0

    def _name(self, index: int) -> str:
        return f"k{index}"

    def found(self, name: str) -> str:
        local = self._attributes.get(name)
        if local is None:
            local = self._attributes[name] = f"a{len(self._attributes)}"
        return local

    def member(self, member: Ruled, rendered: _Rendered[Any]) -> str:
        """The name of the variable that has the setting's answer."""
        target = f"v{self._members}"
        self._members += 1
        answers, root, exact, function = member  # what stays must not keep the root with it

        def gives(value: Any) -> Any:
            return rendered(answers.resolve(value))

        def exactly(context: Mapping[str, Any]) -> Any:
            return rendered(exact.whole(context))

        if root.calls > MEMBER_CALLS_MAX:
            self._lines.append(f" {target} = {self.bind(rendered)}({self.bind(function)}(c))")
            return target
        self.turn_to(answers.key, gives)
        body = self._assigned(root, target, "  ")
        if self.begins:
            body.insert(0, f"  r = {self.bind(exact.begin)}(c)")
        self._lines += (
            " try:",
            *body,
            " except Exception:",
            f"  {target} = {self.bind(exactly)}(c)",
        )
        return target

    def function(self, items: list[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]] | None:
        """What gives all items; none where Python can't compile it."""
        looked_up = [f" {local} = g({self.bind(name)})" for name, local in self._attributes.items()]
        source = "\n".join(
            (
                "def answers(c):",
                " g = c.get",
                *looked_up,
                *self._lines,
                f" return ({', '.join(items)},)",
            )
        )
        shape = sha256(source.encode()).digest()
        code = _shapes.get(shape)
        if code is None:
            try:
                code = code_of(source)
            except (SyntaxError, RecursionError, MemoryError):
                return None
            if len(_shapes) >= SHAPES_MAX:
                _shapes.clear()
            _shapes[shape] = code
        return FunctionType(code, {**GLOBALS, **self.constants()}, "answers")

    def _assigned(self, node: Node, target: str, indent: str) -> list[str]:
        """Lines that assign the answer for `node`'s value on every path."""
        if not is_choice(node):
            return [f"{indent}{target} = {self.answer(node)}"]
        lines, args, word = [], node.args, "if"
        for index in range(0, len(args) - 1, 2):
            lines.append(f"{indent}{word} {self.truth(args[index])}:")
            lines += self._assigned(args[index + 1], target, indent + " ")
            word = "elif"
        last = args[-1] if len(args) % 2 else NULL
        if word == "if":
            return self._assigned(last, target, indent)
        return [*lines, f"{indent}else:", *self._assigned(last, target, indent + " ")]


def _nothing(_value: Any) -> None:
    """No setting's answer: before the first one."""
