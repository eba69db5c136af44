"""Converting encoder and decoder, published as two files, to one file and back."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from switchnorm.errors import InputError
from switchnorm.models import create_model
from switchnorm.weights import convert, load_published, read_state
from tests.weights.files import GOLDEN, recorded_state, write_legacy, write_zip
from tests.weights.small import md5, same

PUBLISHED_PAIR = "ade_resnet50_dilated8_c1_bilinear_deepsup"
#: A few layers of that network, with all kinds of entries.
PART = re.compile(r"encoder\.(conv1|sn1|layer4\.2)\.|decoder\.conv_last")
#: The network that this is.
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
    assert card.options == {}
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


def test_a_pair_with_a_deep_stem_is_recognised_and_the_card_says_how_it_is_built(tmp_path):
    state = recorded_state("ade_resnet18_dilated8_deep_stem_c1_bilinear_deepsup")
    files = write_parts(tmp_path, state)
    card = convert(files[0], tmp_path / "x.safetensors", decoder=files[1])
    assert (card.network, card.options, card.norm) == (
        "resnet18_dilated8+c1_bilinear_deepsup",
        {"deep_stem": True},
        "bn",
    )
    assert json.loads((tmp_path / "x.json").read_text())["options"] == {"deep_stem": True}
    sums = [key for key in state if key.endswith(("_tmp_running_mean", "_tmp_running_var", "_running_iter"))]
    assert sorted(card.dropped) == sorted(key.partition(".")[2] for key in sums)
    model = create_model(card.network, **card.options)
    load_published(model, tmp_path / "x.safetensors")
    assert torch.equal(model.encoder.bn3.running_var, state["encoder.bn3.running_var"])
    again = convert(tmp_path / "x.safetensors", tmp_path / "e.pth", decoder=tmp_path / "d.pth")
    assert (again.network, again.options) == (card.network, card.options)
    back = torch.load(tmp_path / "e.pth", weights_only=True)
    same(back, {key.removeprefix("encoder."): state[key] for key in state if key[0] == "e" and key not in sums})
    # What somebody says of dilation leaves the stem as it is.
    stated = convert(tmp_path / "x.safetensors", tmp_path / "z.safetensors", network="resnet18+c1_bilinear_deepsup")
    assert (stated.network, stated.options) == ("resnet18+c1_bilinear_deepsup", {"deep_stem": True})


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
