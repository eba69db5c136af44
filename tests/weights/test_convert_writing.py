"""Converting: no file is written by halves, and none that was there is lost."""

import json
import os
import re
import signal

import pytest
import torch

from switchnorm.errors import InputError
from switchnorm.files import WriteError
from switchnorm.weights import convert, read_state
from tests.weights.files import write_zip
from tests.weights.small import md5, small_state


@pytest.mark.parametrize(
    ("out", "existing"), [("x.safetensors", "x.safetensors"), ("x.safetensors", "x.json"), ("x.pth", "x.pth")]
)
def test_files_are_replaced_only_by_force(tmp_path, out, existing):
    write_zip(small_state(), tmp_path / "source.pth")
    (tmp_path / existing).write_text("precious")
    with pytest.raises(InputError, match=f"{existing}' exists.*--force"):
        convert(tmp_path / "source.pth", tmp_path / out)
    assert (tmp_path / existing).read_text() == "precious"
    convert(tmp_path / "source.pth", tmp_path / out, force=True)
    assert len(read_state(tmp_path / out)) == len(small_state())


def test_places_that_cannot_be_written_are_named(tmp_path):
    write_zip(small_state(), tmp_path / "x.pth")
    with pytest.raises(InputError, match="does not exist; make it"):
        convert(tmp_path / "x.pth", tmp_path / "nowhere/x.safetensors")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        convert(tmp_path / "x.pth", tmp_path / "folder.pth", force=True)
    with pytest.raises(InputError, match="cannot become itself"):
        convert(tmp_path / "x.pth", tmp_path / "x.pth", force=True)
    with pytest.raises(InputError, match="unknown suffix"):
        convert(tmp_path / "x.pth", tmp_path / "x.npz")
    with pytest.raises(InputError, match="does not exist"):
        convert(tmp_path / "none.pth", tmp_path / "y.pth")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.pth", "x.pth"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "made",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        lambda: torch.ones(2, device="meta"),
    ],
    ids=["sparse", "quantized", "meta"],
)
def test_tensors_that_are_no_plain_numbers_are_refused(tmp_path, made):
    write_zip({"a.weight": made()}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"holds a\.weight as no plain tensor"):
        convert(tmp_path / "x.pth", tmp_path / "y.safetensors")


@pytest.mark.parametrize("out", ["x.safetensors", "x.pth"])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, out):
    write_zip(small_state(), tmp_path / "source.pth")
    convert(tmp_path / "source.pth", tmp_path / out)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left"):
        convert(tmp_path / "source.pth", tmp_path / out, force=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def killed_at(function: str, count: int) -> None:
    """Convert in a process that is killed instead of calling `os.FUNCTION` once more than `count` times."""
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        return
    calls, original = [], getattr(os, function)

    def killed(*args):
        calls.append(args)
        if len(calls) > count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args)

    setattr(os, function, killed)
    try:
        convert("new.pth", "x.safetensors", force=True)
    finally:
        os._exit(1)


@pytest.mark.parametrize(("function", "count"), [("fsync", 1), ("replace", 0), ("replace", 1)])
def test_killed_at_any_moment_no_file_is_half_or_beside_a_stale_card(tmp_path, monkeypatch, function, count):
    old, new = small_state(), small_state()
    write_zip(old, tmp_path / "old.pth")
    write_zip(new, tmp_path / "new.pth")
    convert(tmp_path / "old.pth", tmp_path / "x.safetensors")
    monkeypatch.chdir(tmp_path)
    killed_at(function, count)
    written = read_state(tmp_path / "x.safetensors")
    is_new = torch.equal(written["0.weight"], new["0.weight"])
    assert torch.equal(written["0.weight"], (new if is_new else old)["0.weight"])
    if (tmp_path / "x.json").exists():
        source = tmp_path / ("new.pth" if is_new else "old.pth")
        assert json.loads((tmp_path / "x.json").read_text())["md5"] == md5(source)
    convert(tmp_path / "new.pth", tmp_path / "x.safetensors", force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.pth", "old.pth", "x.json", "x.safetensors"]


def test_numbers_that_are_not_finite_are_said(tmp_path):
    state = small_state()
    key = next(key for key, value in state.items() if value.is_floating_point())
    state[key].view(-1)[0] = float("nan")
    write_zip(state, tmp_path / "x.pth")
    with pytest.warns(UserWarning, match=f"not finite in 1 of {len(state)} entries, the first is {re.escape(key)}"):
        convert(tmp_path / "x.pth", tmp_path / "x.safetensors")
