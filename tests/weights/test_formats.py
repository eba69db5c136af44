"""Every format that checkpoints were saved in is read, and nothing in a file is run."""

import os
import pickle
import re
import struct
import tarfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from switchnorm.errors import InputError
from switchnorm.weights import read_checkpoint, read_state
from tests.weights.files import (
    WRITERS,
    Attack,
    layout,
    storages_member,
    tensors_member,
    triple,
    write_legacy,
    write_tar,
    write_zip,
)


def small() -> dict[str, torch.Tensor]:
    return {
        "conv.weight": torch.randn(4, 3, 3, 3),
        "double": torch.randn(2, 5, dtype=torch.float64),
        "half": torch.randn(7).half(),
        "count": torch.tensor(7),
        "flags": torch.tensor([0, 255], dtype=torch.uint8),
        "empty": torch.empty(0, 3),
    }


def same(state, expected) -> None:
    assert state.keys() == expected.keys()
    for key, value in expected.items():
        assert state[key].dtype == value.dtype
        assert state[key].device.type == "cpu"
        assert torch.equal(state[key], value), key


@pytest.mark.parametrize("suffix", [".pth", ".pth.tar", ".tar", ".ckpt", ""])
@pytest.mark.parametrize("kind", WRITERS)
def test_the_content_tells_the_format_and_no_suffix(tmp_path, kind, suffix):
    state = small()
    WRITERS[kind](state, tmp_path / f"x{suffix}")
    file = read_checkpoint(tmp_path / f"x{suffix}")
    assert (file.format, file.container, file.prefix, file.beside) == (kind, "", "", ())
    same(file.state, state)


def test_safetensors_are_known_without_their_suffix(tmp_path):
    state = small()
    save_file(state, tmp_path / "x.bin")
    assert read_checkpoint(tmp_path / "x.bin").format == "safetensors"
    same(read_state(tmp_path / "x.bin"), state)


@pytest.mark.parametrize("kind", WRITERS)
def test_training_checkpoints_are_unpacked(tmp_path, kind):
    state = small()
    training = {
        "epoch": 100,
        "arch": "resnet50",
        "best_prec1": np.float64(76.5),
        "accuracies": [np.float32(1.5), np.arange(3), np.int64(3)],
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
        "state_dict": {f"module.module.{key}": value for key, value in state.items()},
    }
    WRITERS[kind](training, tmp_path / "x.pth.tar")
    file = read_checkpoint(tmp_path / "x.pth.tar")
    assert (file.container, file.prefix) == ("state_dict", "module.module.")
    assert file.beside == ("epoch", "arch", "best_prec1", "accuracies", "optimizer")
    same(file.state, state)


@pytest.mark.parametrize("kind", ["torch zip", "torch legacy"])
def test_what_was_saved_on_a_gpu_is_read_without_one(tmp_path, monkeypatch, kind):
    state = {"a": torch.randn(3), "b": torch.randn(2, 2)}
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:7")
    WRITERS[kind](state, tmp_path / "x.pth")
    monkeypatch.undo()
    if kind == "torch legacy":  # the types of storages that PyTorch had until 1.0
        content = (tmp_path / "x.pth").read_bytes()
        assert b"ctorch\nFloatStorage" in content
        (tmp_path / "x.pth").write_bytes(content.replace(b"ctorch\nFloatStorage", b"ctorch.cuda\nFloatStorage"))
    assert b"cuda:7" in (tmp_path / "x.pth").read_bytes()
    same(read_state(tmp_path / "x.pth"), state)


def test_the_oldest_format_is_read_without_the_gpu_it_was_saved_on(tmp_path):
    state = {"a": torch.randn(3)}
    write_tar(state, tmp_path / "x.pth", storages=storages_member([state["a"]], "cuda:0", "torch.cuda"))
    same(read_state(tmp_path / "x.pth"), state)


def python_2(pickled: bytes) -> bytes:
    """The same pickle with its text as Python 2's strings."""

    def shortened(match: re.Match) -> bytes:
        text = match[2]
        return b"U" + match[1] + text if len(text) == match[1][0] else match[0]

    return re.sub(rb"X(.)\x00\x00\x00([ -~]+?)(?=q)", shortened, pickled, flags=re.DOTALL)


def test_files_of_python_2_are_read(tmp_path):
    state = {"module.a": torch.ones(3), "module.b": torch.ones(2, 2)}
    write_legacy({"state_dict": state, "arch": "x", "best_prec1": np.float64(1.0)}, tmp_path / "x.pth")
    content = python_2((tmp_path / "x.pth").read_bytes())
    assert b"U\x0astate_dict" in content
    (tmp_path / "x.pth").write_bytes(content)
    same(read_state(tmp_path / "x.pth"), {"a": torch.ones(3), "b": torch.ones(2, 2)})


