"""What checkpoints hold beside plain float tensors, and how their bytes are laid out, is read as PyTorch reads it."""

import io
import zipfile
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import datetime

import pytest
import torch
from torch import nn

from switchnorm.errors import InputError
from switchnorm.weights import read_state
from switchnorm.weights.formats import read_content
from tests.weights.files import write_legacy, write_zip

WRITERS = {"zip": write_zip, "legacy": write_legacy}
DTYPES = [
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.complex64,
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int64,
]


@pytest.mark.parametrize("writer", WRITERS)
def test_views_of_any_type_are_read_as_torch_reads_them(tmp_path, writer):
    whole = torch.randn(6, 4)
    state = {str(dtype): (torch.randn(3, 2) * 3).to(dtype) for dtype in DTYPES}
    state |= {
        "t": whole.T,
        "part": whole[1::2, ::3],
        "row": whole[2],
        "0-dim": torch.tensor(3.5),
        "one": whole[:1].expand(5, 4),
    }
    state |= {"none": torch.empty(0, 7), "parameter": nn.Parameter(whole), "again": whole}
    WRITERS[writer](state, tmp_path / "x")
    found, theirs = read_state(tmp_path / "x"), torch.load(tmp_path / "x", weights_only=True)
    assert list(found) == list(theirs)
    for key, value in theirs.items():
        assert torch.equal(found[key], value), key
        assert (found[key].dtype, found[key].stride()) == (value.dtype, value.stride()), key
    found["again"].zero_()
    assert not found["t"].any()  # they share memory, as they did


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.uint16, torch.uint32])
def test_types_without_a_storage_of_their_own_are_read(tmp_path, dtype):
    value = torch.tensor([1, 2, 3]).to(dtype)
    write_zip({"a": value}, tmp_path / "x")
    assert torch.equal(read_state(tmp_path / "x")["a"].view(torch.uint8), value.view(torch.uint8))


def test_what_training_keeps_beside_weights_is_read(tmp_path):
    value = {
        "milestones": Counter({30: 1, 60: 2}),
        "size": torch.Size([2, 3]),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "set": {1, 2},
        "nested": OrderedDict(a=[(1, None, True, -0.5, "x", 2**40)]),
    }
    write_zip(value, tmp_path / "x")
    assert read_content(tmp_path / "x").value == value


def repacked(path, method: int) -> None:
    packed, target = zipfile.ZipFile(io.BytesIO(path.read_bytes())), io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as made:
        for name in packed.namelist():
            made.writestr(name, packed.read(name))
    path.write_bytes(target.getvalue())


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_files_that_were_packed_anew_are_read(tmp_path, method):
    state = {"a": torch.randn(300, 400), "b": torch.zeros(1_000_000)}
    write_zip(state, tmp_path / "x")
    repacked(tmp_path / "x", method)
    assert torch.equal(read_state(tmp_path / "x")["a"], state["a"])


def test_another_packing_is_refused(tmp_path):
    write_zip({"a": torch.randn(300)}, tmp_path / "x")
    repacked(tmp_path / "x", zipfile.ZIP_BZIP2)
    with pytest.raises(InputError, match="is packed in a way that PyTorch does not know"):
        read_state(tmp_path / "x")


def test_one_flipped_bit_of_a_weight_is_found(tmp_path):
    write_zip({"a": torch.randn(300)}, tmp_path / "x")
    content = bytearray(tmp_path.joinpath("x").read_bytes())
    place = content.index(read_state(tmp_path / "x")["a"].numpy().tobytes())
    content[place + 100] ^= 1
    (tmp_path / "x").write_bytes(content)
    torch.load(tmp_path / "x", weights_only=True)  # PyTorch does not look
    with pytest.raises(InputError, match=r"entry 'x/data/0' is damaged: its checksum is another"):
        read_state(tmp_path / "x")


def test_files_without_checksums_are_read(tmp_path, monkeypatch):
    torch.serialization.set_crc32_options(False)
    try:
        write_zip({"a": torch.ones(3)}, tmp_path / "x")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_state(tmp_path / "x")["a"].tolist() == [1, 1, 1]


def test_files_of_the_other_byte_order_are_read(tmp_path):
    write_zip({"a": torch.tensor([1.5, -2.0]), "b": torch.tensor([3, 4])}, tmp_path / "x")
    packed, target = zipfile.ZipFile(tmp_path / "x"), io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        for name in packed.namelist():
            content = packed.read(name)
            if name.endswith("byteorder"):
                content = b"big"
            if "/data/" in name and not name.endswith("id"):
                width = 4 if len(content) == 8 else 8
                content = b"".join(content[n : n + width][::-1] for n in range(0, len(content), width))
            made.writestr(name, content)
    (tmp_path / "x").write_bytes(target.getvalue())
    state = read_state(tmp_path / "x")
    assert (state["a"].tolist(), state["b"].tolist()) == ([1.5, -2.0], [3, 4])


@pytest.mark.filterwarnings("ignore")
def test_no_plain_tensor_beside_the_weights_is_in_the_way(tmp_path):
    beside = [torch.eye(3).to_sparse(), torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)]
    write_zip({"state_dict": {"a": torch.ones(2)}, "beside": [*beside, torch.ones(2, device="meta")]}, tmp_path / "x")
    assert read_state(tmp_path / "x")["a"].tolist() == [1, 1]


def test_keys_that_cannot_be_printed_are_refused(tmp_path):
    write_zip({"a\x1b[31m": torch.ones(2)}, tmp_path / "x")
    with pytest.raises(InputError, match=r"a key that cannot be printed, 'a\\x1b\[31m'"):
        read_state(tmp_path / "x")


def test_what_training_scripts_keep_beside_the_weights_is_in_the_way_of_nothing(tmp_path):
    beside = {
        "args": Namespace(lr=0.1, output=tmp_path, milestones=[1, 2]),
        "time": datetime.now(),
        "losses": deque([0.5, 0.25], maxlen=3),
        "optimizer": {"state": defaultdict(dict, {0: {"step": 3}})},
    }
    for writer in WRITERS.values():
        writer({"state_dict": {"a": torch.ones(2)}, **beside}, tmp_path / "x")
        assert read_state(tmp_path / "x")["a"].tolist() == [1, 1]
