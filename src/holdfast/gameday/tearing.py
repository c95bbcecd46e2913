"""Every file of a cache torn and rotten in every way: is it found, and is it ever given back?

    python -m holdfast.gameday.tearing CACHE_DIR SEED FLIPS EVERY

Prints one line of JSON, a `Torn`. Each file is cut at every EVERY bytes, and FLIPS random bits are
flipped, one at a time, over all files; each file is whole again before the next.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from holdfast.adapters.disk_cache import DiskCache
from holdfast.core.model import Subject


class Torn(msgspec.Struct):
    """`detected`: the cache noticed, and gave nothing of the file back; `served`: it did.

    `previous`: it gave the generation before.
    """

    files: int = 0
    truncations: int = 0
    flips: int = 0
    detected: int = 0
    served: int = 0
    previous: int = 0
    examples: list[str] = []


class Place(msgspec.Struct):
    """A file, what it should hold, and how the cache is asked for it."""

    path: Path
    whole: bytes
    read: Callable[[], bytes | None]
    before: bytes | None
    generation: bool


def main(directory: Path, seed: int, flips: int, every: int) -> Torn:
    """Tear, read, put back; again and again."""
    cache, torn = DiskCache(directory), Torn()
    chance = random.Random(seed)  # noqa: S311  a drill's chance
    places = list(_places(directory, cache))
    torn.files = len(places)
    for place in places:
        for size in range(0, len(place.whole), every):
            torn.truncations += 1
            _try(cache, torn, place, place.whole[:size], f"cut at {size}")
    weights = [len(place.whole) for place in places]
    for _ in range(flips):
        [place] = chance.choices(places, weights)
        at, bit = chance.randrange(len(place.whole)), chance.randrange(8)
        rotten = bytearray(place.whole)
        rotten[at] ^= 1 << bit
        torn.flips += 1
        _try(cache, torn, place, bytes(rotten), f"bit {bit} of byte {at} flipped")
    return torn


def _places(directory: Path, cache: DiskCache) -> Iterator[Place]:
    own = directory / "holdfast-1"
    for subject in cache.subjects():
        folder = own / "generations" / subject.environment / subject.service
        newest = max(path for path in folder.iterdir() if "." not in path.name)
        bodies = list(cache.load(subject))
        yield Place(
            path=newest,
            whole=newest.read_bytes(),
            read=lambda s=subject: _first(cache, s),  # type: ignore[misc]
            before=bodies[1] if len(bodies) > 1 else None,
            generation=True,
        )
    for name in cache.names(""):
        path = own / "noted" / name
        yield Place(
            path=path,
            whole=path.read_bytes(),
            read=lambda n=name: cache.noted(n),  # type: ignore[misc]
            before=None,
            generation=False,
        )


def _first(cache: DiskCache, subject: Subject) -> bytes | None:
    return next(cache.load(subject), None)


def _try(cache: DiskCache, torn: Torn, place: Place, content: bytes, what: str) -> None:
    place.path.write_bytes(content)
    before = cache.damaged
    found = place.read()
    if found == place.before:
        torn.detected += cache.damaged == before + 1
        torn.previous += place.generation and found is not None
    else:
        torn.served += 1
        if len(torn.examples) < 5:
            torn.examples.append(f"{place.path.name}: {what}")
    place.path.with_name(place.path.name + ".damaged").unlink(missing_ok=True)
    place.path.write_bytes(place.whole)


if __name__ == "__main__":
    told = main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
