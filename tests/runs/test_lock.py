"""One process holds a folder: the others are told who, and a dead one holds nothing."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from switchnorm.errors import InputError
from switchnorm.files import WriteError
from switchnorm.runs.lock import locked

#: Holds a folder until it is told to end, with a child that is forked meanwhile and lives on.
HOLDER = """
import os, sys, time
from pathlib import Path
from switchnorm.runs.lock import locked
with locked(Path(sys.argv[1])):
    if "fork" in sys.argv and os.fork() == 0:
        os.close(0), os.close(1), os.close(2)
        time.sleep(5)
        os._exit(0)
    print("held", flush=True)
    sys.stdin.readline()
print("free", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def hold():
    """Start a process that holds a folder."""
    started = []

    def start(folder: Path, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, str(folder), *options]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_second_is_told_who_holds_it(tmp_path, hold):
    holder = hold(tmp_path, "a\x1b[31mb")
    with pytest.raises(InputError) as refused, locked(tmp_path):
        pass
    said = str(refused.value)
    assert f"{str(tmp_path)!r} is in use by process {holder.pid} on {socket.gethostname()} since 20" in said
    assert "a\\x1b[31mb" in said, "a terminal would obey"
    assert "\n" not in said
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "free\n"
    assert os.listdir(tmp_path) == []
    with locked(tmp_path):
        assert os.listdir(tmp_path) == [".lock"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("options", [(), ("fork",)])
def test_a_killed_holder_holds_nothing_nor_do_its_children(tmp_path, hold, options):
    holder = hold(tmp_path, *options)
    holder.kill()
    holder.wait()
    assert os.listdir(tmp_path) == [".lock"]
    with locked(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_of_many_at_once_one_at_a_time_goes_on(tmp_path):
    program = """
import sys, time
from pathlib import Path
from switchnorm.errors import InputError
from switchnorm.runs.lock import locked
folder, end = Path(sys.argv[1]), time.monotonic() + 1.5
while time.monotonic() < end:
    try:
        with locked(folder):
            (folder / "mine").mkdir()  # fails where somebody else holds it too
            (folder / "mine").rmdir()
    except InputError:
        pass
"""
    started = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(3)]
    assert [process.wait() for process in started] == [0] * 3
    assert os.listdir(tmp_path) == []


def test_a_holder_that_cannot_be_read_is_another_process(tmp_path, hold):
    hold(tmp_path)
    (tmp_path / ".lock").write_bytes(b"\xff[" * 2000)
    with pytest.raises(InputError, match="in use by another process; wait"), locked(tmp_path):
        pass


def test_where_there_are_no_locks_a_line_says_so(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    with locked(tmp_path):
        pass
    said = capsys.readouterr().err
    assert "no locks on this file system; see that no other process works there" in said
    assert said.count("\n") == 1


def test_a_full_disk_is_in_the_way_of_no_lock(tmp_path):
    """The file is there, and what it says of the holder does not fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(KeyError, match="what ended it"), locked(tmp_path):
            raise KeyError("what ended it")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_gone_is_named(tmp_path):
    with pytest.raises(WriteError, match=r"no/\.lock cannot be written: No such file"), locked(tmp_path / "no"):
        pass
    with locked(tmp_path):
        (tmp_path / ".lock").unlink()
