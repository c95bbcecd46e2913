"""One process to a data directory: the second one is told who the first is."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.apps.cli import run
from holdfast.apps.sole_user import sole_user
from holdfast.core.errors import Unavailable


def test_a_second_supervisor_is_refused_the_data(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with sole_user(data, "dev"):
        with pytest.raises(Unavailable, match=str(os.getpid())), sole_user(data, "dev"):
            pass
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
    with sole_user(data, "dev"):
        pass


def test_a_second_control_plane_is_refused_before_it_opens_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    with sole_user(data, "control"):
        code = run(["control", "--data", str(data), "--development", "--port", "0"])
    assert code == 1
    told = capsys.readouterr().err
    assert f"in use by another holdfast control (process {os.getpid()})" in told
    assert "give --data another directory" in told
    assert [path.name for path in data.iterdir()] == ["control.lock"]


def test_the_directory_is_free_once_its_holder_was_killed(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys; from holdfast.apps.sole_user import sole_user\n"
        "with sole_user(pathlib.Path(sys.argv[1]), 'control'): print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Unavailable, match=str(holder.pid)), sole_user(tmp_path, "control"):
            pass
        holder.kill()
    with sole_user(tmp_path, "control"):
        pass


def test_a_disk_that_takes_no_lock_is_told_with_the_way_out(tmp_path: Path) -> None:
    program = (
        "import resource, sys; from holdfast.apps.cli import run\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "sys.exit(run(['control', '--development', '--port', '0', '--data', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    [told] = done.stderr.splitlines()
    assert f"{tmp_path / 'control.lock'} can't be written: File too large" in told
    assert "give --data another directory" in told
