"""Converting checkpoints: bit for bit there and back, with the right card, and never half."""

import hashlib
import importlib
import json
import os
import re
import signal
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import SparseSwitchNorm2d, SwitchNorm1d, SwitchNorm2d, SwitchNorm3d
from switchnorm.weights import Card, convert, file_importance, identity, load_published, published, read_state
from tests.weights.files import GOLDEN, WRITERS, recorded_state, write_legacy, write_zip

PUBLISHED_PAIR = "ade_resnet50_dilated8_c1_bilinear_deepsup"
#: A few layers of that network, with all kinds of entries.
PART = re.compile(r"encoder\.(conv1|sn1|layer4\.2)\.|decoder\.conv_last")

#: The module; its function has the same name.
TABLE = importlib.import_module("switchnorm.weights.published")


def md5(path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def same(state, expected) -> None:
    assert list(state) == list(expected)
    for key, value in expected.items():
        assert (state[key].shape, state[key].dtype) == (value.shape, value.dtype), key
        assert torch.equal(state[key], value), key


@pytest.fixture
def small_published(monkeypatch):
    """A published checkpoint of a small network, as if the table had it: returns a function that adds it."""

    def add(**changes):
        usual = {"name": "small", "network": "none", "file": "small.pth", "md5": None}
        added = replace(published("resnetv1ssn50-8x2"), **(usual | changes))
        monkeypatch.setattr(identity, "PUBLISHED", (added,))
        monkeypatch.setattr(TABLE, "PUBLISHED", (added,))
        return added

    return add


def small(norm: str = "ssn", statistics=("instance", "layer", "batch")) -> nn.Module:
    layer = {"sn": SwitchNorm2d, "ssn": SparseSwitchNorm2d}[norm]
    return nn.Sequential(nn.Conv2d(3, 4, 3), layer(4, statistics), nn.Conv2d(4, 5, 1), layer(5, statistics))


def small_state(**options):
    """The small network's state in the published layout."""
    state = small(**options).state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            value.uniform_(0.1, 0.9)
        if key[0] in "13" and value.dim() == 1 and len(value) > 3:
            state[key] = value.reshape(1, -1, 1) if "running" in key else value.reshape(1, -1, 1, 1)
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


# --- there and back ---


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


# --- encoder and decoder ---

PAIR = "resnet50_dilated8+c1_bilinear_deepsup"


def write_parts(folder, state, containers=("", ""), prefixes=("", "")) -> tuple[Path, Path]:
    """The files of encoder and decoder as they were published, wrapped as training scripts may have done."""
    files = folder / "encoder_epoch_20.pth", folder / "decoder_epoch_20.pth"
    for file, container, prefix in zip(files, containers, prefixes, strict=True):
        part = file.name.split("_")[0]
        named = {f"{prefix}{k.removeprefix(f'{part}.')}": v for k, v in state.items() if k.startswith(f"{part}.")}
        write_legacy({container: named, "epoch": 20} if container else named, file)
    return files


@pytest.mark.parametrize(
    ("containers", "prefixes"),
    [(("", ""), ("", "")), (("state_dict", ""), ("module.", "")), (("", ""), ("", "module."))],
)
def test_published_pairs_become_one_file_and_go_back_bit_for_bit(tmp_path, containers, prefixes):
    state = {key: value[:4].clone() for key, value in recorded_state(PUBLISHED_PAIR).items() if PART.match(key)}
    state = dict(sorted(state.items(), key=lambda item: item[0].startswith("decoder.")))
    files = write_parts(tmp_path, state, containers, prefixes)
    card = convert(files[0], tmp_path / "x.safetensors", decoder=files[1])
    assert (card.md5, card.decoder_md5) == (md5(files[0]), md5(files[1]))
    assert card.dropped == (("epoch",) if any(containers) else ())
    assert read_state(tmp_path / "x.safetensors").keys() == state.keys()
    back = convert(tmp_path / "x.safetensors", tmp_path / "e.pth", decoder=tmp_path / "d.pth")
    assert (back.md5, back.decoder_md5) == (card.md5, card.decoder_md5)
    for file, again, container in zip(files, ("e.pth", "d.pth"), containers, strict=True):
        expected, found = (torch.load(each, weights_only=True) for each in (file, tmp_path / again))
        assert list(found) == ([container] if container else list(expected))
        same(found[container] if container else found, expected[container] if container else expected)
    convert(tmp_path / "x.safetensors", tmp_path / "whole.pth")
    same(torch.load(tmp_path / "whole.pth", weights_only=True)["state_dict"], state)


def test_a_published_pair_is_recognised_and_its_file_says_what_it_is(tmp_path):
    state = {key: value.half() for key, value in recorded_state(PUBLISHED_PAIR).items()}
    files = write_parts(tmp_path, state)
    card = convert(files[0], tmp_path / "x.safetensors", decoder=files[1])
    alike = ("resnet50+c1_bilinear_deepsup", "resnet50_dilated16+c1_bilinear_deepsup")
    assert (card.network, card.alike, card.num_classes, card.norm) == (PAIR, alike, 150, "sn")
    assert card.parameters == int(np.load(GOLDEN / f"{PUBLISHED_PAIR}_loss.npz")["parameters"])
    assert json.loads((tmp_path / "x.json").read_text())["alike"] == list(alike)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert (file.metadata()["network"], file.metadata()["decoder_md5"]) == (PAIR, card.decoder_md5)
    again = convert(tmp_path / "x.safetensors", tmp_path / "y.safetensors")
    assert (again.network, again.alike, again.decoder_md5) == (PAIR, alike, card.decoder_md5)
    # What somebody said stays said.
    stated = convert(tmp_path / "x.safetensors", tmp_path / "z.safetensors", network=alike[0])
    assert (stated.network, stated.alike) == (alike[0], ())
    assert convert(tmp_path / "z.safetensors", tmp_path / "z.pth").network == alike[0]
    for file in tmp_path.iterdir():
        file.unlink()


def test_a_network_that_is_stated_must_fit(tmp_path):
    write_zip(switchnorm.create_model("cifar_resnet20").state_dict(), tmp_path / "x.pth")
    for network, message in (
        (
            "cifar_resnet32",
            "not the keys and shapes of cifar_resnet32, but those of cifar_resnet20; leave out --network",
        ),
        ("cifar_resnt20", "did you mean 'cifar_resnet20'"),
    ):
        with pytest.raises(InputError, match=message):
            convert(tmp_path / "x.pth", tmp_path / "x.safetensors", network=network)
    assert convert(tmp_path / "x.pth", tmp_path / "x.safetensors", network="cifar_resnet20").network == "cifar_resnet20"
    write_zip(recorded_state("l_resnet50"), tmp_path / "l.pth")
    with pytest.raises(InputError, match="l_resnet50 is of l_resnet50, not of resnet50; leave out --network"):
        convert(tmp_path / "l.pth", tmp_path / "l.safetensors", name="l_resnet50", network="resnet50")
    (tmp_path / "l.pth").unlink()


def test_what_is_no_pair_is_refused_and_nothing_written(tmp_path):
    write_zip({"conv1.weight": torch.zeros(2, 2)}, tmp_path / "e.pth")
    write_zip({"cbr.0.weight": torch.zeros(2, 2)}, tmp_path / "d.pth")
    write_zip({"encoder.conv1.weight": torch.zeros(2, 2)}, tmp_path / "whole.pth")
    before = sorted(tmp_path.iterdir())
    for arguments, message in (
        (
            ("whole.pth", "x.safetensors", "d.pth"),
            "holds encoder.conv1.weight as a whole network does; give that file alone",
        ),
        (("e.pth", "x.pth", "y.pth"), "holds conv1.weight, which is of no encoder or decoder; leave out --decoder"),
        (("whole.pth", "x.pth", "x.pth"), "x.pth' cannot be encoder and decoder; choose another name"),
        (("whole.pth", "x.pth", "y.safetensors"), "y.safetensors' has an unknown suffix; choose .pth, .pt, .pth.tar"),
        (("e.pth", "x.safetensors", "none.pth"), "none.pth' does not exist"),
        (("whole.pth", "x.pth", "d.pth"), "d.pth' exists; choose another name"),
    ):
        path, out, decoder = (tmp_path / name for name in arguments)
        with pytest.raises(InputError) as caught:
            convert(path, out, decoder=decoder)
        assert message in str(caught.value)
    with pytest.raises(InputError, match="l_resnet50 is one file; leave out --name or --decoder"):
        convert(tmp_path / "e.pth", tmp_path / "x.safetensors", "l_resnet50", decoder=tmp_path / "d.pth")
    assert sorted(tmp_path.iterdir()) == before


# --- our own runs ---


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


# --- the card and the metadata ---


def test_card_and_metadata_say_what_a_file_is(tmp_path, small_published):
    known = small_published()
    state = small_state()
    write_legacy({"state_dict": state, "epoch": 1}, tmp_path / "small.pth")
    card = convert(tmp_path / "small.pth", tmp_path / "x.safetensors")
    assert card == Card(
        name="small",
        network="none",
        norm="ssn",
        statistics=("instance", "layer", "batch"),
        num_classes=5,
        top1=known.top1,
        top5=known.top5,
        source=known.source,
        md5=md5(tmp_path / "small.pth"),
        verified=False,
        keys=len(state),
        parameters=sum(v.numel() for k, v in state.items() if k.split(".")[-1] in ("weight", "bias") or "_weight" in k),
        removed_prefix="",
        reshaped=8,
        dropped=("epoch",),
        format="torch legacy",
        switchnorm=switchnorm.__version__,
    )
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "x.json").stat().st_mode
    written = json.loads((tmp_path / "x.json").read_text())
    assert written == json.loads(json.dumps(asdict(card)))
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        metadata = file.metadata()
    assert {key: metadata[key] for key in ("name", "network", "norm", "statistics", "md5", "source", "format")} == {
        "name": "small",
        "network": "none",
        "norm": "ssn",
        "statistics": "instance,layer,batch",
        "md5": card.md5,
        "source": known.source,
        "format": "pt",
    }
    assert (float(metadata["top1"]), float(metadata["top5"])) == (known.top1, known.top5)
    # The file alone carries it on.
    (tmp_path / "x.json").unlink()
    again = convert(tmp_path / "x.safetensors", tmp_path / "z.safetensors")
    carried = ("name", "network", "norm", "statistics", "top1", "top5", "source", "md5")
    assert {key: getattr(again, key) for key in carried} == {key: getattr(card, key) for key in carried}
    convert(tmp_path / "z.safetensors", tmp_path / "z.pth")
    same(torch.load(tmp_path / "z.pth")["state_dict"], state)


