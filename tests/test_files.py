"""Files that are whole at any moment, also where several processes write them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from switchnorm.errors import InputError
from switchnorm.files import check_free, write_file, write_files

#: Writes a file of one repeated letter many times.
WRITER = """
import sys
from pathlib import Path
from switchnorm.files import write_file
for _ in range(150):
    write_file(Path(sys.argv[1]), sys.argv[2] * 200_000)
"""


def test_two_processes_write_the_same_file_and_a_reader_sees_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_file(path, "x" * 200_000)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), letter], stderr=subprocess.PIPE, text=True)
        for letter in "yz"
    ]
    while any(writer.poll() is None for writer in writers):
        seen = path.read_text()
        assert (len(seen), len(set(seen))) == (200_000, 1)
    assert [(writer.returncode, writer.communicate()[1]) for writer in writers] == [(0, "")] * 2
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_file(path, "old")

    def fail(part: Path) -> None:
        part.write_text("half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_files({path: fail})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_parts_of_dead_processes_are_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    gone, alive, elsewhere, unknown = (
        tmp_path / f".a.txt.{end}.part"
        for end in (f"{host}.{dead.pid}", f"{host}.{os.getppid()}", f"{host}2.{dead.pid}", f"{host}.x")
    )
    for part in (gone, alive, elsewhere, unknown):
        part.write_text("half")
    write_file(tmp_path / "a.txt", "whole")
    assert [part.exists() for part in (gone, alive, elsewhere, unknown)] == [False, True, True, True]


def test_files_that_may_not_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    for path, message in (("no/a", "does not exist"), (".", "is a folder"), ("there", "replace it with --force")):
        with pytest.raises(InputError, match=message):
            check_free(tmp_path / path, False)
    check_free(tmp_path / "there", True)
