"""A checkpoint with one flipped bit is refused, wherever it is; files without a checksum are read as ever."""

from __future__ import annotations

import errno
import os
import random
import zipfile
from pathlib import Path

import pytest
import torch

from switchnorm.errors import InputError
from switchnorm.weights import read_state
from switchnorm.weights.checksum import verify, write_with_checksum

STATE = {"weight": torch.arange(500.0), "bias": torch.zeros(3)}


def write(path: Path, state: object = STATE) -> bytes:
    write_with_checksum(path, lambda file: torch.save(state, file))
    return path.read_bytes()


def test_every_byte_counts(tmp_path):
    path = tmp_path / "a.ckpt"
    content = write(path)
    draw = random.Random(0)
    for place in (*range(0, len(content), 11), *range(len(content) - 200, len(content))):
        damaged = bytearray(content)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged"):
            verify(path)
    for length in (*range(len(content) - 120, len(content)), 0, 30, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="is damaged"):
            read_state(path)


def test_a_reader_of_checkpoints_refuses_what_torch_would_load(tmp_path):
    path = tmp_path / "a.ckpt"
    content = bytearray(write(path))
    place = content.index(STATE["weight"].numpy().tobytes()) + 1001
    content[place] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["weight"], STATE["weight"])
    with pytest.raises(InputError, match=r"a\.ckpt' is damaged: its content is not that of its checksum"):
        read_state(path)


@pytest.mark.parametrize("mmap", [False, True])
def test_every_reader_of_zip_files_reads_them(tmp_path, mmap):
    path = tmp_path / "a.ckpt"
    write(path)
    found = torch.load(path, weights_only=True, mmap=mmap)
    assert all(torch.equal(found[key], value) for key, value in STATE.items())
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert file.comment.startswith(b"switchnorm sha256 ")


@pytest.mark.parametrize("old_format", [False, True])
def test_files_of_others_are_read_as_ever(tmp_path, old_format):
    path = tmp_path / "a.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=not old_format)
    assert torch.equal(read_state(path)["weight"], STATE["weight"])


def test_a_disk_that_is_full_is_what_is_raised(tmp_path):
    def fail(file) -> None:
        class Full:
            def write(self, data: bytes) -> int:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        file.file = Full()
        try:
            torch.save(STATE, file)
        except OSError as error:  # as torch's own writer may
            raise RuntimeError("unexpected pos") from error

    with pytest.raises(OSError, match="No space left"):
        write_with_checksum(tmp_path / "a.ckpt", fail)
