"""A program that uses settings, as a process of its own: it reads, fails when told, and reports.

    shopper.py ENDPOINT TOKEN RING UNITS [nack]

It serves UNITS users over and over. A request fails when `tiles` is 13, and one in a thousand
does anyhow. It prints a line whenever the value changes that its first user gets. With `nack` it
refuses every candidate in which `tiles` may be 13, as one does whose contract or schema says so.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from holdfast import Client
from holdfast.core import trust
from holdfast.core.errors import Untrusted

BAD = 13
ROUND_S = 0.05


def refuse_bad_values() -> None:
    """Make this consumer one that can't read a certain value."""
    admit = trust.admit

    def picky(*args: Any, **kwargs: Any) -> Any:
        admitted = admit(*args, **kwargs)
        if b'"few~' in bytes(admitted.snapshot.flags["tiles"]):
            refusal = Untrusted("schema", "13 is no number of tiles")
            refusal.revision, refusal.digest = admitted.revision, admitted.digest
            raise refusal
        return admitted

    trust.admit = picky


def main(endpoint: str, token: str, ring: str, units: int) -> None:
    client = Client([endpoint], service="shop", token=token, application=f"shopper/{ring}")
    last = None
    number = 0
    while True:
        for unit in range(units):
            context = {"targetingKey": f"{ring}-{unit}", "ring": ring}
            value = client.get_int("tiles", 0, context)
            number += 1
            client.report(context, ok=value != BAD and number % 1_000 != 0)
            if unit == 0 and value != last:
                last = value
                sys.stdout.write(f"{value}\n")
                sys.stdout.flush()
        time.sleep(ROUND_S)


if __name__ == "__main__":
    if "nack" in sys.argv[5:]:
        refuse_bad_values()
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
