"""What the host of a virtual machine takes of its cores: time that nobody here had.

A host that lends its time takes some back after a full core.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

REST_S: Final = 45
"""After minutes of a full core."""


def rest() -> None:
    """Before what is measured in milliseconds of a wall clock."""
    time.sleep(REST_S)


def stolen_s(cores: tuple[str, ...]) -> float:
    """Of these cores together, since the machine began; 0 where the kernel does not tell."""
    lines = Path("/proc/stat").read_text().splitlines()
    names = {f"cpu{core}" for core in cores}
    fields = [line.split() for line in lines if line.split(maxsplit=1)[0] in names]
    return sum(int(each[8]) for each in fields) / os.sysconf("SC_CLK_TCK")