def test_text_of_python_2_may_be_any_bytes(tmp_path):
    raw = pickle.dumps(np.float64(76.5), 2)
    as_string = re.sub(rb"c_codecs\nencode\n.*?R", lambda _: b"U\x08" + struct.pack("<d", 76.5), raw, flags=re.DOTALL)
    assert len(as_string) < len(raw)
    write_tar({"a": torch.ones(3)}, tmp_path / "x.pth")
    body = b"\x80\x02}(U\x0abest_prec1" + as_string[2:-1] + b"U\x0astate_dict}U\x01aU\x041000Qsu."
    write_tar({"a": torch.ones(3)}, tmp_path / "x.pth", pickle=body)
    file = read_checkpoint(tmp_path / "x.pth")
    assert file.beside == ("best_prec1",)
    same(file.state, {"a": torch.ones(3)})


@pytest.mark.parametrize("kind", WRITERS)
def test_keys_that_python_2_left_as_bytes_are_text(tmp_path, kind):
    WRITERS[kind]({b"state_dict": {b"a.weight": torch.ones(2)}}, tmp_path / "x.pth")
    same(read_state(tmp_path / "x.pth"), {"a.weight": torch.ones(2)})


# --- the tar format of torch 0.1 ---


def test_torchs_own_reader_agrees_on_the_oldest_format(tmp_path):
    state = small()
    write_tar(state, tmp_path / "x.pth")
    same(torch.load(tmp_path / "x.pth", weights_only=False), state)
    same(read_state(tmp_path / "x.pth"), state)


def test_views_and_strides_of_the_oldest_format(tmp_path):
    whole = torch.arange(12.0)
    storages = storages_member([whole])[: -len(pickle.dumps([], 2))] + pickle.dumps([(77, 0, 4, 8)], 2)
    tensors = pickle.dumps(1, 2) + triple(1000, 77, ("torch", "FloatTensor")) + layout((2, 3), (1, 2), 2)
    write_tar({"a": whole}, tmp_path / "x.pth", storages=storages, tensors=tensors)
    expected = {"a": whole.as_strided((2, 3), (1, 2), 4 + 2)}
    same(torch.load(tmp_path / "x.pth", weights_only=False), expected)
    same(read_state(tmp_path / "x.pth"), expected)


HEAD = pickle.dumps(1, 2) + triple(1000, 0, ("torch", "FloatTensor"))
IMPOSSIBLE = {
    "larger than its storage": {"tensors": HEAD + layout((2, 2), (2, 1), 0)},
    "outside its storage": {"tensors": HEAD + layout((3,), (1,), 1)},
    "negative offset": {"tensors": HEAD + layout((1,), (1,), -1)},
    "negative stride": {"tensors": HEAD + layout((2,), (-1,), 1)},
    "a number repeated until memory ends": {"tensors": HEAD + layout((1 << 40,), (0,), 0)},
    "dimensions without end": {"tensors": HEAD + struct.pack("<i4x", 1 << 30)},
    "negative dimensions": {"tensors": HEAD + struct.pack("<i4x", -1)},
    "an unknown storage": {"tensors": pickle.dumps(1, 2) + triple(1000, 5, ("torch", "FloatTensor"))},
    "tensors without end": {"tensors": pickle.dumps(1 << 60, 2)},
    "bytes without end": {
        "storages": pickle.dumps(1, 2) + triple(0, "cpu", ("torch", "FloatStorage")) + struct.pack("<q", 1 << 50)
    },
    "a storage of negative length": {
        "storages": pickle.dumps(1, 2) + triple(0, "cpu", ("torch", "FloatStorage")) + struct.pack("<q", -1)
    },
    "a view outside": {
        "storages": storages_member([torch.zeros(3)])[: -len(pickle.dumps([], 2))] + pickle.dumps([(9, 0, 2, 2)], 2)
    },
    "a type of no storage": {"storages": pickle.dumps(1, 2) + triple(0, "cpu", ("collections", "OrderedDict"))},
    "a memo without end": {"pickle": b"\x80\x02Nr\xff\xff\xff\x7f."},
    "text without end": {"pickle": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"."},
    "a module with its source": {"pickle": b"\x80\x02(U\x01aU\x01bU\x01ctQ."},
    "an unknown tensor": {"pickle": pickle.dumps(0, 2)[:2] + b"U\x0599999Q."},
    "no end": {"pickle": b"\x80\x02}"},
    "nothing": {"pickle": b""},
}


@pytest.mark.parametrize("damage", IMPOSSIBLE)
def test_impossible_tar_files_are_refused_in_one_line(tmp_path, damage):
    write_tar({"a": torch.zeros(3)}, tmp_path / "x.pth", **IMPOSSIBLE[damage])
    with pytest.raises(InputError, match=r"x\.pth.*expected tensors by name") as caught:
        read_state(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)


