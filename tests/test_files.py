"""Files that are whole at any moment, also where several processes write them."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from switchnorm.errors import InputError
from switchnorm.files import WriteError, check_free, remove_parts, write_file, write_files

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

    with pytest.raises(WriteError, match=r"a\.txt cannot be written: full; see that its disk is there"):
        write_files({path: fail})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def parts(folder: Path, name: str, *more: str) -> list[Path]:
    """A part of a dead process of this machine, of a living one, of another machine's, and what is none."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    ends = (f"@{host}.{dead.pid}", f"@{host}.{os.getppid()}", f"@{host}2.{dead.pid}", f"@{host}.x", *more)
    made = [folder / f".{name}{end}.part" for end in ends]
    for part in made:
        part.write_text("half")
    return made


def test_parts_of_dead_processes_are_removed(tmp_path: Path) -> None:
    made, others = parts(tmp_path, "a.txt"), parts(tmp_path, "a.txt.b")
    write_file(tmp_path / "a.txt", "whole")
    assert [part.exists() for part in made] == [False, True, True, True]
    assert all(part.exists() for part in others)


def test_who_owns_a_folder_removes_the_parts_of_other_machines_too(tmp_path: Path) -> None:
    mine, earlier = f"@{socket.gethostname()}.{os.getpid()}", ".host.123"
    made = parts(tmp_path, "a.txt", mine, earlier)
    (tmp_path / ".b@elsewhere.5.part").mkdir()
    (tmp_path / ".hidden").write_text("mine")
    remove_parts(tmp_path, owned=True)
    assert [part.exists() for part in made] == [False, True, False, True, False, False]
    assert not (tmp_path / ".b@elsewhere.5.part").exists()
    assert (tmp_path / ".hidden").exists()


def test_the_old_content_can_be_kept(tmp_path: Path) -> None:
    path, kept = tmp_path / "a.txt", tmp_path / "b.txt"
    found = []
    for content in ("1", "2", "3"):
        write_files({path: lambda part, content=content: part.write_text(content)}, keep={path: kept})
        found.append((path.read_text(), kept.read_text() if kept.exists() else None))
    assert found == [("1", None), ("2", "1"), ("3", "2")]
    kept.unlink()
    os.link(path, kept)  # as a kill leaves it between the two
    write_files({path: lambda part: part.write_text("4")}, keep={path: kept})
    assert (path.read_text(), kept.read_text(), len(os.listdir(tmp_path))) == ("4", "3", 2)


def test_the_old_content_is_kept_where_a_file_system_has_no_links(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path, kept = tmp_path / "a.txt", tmp_path / "b.txt"
    for content in ("1", "2"):
        write_files({path: lambda part, content=content: part.write_text(content)}, keep={path: kept})
    assert (path.read_text(), kept.read_text(), len(os.listdir(tmp_path))) == ("2", "1", 2)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "No space left on device; free some space there"),
        (errno.EDQUOT, "free some space there"),
        (errno.EROFS, "Read-only file system; make its folder writable"),
        (errno.EIO, "Input/output error; see that its disk is there and in order"),
        (errno.ESTALE, "see that its disk is there"),
    ],
)
def test_an_error_that_comes_late_is_a_line_and_leaves_the_old_file(tmp_path: Path, monkeypatch, number, words) -> None:
    path = tmp_path / "a.txt"
    write_file(path, "old")

    def fail(file: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteError) as failed:
        write_file(path, "new")
    assert str(failed.value).startswith(f"{path} cannot be written: ")
    assert words in str(failed.value)
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["a.txt"])


def test_a_folder_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="its folder is gone; put it back"):
        write_file(tmp_path / "no" / "a.txt", "new")


def test_files_that_may_not_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    for path, message in (("no/a", "does not exist"), (".", "is a folder"), ("there", "replace it with --force")):
        with pytest.raises(InputError, match=message):
            check_free(tmp_path / path, False)
    check_free(tmp_path / "there", True)


def test_a_name_that_is_no_unicode_is_spelled_out(tmp_path: Path) -> None:
    write_file(tmp_path / "a.txt", os.fsdecode(b"caf\xe9") + " fünf\n")
    assert (tmp_path / "a.txt").read_text("utf-8") == "caf\\udce9 fünf\n"


def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WriteError, match=r"pipe cannot be written: it is a device or a pipe; give the name of a file"):
        write_file(tmp_path / "pipe", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_file_in_the_place_of_a_folder_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(InputError, match="a' is a file, where a folder belongs"):
        check_free(tmp_path / "a" / "b", force=False)
