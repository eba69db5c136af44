import os
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import SparseSwitchNorm2d, SwitchNorm2d
from switchnorm.weights import load_published, load_state, read_checkpoint, read_state


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), SwitchNorm2d(4), SparseSwitchNorm2d(4))


def published(state):
    """The layout of the published files: (1, C, 1, 1), and no counters."""
    layout = {}
    for key, value in state.items():
        if key.startswith(("1.", "2.")) and value.shape == (4,):
            value = value.reshape(1, 4, 1) if "running" in key else value.reshape(1, 4, 1, 1)
        if not key.endswith("num_batches_tracked"):
            layout[key] = value
    return layout


def filled(model: nn.Module) -> nn.Module:
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 0.9)
    return model


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_published_files_load_as_they_are(tmp_path, wrap, prefix):
    source = filled(network())
    file = tmp_path / "published.pth"
    torch.save(wrap({prefix + key: value for key, value in published(source.state_dict()).items()}), file)
    target = load_published(network(), file)
    for (key, ours), theirs in zip(target.state_dict().items(), source.state_dict().values(), strict=True):
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(ours, theirs, atol=0, rtol=0, msg=key)


def test_safetensors_load(tmp_path):
    source = filled(network())
    save_file(source.state_dict(), tmp_path / "x.safetensors")
    assert torch.equal(read_state(tmp_path / "x.safetensors")["0.weight"], source[0].weight)


def test_another_network_is_refused_with_everything_that_differs_and_nothing_changes():
    model = switchnorm.create_model("cifar_resnet20")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = dict(before)
    del state["layer1.0.conv1.weight"]
    state["head.weight"] = torch.zeros(1)
    state["fc.weight"] = torch.zeros(100, 64)
    state["conv1.weight"] = torch.full_like(state["conv1.weight"], 5.0)
    with pytest.raises(InputError) as caught:
        load_state(model, state, "checkpoint 'x'")
    assert str(caught.value) == (
        "checkpoint 'x' does not fit CifarResNet: 1 missing (layer1.0.conv1.weight); 1 unexpected (head.weight); "
        "1 of another shape (fc.weight (100, 64) for (10, 64))"
    )
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_long_lists_are_cut():
    with pytest.raises(InputError, match=r"122 missing \(.*, and \d+ more\)|missing \(.*, and \d+ more\)"):
        load_state(switchnorm.create_model("cifar_resnet20"), {"a": torch.zeros(1)}, "x")


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


def test_no_code_runs_from_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Attack()}, "attack.pth")
    with pytest.raises(InputError, match="would have to run code"):
        read_state("attack.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(InputError):
        read_state("plain.pkl")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pth", b""),
        ("text.pth", b"hello"),
        ("damaged.safetensors", b"\x08\0\0\0\0\0\0\0nonsense"),
    ],
)
def test_damaged_files_are_named_in_one_line(tmp_path, name, content):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InputError, match=name) as caught:
        read_state(file)
    assert "\n" not in str(caught.value)


def test_truncated_checkpoints_and_missing_files_are_named(tmp_path):
    file = tmp_path / "x.ckpt"
    torch.save(network().state_dict(), file)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"x\.ckpt"):
        read_state(file)
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match=r"run' is a folder; expected a file that torch.save or safetensors wrote$"):
        read_checkpoint(tmp_path / "run")
    (tmp_path / "run/checkpoints/best.ckpt").touch()
    with pytest.raises(InputError, match=r"wrote; the nearest is '.*run/checkpoints/best\.ckpt'"):
        read_checkpoint(tmp_path / "run")
    with pytest.raises(InputError, match="does not exist"):
        read_state(tmp_path / "none.ckpt")