def test_a_tar_archive_of_something_else_is_no_checkpoint(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "a.txt", "a.txt")
    with pytest.raises(InputError, match=r"x\.tar.*no checkpoint"):
        read_state(tmp_path / "x.tar")


# --- files that want to act ---


def attacks():
    attack = pickle.dumps(Attack(), 2)
    state = {"a": torch.zeros(3)}
    count = pickle.dumps(1, 2)
    return {
        "zip": lambda path: write_zip({"state_dict": state, "extra": Attack()}, path),
        "legacy": lambda path: write_legacy({"state_dict": state, "extra": Attack()}, path),
        "tar": lambda path: write_tar({"state_dict": state, "extra": Attack()}, path),
        "tar storages": lambda path: write_tar(state, path, storages=attack),
        "tar storage": lambda path: write_tar(state, path, storages=count + attack),
        "tar tensors": lambda path: write_tar(state, path, tensors=attack),
        "tar tensor": lambda path: write_tar(state, path, tensors=count + attack),
        "tar class": lambda path: write_tar(state, path, pickle=b"\x80\x02(U\x08attackedios\nmkdir\n."),
        "tar by name": lambda path: write_tar(state, path, pickle=b"\x80\x02cnumpy.core\nmultiarray.os\n."),
        "plain pickle": lambda path: path.write_bytes(attack),
    }


@pytest.mark.parametrize("kind", attacks())
def test_no_format_runs_anything(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    attacks()[kind](tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"x\.pth.*(would have to run code|no checkpoint)") as caught:
        read_state("x.pth")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "attacked").exists()


def test_the_attack_would_work_on_a_careless_reader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tar({"state_dict": {"a": torch.zeros(3)}, "extra": Attack()}, tmp_path / "x.pth")
    torch.load("x.pth", weights_only=False)
    assert (tmp_path / "attacked").is_dir()


def test_what_stands_for_numpy_is_allowed_only_while_a_file_is_read(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    write_zip({"state_dict": {"a": torch.ones(1)}, "best": np.float64(1)}, tmp_path / "x.pth")
    read_state(tmp_path / "x.pth")
    assert set(torch.serialization.get_safe_globals()) == before


# --- damage ---


def test_a_pipe_is_named_as_one(tmp_path):
    os.mkfifo(tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"x\.pth' is a pipe or a device; expected a file"):
        read_state(tmp_path / "x.pth")


@pytest.mark.parametrize("kind", [*WRITERS, "safetensors"])
def test_truncated_anywhere_a_file_is_refused(tmp_path, kind):
    file = tmp_path / "x.pth"
    (save_file if kind == "safetensors" else WRITERS[kind])({"a": torch.randn(40), "b": torch.randn(3)}, file)
    content = file.read_bytes()
    # Behind its last member a tar file has 1024 bytes and more of padding, which nobody misses.
    end = content.rstrip(b"\0").__len__() - 512 if kind == "torch tar" else len(content)
    for length in [*range(0, end, 37), end - 1]:
        file.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"x\.pth") as caught:
            read_state(file)
        assert "\n" not in str(caught.value)


def test_a_damaged_tar_file_is_read_or_refused_and_nothing_else(tmp_path):
    write_tar({"a": torch.randn(4), "b": torch.randn(3)}, tmp_path / "x.pth")
    content = (tmp_path / "x.pth").read_bytes()
    used = [i for i, byte in enumerate(content) if byte][::2]
    refused = 0
    for i in used:
        for value in (0, content[i] ^ 0xFF):
            (tmp_path / "x.pth").write_bytes(content[:i] + bytes([value]) + content[i + 1 :])
            try:
                read_state(tmp_path / "x.pth")
            except InputError:
                refused += 1
    assert refused > len(used) / 2


def test_an_ordered_dict_cannot_hide_its_entries(tmp_path):
    # BUILD gives an OrderedDict attributes; one of the name of a method must not stop the reader.
    entry = b"U\x01aU\x041000Qs"
    body = b"\x80\x02ccollections\nOrderedDict\n)R" + entry + b"}(U\x05itemsK\x05U\x04keysK\x05ub."
    write_tar({"a": torch.ones(3)}, tmp_path / "x.pth", pickle=body)
    same(read_state(tmp_path / "x.pth"), {"a": torch.ones(3)})


def test_tensors_member_is_what_the_reader_expects():
    # The helper's own layout: ndim takes 8 bytes, as `torch.serialization` reads it.
    (tensor,) = [torch.zeros(2, 3)]
    assert tensors_member([tensor]).endswith(struct.pack("<i4x5q", 2, 2, 3, 3, 1, 0))