def test_importance_uses_the_statistics_that_a_file_names(tmp_path):
    state = small_state(norm="sn", statistics=("instance", "layer"))
    write_zip(state, tmp_path / "x.pth")
    convert(tmp_path / "x.pth", tmp_path / "x.safetensors")
    assert {row.statistics for row in file_importance(tmp_path / "x.safetensors")} == {("instance", "layer")}
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        metadata = file.metadata()
    tensors = load_file(tmp_path / "x.safetensors")
    save_file(tensors, tmp_path / "y.safetensors", {**metadata, "statistics": "layer,instance"})
    rows = file_importance(tmp_path / "y.safetensors")
    assert {row.statistics for row in rows} == {("layer", "instance")}
    # In the order of the network, which safetensors does not keep.
    assert [row.layer for row in rows] == ["1", "3"]
    save_file(tensors, tmp_path / "z.safetensors", {**metadata, "statistics": "instance,layer,batch"})
    assert {row.statistics for row in file_importance(tmp_path / "z.safetensors")} == {("instance", "layer")}


def test_foreign_metadata_means_nothing_and_damaged_metadata_is_refused(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors", {"name": "x", "origin": "{", "md5": "0"})
    assert convert(tmp_path / "x.safetensors", tmp_path / "y.safetensors").name is None
    for origin in ("{", "[]", "{}", json.dumps({"shapes": {"a": [3]}, "order": [], "container": "", "prefix": ""})):
        save_file({"a": torch.zeros(2)}, tmp_path / "z.safetensors", {"switchnorm": "0", "origin": origin})
        with pytest.raises(InputError, match=r"z\.safetensors.*damaged metadata"):
            read_state(tmp_path / "z.safetensors")


# --- which checkpoint it is ---


def test_the_sum_of_a_known_checkpoint_is_checked(tmp_path, small_published):
    write_zip(small_state(), tmp_path / "small.pth")
    small_published(md5="0" * 32)
    with pytest.raises(InputError) as caught:
        convert(tmp_path / "small.pth", tmp_path / "x.safetensors")
    assert md5(tmp_path / "small.pth") in str(caught.value)
    assert "0" * 32 in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small.pth"]
    (tmp_path / "small.pth").rename(tmp_path / "renamed.pth")
    assert convert(tmp_path / "renamed.pth", tmp_path / "x.safetensors").name is None
    with pytest.raises(InputError, match="0" * 32):
        convert(tmp_path / "renamed.pth", tmp_path / "y.safetensors", name="small")


def test_the_sum_alone_tells_a_checkpoint(tmp_path, small_published):
    write_zip(small_state(), tmp_path / "anything.pth")
    small_published(md5=md5(tmp_path / "anything.pth"))
    card = convert(tmp_path / "anything.pth", tmp_path / "x.safetensors")
    assert (card.name, card.verified) == ("small", True)
    again = convert(tmp_path / "x.safetensors", tmp_path / "y.safetensors")
    assert (again.name, again.verified) == ("small", True)
    with pytest.raises(InputError, match="says that it is small, not other"):
        convert(tmp_path / "x.safetensors", tmp_path / "z.safetensors", name="other")


def test_a_name_that_is_not_the_sums_is_refused(tmp_path, monkeypatch, small_published):
    write_zip(small_state(), tmp_path / "x.pth")
    small_published()
    known = replace(identity.PUBLISHED[0], name="by sum", file=None, md5=md5(tmp_path / "x.pth"))
    both = (*identity.PUBLISHED, known)
    monkeypatch.setattr(identity, "PUBLISHED", both)
    monkeypatch.setattr(TABLE, "PUBLISHED", both)
    with pytest.raises(InputError, match="that is by sum, not small"):
        convert(tmp_path / "x.pth", tmp_path / "x.safetensors", name="small")


def test_a_name_must_fit_what_the_file_holds(tmp_path):
    write_zip(recorded_state("cifar_resnet110"), tmp_path / "bn.pth")
    with pytest.raises(InputError, match="has norm bn, but l_resnet50 is gn"):
        convert(tmp_path / "bn.pth", tmp_path / "x.safetensors", name="l_resnet50")
    write_zip(small_state(norm="sn"), tmp_path / "sn.pth")
    with pytest.raises(InputError, match="not the keys and shapes of resnetv1sn50"):
        convert(tmp_path / "sn.pth", tmp_path / "x.safetensors", name="resnetv1sn50-8x4")
    with pytest.raises(
        InputError, match="mixes instance, layer, batch in 1, but resnetv1sn50-8x1 mixes instance, layer;"
    ):
        convert(tmp_path / "sn.pth", tmp_path / "x.safetensors", name="resnetv1sn50-8x1")
    with pytest.raises(InputError, match="did you mean 'resnetv1sn50-8x1'"):
        convert(tmp_path / "sn.pth", tmp_path / "x.safetensors", name="resnetv1sn50-8x11")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bn.pth", "sn.pth"]


def test_a_published_checkpoint_is_known_by_its_file_name(tmp_path):
    state = recorded_state("l_resnet50")
    write_legacy({f"module.{key}": value.half() for key, value in state.items()}, tmp_path / "R-50-GN-WS.pth.tar")
    card = convert(tmp_path / "R-50-GN-WS.pth.tar", tmp_path / "x.safetensors")
    assert (card.name, card.norm, card.top1, card.verified) == ("l_resnet50", "gn+ws", 0.7628, False)


# --- nothing half-written, nothing lost ---


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
    with pytest.raises(OSError, match="No space left"):
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
