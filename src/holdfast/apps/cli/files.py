"""Settings files on this machine: which there are below the paths that were given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

SUFFIXES: Final = (".yaml", ".yml", ".json")
CONTRACTS: Final = "contracts"
"""Folders of this name hold contracts: whoever goes through the settings passes them by."""


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Each file once, directories walked in the order of names.

    What is hidden is left alone, and contracts are, unless their folder itself is given.
    """
    return list(dict.fromkeys(file for path in paths for file in _files_of(path)))


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(
        file
        for file in path.rglob("*")
        if file.suffix in SUFFIXES
        and file.is_file()
        and not any(
            part.startswith(".") or part == CONTRACTS for part in file.relative_to(path).parts
        )
    )
