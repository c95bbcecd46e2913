"""An unmodified nginx on a loopback port, before whatever its configuration names."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from serving import DEADLINE_S, until

FRAME = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
{block}
}}
"""


@contextlib.contextmanager
def nginx_at(folder: Path, block: Callable[[int], str]) -> Iterator[int]:
    """Its port; `block` gives what stands in `http` for it."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin")
    assert program, "nginx is needed: apt install nginx (make test does)"
    folder.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (folder / "nginx.conf").write_text(FRAME.format(folder=folder, block=block(port)))
    command = [program, "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _listens(port), "nginx does not listen")
        yield port
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
