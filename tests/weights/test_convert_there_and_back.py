"""Converting there and back is the same bit for bit, whatever the network, the layout and the file format."""

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import switchnorm
from switchnorm.layers import SwitchNorm1d, SwitchNorm3d
from switchnorm.weights import convert, load_published, read_state
from tests.weights.files import GOLDEN, WRITERS, recorded_state, write_zip
from tests.weights.small import same, small, small_state


@pytest.mark.parametrize(
    ("network", "container", "prefix"),
    [
        ("resnetv2sn18", "state_dict", ""),
        ("resnetv1ssn50", "state_dict", ""),
        ("resnetv1sn50", "state_dict", "module."),
        ("l_resnet50", "", "module."),
    ],
)
def test_published_networks_go_there_and_back_bit_for_bit(tmp_path, network, container, prefix):
    state = recorded_state(network)
    named = {prefix + key: value for key, value in state.items()}
    write_zip({container: named, "epoch": 100} if container else named, tmp_path / "x.pth")
    card = convert(tmp_path / "x.pth", tmp_path / "x.safetensors")
    assert (card.network, card.num_classes, card.name) == (network, 1000, None)
    assert card.keys == len(state)
    assert card.parameters == int(np.load(GOLDEN / f"{network}.npz")["parameters"])
    assert card.removed_prefix == prefix
    assert card.dropped == (("epoch",) if container else ())
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    reshaped = {key for key, value in state.items() if value.shape != shapes[key]}
    assert card.reshaped == len(reshaped)
    assert all(len(shapes[key]) == 1 and len(state[key].shape) > 1 for key in reshaped)
    assert bool(reshaped) == (network != "l_resnet50")

    back = convert(tmp_path / "x.safetensors", tmp_path / "y.pth.tar")
    content = torch.load(tmp_path / "y.pth.tar", weights_only=True)
    assert list(content) == ([container] if container else list(named))
    same(content[container] if container else content, named)
    assert (back.network, back.md5, back.reshaped) == (network, card.md5, card.reshaped)
    assert not (tmp_path / "y.json").exists()