@pytest.mark.parametrize("container", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model._orig_mod."])
def test_training_checkpoints_of_others_hold_the_network(tmp_path, container, prefix):
    state = {"weight": torch.rand(2), "bias": torch.rand(3)}
    wrapped = {f"{prefix}{key}": value for key, value in state.items()}
    torch.save({"epoch": 3, "optimizer": {"state": {}}, container: wrapped}, tmp_path / "x.pth")
    found = read_checkpoint(tmp_path / "x.pth")
    assert (found.container, found.prefix, found.beside) == (container, prefix, ("epoch", "optimizer"))
    assert all(torch.equal(found.state[key], value) for key, value in state.items())


def test_a_network_may_have_parts_that_are_called_as_containers_are(tmp_path):
    state = {"model.weight": torch.rand(2), "head.bias": torch.rand(3)}
    torch.save(state, tmp_path / "x.pth")
    assert read_state(tmp_path / "x.pth").keys() == state.keys()


def test_files_without_a_state_dict_are_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="holds no state dict"):
        read_state(tmp_path / "x.pth")


def parts(tmp_path, model: nn.Module) -> list[Path]:
    """Files of a network's encoder and decoder."""
    files = [tmp_path / f"{part}.pth" for part in ("encoder", "decoder")]
    for file in files:
        torch.save(model.get_submodule(file.stem).state_dict(), file)
    return files


def test_encoder_and_decoder_load_from_two_files(tmp_path):
    source = filled(switchnorm.create_model("resnet18_dilated8+c1_bilinear", norm="sn", num_classes=3))
    target = switchnorm.create_model("resnet18_dilated8+c1_bilinear", norm="sn", num_classes=3)
    assert load_published(target, *parts(tmp_path, source)) is target
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in target.state_dict().items())


def test_two_files_that_are_no_encoder_and_decoder_are_named(tmp_path):
    model = switchnorm.create_model("resnet18_dilated8+c1_bilinear", norm="gn", num_classes=3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    encoder, decoder = parts(tmp_path, model)
    other = switchnorm.create_model("cifar_resnet20")
    with pytest.raises(InputError, match="CifarResNet has no encoder and decoder; load one file"):
        load_published(other, encoder, decoder)
    with pytest.raises(
        InputError, match=r"checkpoint '.*decoder.pth' with decoder '.*encoder.pth' does not fit EncoderDecoder: "
    ):
        load_published(model, decoder, encoder)
    torch.save(model.state_dict(), tmp_path / "whole.pth")
    with pytest.raises(InputError, match=r"holds encoder\.conv1\.weight as a whole network does; give that file alone"):
        load_published(model, tmp_path / "whole.pth", decoder)
    torch.save({"cbr.0.weight": torch.zeros(3)}, decoder)
    with pytest.raises(
        InputError, match=r"missing \(.*decoder\.cbr\.1\.weight.*1 of another shape \(decoder\.cbr\.0\.weight"
    ):
        load_published(model, encoder, decoder)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_other_weights_of_the_network_in_a_file_are_said(tmp_path):
    model = filled(network())
    state = model.state_dict()
    averaged = {f"module.{key}": value for key, value in filled(network()).state_dict().items()}
    torch.save({"state_dict": state, "state_dict_ema": averaged, "epoch": 3}, tmp_path / "both.pth")
    with pytest.warns(UserWarning, match="weights under 'state_dict', which are taken, and under 'state_dict_ema'"):
        load_published(network(), tmp_path / "both.pth")
    torch.save({"state_dict": state, "momenta": {"0": torch.ones(3)}}, tmp_path / "one.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_published(network(), tmp_path / "one.pth")


def test_an_average_and_what_a_run_goes_on_with_are_no_news(tmp_path):
    state = {"conv.weight": torch.ones(2, 2)}
    torch.save({"state_dict": state, "trained_state_dict": state}, tmp_path / "last.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_state(tmp_path / "last.ckpt").keys() == state.keys()


def test_the_state_of_an_averaged_model_is_that_of_the_network(tmp_path):
    model = filled(network())
    torch.save(torch.optim.swa_utils.AveragedModel(model).state_dict(), tmp_path / "swa.pth")
    file = read_checkpoint(tmp_path / "swa.pth")
    assert (file.prefix, file.beside) == ("module.", ("n_averaged",))
    other = load_published(network(), tmp_path / "swa.pth")
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())


def test_an_unknown_entry_that_holds_the_weights_is_named(tmp_path):
    torch.save({"ema": network().state_dict(), "step": 3}, tmp_path / "ema.pth")
    with pytest.raises(InputError, match="holds no state dict; expected tensors by name; its entry 'ema' holds some"):
        read_state(tmp_path / "ema.pth")
