"""Converting: which checkpoint a file is, what its card and metadata say, and what contradicts them."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import switchnorm
from switchnorm.errors import InputError
from switchnorm.weights import Card, convert, file_importance, identity, read_state
from tests.weights.files import recorded_state, write_legacy, write_zip
from tests.weights.small import TABLE, md5, same, small_state


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
