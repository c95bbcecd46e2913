"""Whether anything has changed since somebody last looked, told by one comparison."""

from __future__ import annotations


class Edition:
    """`now` is another object after each change, the very same one as long as there is none.

    Whoever changes something calls `turn` behind it, from any thread. Whoever wants to rely on what
    he finds takes `now` before he looks.
    """

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = object()

    def turn(self) -> None:
        self.now = object()
