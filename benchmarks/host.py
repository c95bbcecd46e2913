"""What the host of a virtual machine takes of its cores: time that nobody here had."""

from __future__ import annotations

import os
from pathlib import Path


def stolen_s(cores: tuple[str, ...]) -> float:
    """Of these cores together, since the machine began; 0 where the kernel does not tell."""
    lines = Path("/proc/stat").read_text().splitlines()
    names = {f"cpu{core}" for core in cores}
    fields = [line.split() for line in lines if line.split(maxsplit=1)[0] in names]
    return sum(int(each[8]) for each in fields) / os.sysconf("SC_CLK_TCK")