def test_the_way_back_is_readable_by_the_torch_of_its_time(tmp_path):
    write_zip(small_state(), tmp_path / "x.pth")
    convert(tmp_path / "x.pth", tmp_path / "y.pt")
    # PyTorch before 1.6 begins its files with this number, pickled.
    assert (tmp_path / "y.pt").read_bytes().startswith(b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.")


def test_both_layouts_load(tmp_path):
    write_zip(small_state(), tmp_path / "x.pth")
    convert(tmp_path / "x.pth", tmp_path / "x.safetensors")
    by_published = load_published(small(), tmp_path / "x.pth").state_dict()
    by_ours = load_published(small(), tmp_path / "x.safetensors").state_dict()
    same(by_ours, by_published)
    plain = small()
    plain.load_state_dict(load_file(tmp_path / "x.safetensors"))
    same(plain.state_dict(), by_published)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_converts_to_the_same(tmp_path, kind):
    state = small_state()
    training = {"state_dict": {f"module.{key}": value for key, value in state.items()}, "best_prec1": np.float64(76)}
    WRITERS[kind](training, tmp_path / "x.pth.tar")
    card = convert(tmp_path / "x.pth.tar", tmp_path / "x.safetensors")
    assert (card.format, card.dropped, card.removed_prefix) == (kind, ("best_prec1",), "module.")
    convert(tmp_path / "x.safetensors", tmp_path / "y.pth")
    same(torch.load(tmp_path / "y.pth")["state_dict"], training["state_dict"])


def test_layers_of_all_dimensions_go_there_and_back(tmp_path):
    with np.load(GOLDEN / "switch_norm_1d.npz") as record:
        flat = {
            key: torch.as_tensor(record[f"before.{key}"])
            for key in SwitchNorm1d(5, ("layer", "batch")).state_dict()
            if f"before.{key}" in record
        }
    cubes = {key: value for key, value in SwitchNorm3d(3).state_dict().items() if "tracked" not in key}
    for key in ("weight", "bias"):
        cubes[key] = torch.rand(1, 3, 1, 1, 1)
    for key in ("running_mean", "running_var"):
        cubes[key] = torch.rand(1, 3, 1)
    state = {f"head.{key}": value for key, value in flat.items()} | {f"n.{key}": value for key, value in cubes.items()}
    state |= {"conv.weight": torch.rand(3, 2, 3, 3, 3)}
    write_zip(state, tmp_path / "x.pth")
    convert(tmp_path / "x.pth", tmp_path / "x.safetensors")
    assert {value.dim() for key, value in read_state(tmp_path / "x.safetensors").items() if key != "conv.weight"} == {1}
    convert(tmp_path / "x.safetensors", tmp_path / "y.pth")
    same(torch.load(tmp_path / "y.pth"), state)


def test_an_unusual_published_shape_is_remembered(tmp_path):
    state = small_state() | {"1.weight": torch.rand(1, 4), "1.running_mean": torch.rand(1, 4, 1, 1)}
    write_zip(state, tmp_path / "x.pth")
    convert(tmp_path / "x.pth", tmp_path / "x.safetensors")
    convert(tmp_path / "x.safetensors", tmp_path / "y.pth")
    same(torch.load(tmp_path / "y.pth"), state)


def test_shared_and_sliced_memory_is_written_once_per_entry(tmp_path):
    whole = torch.arange(100_000.0)
    state = {"a.weight": whole[:6].view(2, 3).t(), "b.weight": whole[:6].view(2, 3)}
    write_zip(state, tmp_path / "x.pth")
    assert (tmp_path / "x.pth").stat().st_size > 400_000
    convert(tmp_path / "x.pth", tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").stat().st_size < 2_000
    convert(tmp_path / "x.safetensors", tmp_path / "y.pth")
    assert (tmp_path / "y.pth").stat().st_size < 2_000
    same(torch.load(tmp_path / "y.pth"), state)


def test_a_runs_checkpoint_converts_and_becomes_what_the_published_code_loads(tmp_path):
    model = switchnorm.create_model("digits_resnet9", norm="ssn")
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    write_zip({"state_dict": state, "epoch": 3, "optimizer_states": [{}], "loops": {}}, tmp_path / "last.ckpt")
    card = convert(tmp_path / "last.ckpt", tmp_path / "x.safetensors")
    assert (card.network, card.norm, card.num_classes) == ("digits_resnet9", "ssn", 10)
    assert card.statistics is None  # its embedding mixes two, the others three
    assert card.removed_prefix == "model."
    assert card.dropped == ("epoch", "optimizer_states", "loops")
    assert (card.top1, card.source, card.verified) == (None, None, False)
    same(read_state(tmp_path / "x.safetensors"), model.state_dict())
    back = convert(tmp_path / "x.safetensors", tmp_path / "y.pth")
    content = torch.load(tmp_path / "y.pth")["state_dict"]
    counters = [key for key in model.state_dict() if key.endswith("num_batches_tracked")]
    assert back.dropped == tuple(counters)
    assert list(content) == [key for key in model.state_dict() if key not in counters]
    assert content["bn1.weight"].shape == (1, 16, 1, 1)
    assert content["bn1.running_mean"].shape == (1, 16, 1)
    assert content["embedding.1.weight"].shape == (1, 128)
    load_published(switchnorm.create_model("digits_resnet9", norm="ssn"), tmp_path / "y.pth")


def test_norms_whose_keys_are_alike_are_not_guessed(tmp_path):
    write_zip(switchnorm.create_model("cifar_resnet20", norm="gn").state_dict(), tmp_path / "x.pth")
    card = convert(tmp_path / "x.pth", tmp_path / "x.safetensors")
    assert (card.network, card.norm, card.statistics) == ("cifar_resnet20", None, None)
    convert(tmp_path / "x.safetensors", tmp_path / "y.pth")
    same(torch.load(tmp_path / "y.pth"), torch.load(tmp_path / "x.pth"))
