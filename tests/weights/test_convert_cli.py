"""`switchnorm convert`: what it prints and writes, and its mistakes in one line."""

import json
from pathlib import Path

import pytest
import torch

import switchnorm
from switchnorm.cli import main
from switchnorm.weights import read_state
from tests.weights.files import Attack, recorded_state, write_legacy, write_tar, write_zip


@pytest.fixture
def fails(capsys, monkeypatch, tmp_path):
    """Run a command line that must fail and leave the folder as it is: returns the line it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(SystemExit) as stopped:
            main(["convert", *arguments])
        assert stopped.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("switchnorm: ")
        assert err.count("\n") == 1
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        return err

    return run


def test_there_and_back(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_zip(switchnorm.create_model("cifar_resnet20", norm="sn").state_dict(), tmp_path / "ours.pth")
    main(["convert", "ours.pth", "published.pth"])
    state = torch.load("published.pth")["state_dict"]
    assert state["bn1.weight"].shape == (1, 16, 1, 1)
    named = {f"module.{key}": value for key, value in state.items()}
    write_legacy({"state_dict": named, "epoch": 1, "arch": "x"}, tmp_path / "a.pth.tar")
    capsys.readouterr()
    main(["convert", "a.pth.tar", "a.safetensors"])
    out = capsys.readouterr().out
    card = json.loads((tmp_path / "a.json").read_text())
    assert out.splitlines() == [
        "a.safetensors: no published checkpoint; network cifar_resnet20; norm sn; statistics instance, layer, batch",
        f"  read torch legacy, {len(state)} tensors, {card['parameters']} parameters, {card['reshaped']} reshaped",
        "  left out: epoch, arch, the prefix 'module.'",
        f"  MD5 {card['md5']}",
    ]
    main(["convert", "a.safetensors", "b.pth"])
    back = torch.load("b.pth")["state_dict"]
    assert list(back) == list(named)
    assert all(torch.equal(back[key], value) and back[key].shape == value.shape for key, value in named.items())
    with pytest.raises(SystemExit):
        main(["convert", "a.pth.tar", "a.safetensors"])
    main(["convert", "a.pth.tar", "a.safetensors", "--force"])
    assert read_state("a.safetensors").keys() == state.keys()
    capsys.readouterr()
    main(["inspect", "a.safetensors"])
    by_ours = capsys.readouterr().out
    main(["inspect", "a.pth.tar"])
    assert by_ours == capsys.readouterr().out
    assert "layer3.2.bn2" in by_ours


def test_a_known_checkpoint_shows_what_is_claimed_of_it(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_zip({key: value.half() for key, value in recorded_state("l_resnet50").items()}, tmp_path / "mine.pth")
    main(["convert", "mine.pth", "x.safetensors", "--name", "l_resnet50"])
    out = capsys.readouterr().out
    assert "x.safetensors: l_resnet50; network l_resnet50; norm gn+ws" in out
    assert "claimed accuracy: top-1 76.28 %, top-5 93.01 % (https://github.com/joe-siyuan-qiao/" in out


def test_a_pair_becomes_one_file_and_two_again(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with torch.device("meta"):
        model = switchnorm.create_model("resnet18+upernet_lite", norm="sn", num_classes=2)
    for part in ("encoder", "decoder"):
        state = model.get_submodule(part).state_dict()
        write_zip(
            {key: torch.zeros(value.shape, dtype=torch.half) for key, value in state.items()}, Path(f"{part}.pth")
        )
    main(["convert", "encoder.pth", "x.safetensors", "--decoder", "decoder.pth"])
    card = json.loads(Path("x.json").read_text())
    assert capsys.readouterr().out.splitlines() == [
        "x.safetensors: no published checkpoint; network resnet18+upernet_lite; norm sn; "
        "statistics instance, layer, batch",
        "  or resnet18_dilated16+upernet_lite, resnet18_dilated8+upernet_lite, for keys do not tell which; "
        "--network says which it is",
        f"  read torch zip, {card['keys']} tensors, {card['parameters']} parameters, 0 reshaped",
        f"  MD5 {card['md5']}",
        f"  MD5 {card['decoder_md5']} (decoder)",
    ]
    main(["convert", "x.safetensors", "e.pth", "--decoder", "d.pth", "--network", "resnet18_dilated8+upernet_lite"])
    assert "network resnet18_dilated8+upernet_lite; norm sn" in capsys.readouterr().out.splitlines()[0]
    assert "fpn_in.0.0.weight" in torch.load("d.pth", weights_only=True)
    assert torch.load("e.pth", weights_only=True)["sn1.weight"].shape == (1, 64, 1, 1)


def test_mistakes_are_one_line_and_change_nothing(fails, tmp_path):
    write_zip({"a.weight": torch.zeros(2, 2)}, tmp_path / "x.pth")
    write_zip({"a.weight": torch.zeros(2, 2)}, tmp_path / "ssn_8x2_75.848.pth")
    write_zip({"epoch": 3}, tmp_path / "empty.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "x.pth").read_bytes()[:300])
    (tmp_path / "taken.safetensors").write_text("precious")
    assert "'nowhere.pth' does not exist" in fails("nowhere.pth", "y.safetensors")
    assert "'half.pth' is damaged" in fails("half.pth", "y.safetensors")
    assert "holds no state dict" in fails("empty.pth", "y.safetensors")
    assert "choose .safetensors, .pth, .pt, .pth.tar" in fails("x.pth", "y.onnx")
    assert "'taken.safetensors' exists" in fails("x.pth", "taken.safetensors")
    assert "did you mean 'l_resnet50'?" in fails("x.pth", "y.safetensors", "--name", "l_resnet5")
    assert "dadb0f1a0c49c31aedd6cb83d4996a03" in fails("ssn_8x2_75.848.pth", "y.safetensors")
    assert "has norm gn, but resnetv1sn50-8x4 is sn" in fails("x.pth", "y.safetensors", "--name", "resnetv1sn50-8x4")
    assert "argument '--nam' is unknown; did you mean '--name'?" in fails("x.pth", "y.safetensors", "--nam", "x")
    assert "arguments are required: OUT" in fails("x.pth")


@pytest.mark.parametrize("write", [write_zip, write_legacy, write_tar])
def test_a_file_that_wants_to_act_is_refused_in_one_line(fails, tmp_path, write):
    write({"state_dict": {"a": torch.zeros(2)}, "extra": Attack()}, tmp_path / "x.pth")
    assert "would have to run code to be read" in fails("x.pth", "y.safetensors")
    assert not (tmp_path / "attacked").exists()
