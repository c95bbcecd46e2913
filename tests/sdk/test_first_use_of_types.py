"""Threads that are the first to need a type: msgspec makes what it knows of one without a lock."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import importlib.util, sys, threading
from holdfast.core.targeting.outcome import Outcome

SOURCE = '''
from __future__ import annotations
import msgspec
class Codec(msgspec.Struct, frozen=True):
    name: str = ""
    kbps: int = 0
class Media(msgspec.Struct, frozen=True):
    first: Codec = Codec()
    others: tuple[Codec, ...] = ()
    limits: dict[str, int] = {}
class Calling(msgspec.Struct, frozen=True):
    media: Media
'''
MEDIA = {"first": {"name": "av1", "kbps": 1}, "others": [{"name": "vp9"}], "limits": {"up": 1}}

def decode_in_control(module):
    from holdfast.apps.control.body import decode
    decode(b'{"media":{"first":{"kbps":1},"others":[{"name":"vp9"}]}}', module.Calling)

def bind(module):
    from holdfast.sdk.bind import fill
    fill(module.Calling, lambda key: Outcome(key, "STATIC", value=MEDIA))

way = {"bind": bind, "decode_in_control": decode_in_control}[sys.argv[1]]
sys.setswitchinterval(1e-6)
for number in range(300):
    spec = importlib.util.spec_from_loader(f"made_{number}", None)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    exec(SOURCE, module.__dict__)
    together = threading.Barrier(4)
    def work():
        together.wait()
        way(module)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads: each.start()
    for each in threads: each.join()
print("alive")
"""


@pytest.mark.parametrize("way", ["bind", "decode_in_control"])
def test_they_do_not_end_the_process(way: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, way], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, "alive"), ended.stderr
    assert ended.stderr == ""
