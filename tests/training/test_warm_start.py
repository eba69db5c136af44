"""Starting with somebody's weights."""

from pathlib import Path

import pytest
import torch
from torch import nn

from switchnorm.config.recipe import read_config
from switchnorm.errors import InputError
from switchnorm.models import create_model
from switchnorm.surgery import switch
from switchnorm.training.launch import start
from switchnorm.training.warm_start import warm_start
from switchnorm.weights import convert
from tests.weights.files import recorded_state


@pytest.fixture
def saved(tmp_path):
    def save(state) -> Path:
        torch.save(state, tmp_path / "w.pt")
        return tmp_path / "w.pt"

    return save


def model(norm: str = "bn", classes: int = 10) -> nn.Module:
    return create_model("digits_resnet9", norm=norm, num_classes=classes)


def test_everything_of_the_same_network_is_taken(saved):
    theirs, ours = model(), model()
    report = warm_start(ours, saved(theirs.state_dict()))
    assert (report.missing, report.unexpected, report.shapes) == ((), (), ())
    assert len(report.matched) == report.total == len(ours.state_dict())
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


def test_what_does_not_fit_stays_and_is_reported(saved):
    theirs, ours = model("bn", classes=7), model("ssn")
    for p in theirs.parameters():
        p.data.fill_(0.5)
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    report = warm_start(ours, saved({"module." + k: v for k, v in theirs.state_dict().items()}))
    assert report.shapes == ("fc.weight (7, 128) for (10, 128)", "fc.bias (7,) for (10,)")
    assert {"bn1.mean_weight", "bn1.radius"} <= set(report.missing)
    assert not report.unexpected or all(key in theirs.state_dict() for key in report.unexpected)
    after = ours.state_dict()
    assert (after["conv1.weight"] == 0.5).all()
    for key in (*report.missing, "fc.weight", "fc.bias"):
        assert torch.equal(after[key], before[key]), key
    text = str(report)
    assert text.startswith(f"warm start: {len(report.matched)} of {len(after)} entries from ")
    assert "2 of another shape (fc.weight (7, 128) for (10, 128), fc.bias (7,) for (10,))" in text


def test_published_layouts_fit(saved):
    theirs = model("sn")
    for p in theirs.parameters():
        p.data.normal_()
    wide = {
        k: v.view(1, -1, 1, 1) if k.startswith("bn1.") and v.numel() == 16 else v
        for k, v in theirs.state_dict().items()
    }
    ours = model("sn")
    report = warm_start(ours, saved(wide))
    assert not report.shapes
    assert torch.equal(ours.bn1.weight, theirs.bn1.weight)


def segmentation(norm: str, name: str = "resnet18_dilated8+c1_bilinear") -> nn.Module:
    return create_model(name, norm=norm, num_classes=3)


def entries(network: nn.Module, part: str, without: tuple[str, ...] = ()) -> set[str]:
    """The keys of a part of a network, but for those that end with some words."""
    return {key for key in network.state_dict() if key.startswith(part) and not key.endswith(without)}


MIXING = ("mean_weight", "var_weight")
RUNNING = ("running_mean", "running_var", "num_batches_tracked")


def randomized(network: nn.Module) -> nn.Module:
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 0.9)
    return network


@pytest.mark.parametrize(
    ("theirs", "ours", "missing"),
    [
        # Published names on both sides, on one, on the other, and on none.
        ("resnetv1sn18", "sn", ()),
        ("resnet18", "sn", ()),
        ("resnetv1sn18", "gn", ()),
        ("resnet18", "bn", ()),
        ("l_resnet18", "bn", RUNNING),
    ],
)
def test_a_classifier_s_weights_become_the_encoder_s(saved, theirs, ours, missing):
    source, target = randomized(create_model(theirs)), segmentation(ours)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    report = warm_start(target, saved(source.state_dict()))
    logits = {key for key in before if theirs == "resnet18" and key.startswith("encoder.") and key.endswith(MIXING)}
    assert set(report.started.logits) == logits
    assert set(report.matched) == entries(target, "encoder.", missing) - logits
    assert set(report.missing) == set(before) - set(report.matched) - logits
    assert report.classifier == ("fc.weight", "fc.bias")
    assert report.shapes == ()
    assert {key.rpartition(".")[2] for key in report.unexpected} == (
        {*MIXING, *RUNNING} if (theirs, ours) == ("resnetv1sn18", "gn") else set()
    )
    after, state = target.state_dict(), source.state_dict()
    for key in report.missing:
        assert torch.equal(after[key], before[key]), key
    for key in report.matched:
        if key.rpartition(".")[0] in report.started.fitted:
            continue
        name = key.removeprefix("encoder.")
        name = name if name in state else name.replace("sn", "bn") if "sn" in name else name.replace("bn", "sn")
        assert torch.equal(after[key], state[name]), key
    assert "2 of its classifier left out (fc.weight, fc.bias)" in str(report)
    assert report.record()["classifier"] == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    ("record", "norm"), [("resnetv1sn50", "sn"), ("resnetv1ssn50", "ssn"), ("resnetv1ssn50", "bn")]
)
def test_published_weights_become_the_encoder_s(saved, record, norm):
    state = recorded_state(record)
    target = segmentation(norm, "resnet50_dilated8+c1_bilinear")
    report = warm_start(target, saved(state))
    # The published layout has no counters.
    assert set(report.matched) == entries(target, "encoder.", ("num_batches_tracked",))
    assert len(report.matched) + len(report.unexpected) + 2 == len(state)
    assert (report.unexpected == ()) == (norm != "bn")
    name = "encoder.layer3.1.bn2" if norm == "bn" else "encoder.layer3.1.sn2"
    assert torch.equal(target.state_dict()[f"{name}.running_var"], state["layer3.1.sn2.running_var"].flatten())
    (Path(report.file)).unlink()


def test_a_run_s_checkpoint_and_a_converted_one_become_the_encoder_s(tmp_path):
    source = randomized(create_model("resnetv1sn18"))
    torch.save(
        {"state_dict": {f"model.{k}": v for k, v in source.state_dict().items()}, "epoch": 1}, tmp_path / "x.ckpt"
    )
    convert(tmp_path / "x.ckpt", tmp_path / "x.safetensors")
    for file in (tmp_path / "x.ckpt", tmp_path / "x.safetensors"):
        target = segmentation("sn")
        report = warm_start(target, file)
        assert set(report.matched) == entries(target, "encoder.")
        assert torch.equal(target.encoder.layer4[1].sn2.mean_weight, source.layer4[1].sn2.mean_weight)
        file.unlink()


def test_a_whole_network_for_segmentation_is_taken_by_its_own_names(saved):
    source = randomized(segmentation("sn", "resnet18+upernet_lite"))
    target = segmentation("sn", "resnet18+upernet_lite")
    report = warm_start(target, saved(source.state_dict()))
    assert (report.missing, report.unexpected, report.shapes, report.classifier) == ((), (), (), ())
    assert torch.equal(target.decoder.conv_last[1].weight, source.decoder.conv_last[1].weight)
    other = segmentation("bn")
    report = warm_start(other, saved(source.state_dict()))
    assert set(report.matched) == entries(other, "encoder.")
    assert set(report.unexpected) == entries(source, "decoder.") | {
        key for key in source.state_dict() if key.endswith(MIXING)
    }
    assert set(report.missing) == entries(other, "decoder.")


def test_an_encoder_and_a_decoder_are_two_files(tmp_path):
    source = randomized(segmentation("sn", "resnet18+c1_bilinear_deepsup"))
    files = [tmp_path / f"{part}.pth" for part in ("encoder", "decoder")]
    for part, file in zip((source.encoder, source.decoder), files, strict=True):
        torch.save(part.state_dict(), file)
    target = segmentation("sn", "resnet18+c1_bilinear_deepsup")
    report = warm_start(target, *files)
    assert (report.missing, report.unexpected, report.shapes, report.classifier) == ((), (), (), ())
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in target.state_dict().items())
    assert report.record()["file"] == f"{files[0]} and {files[1]}"
    assert str(report) == f"warm start: {report.total} of {report.total} entries from {files[0]} and {files[1]}"
    other = segmentation("sn", "resnet18+c1_bilinear")
    assert set(warm_start(other, *files).unexpected) == {
        f"decoder.{key}" for key in source.decoder.state_dict() if "deepsup" in key
    }
    swapped = (
        r"nothing of '.*decoder.pth' fits the encoder: it has entries of the decoder; expected \[ENCODER, DECODER\]"
    )
    with pytest.raises(InputError, match=swapped):
        warm_start(segmentation("sn", "resnet18+c1_bilinear"), *reversed(files))
    copy = tmp_path / "copy.pth"
    copy.write_bytes(files[0].read_bytes())
    with pytest.raises(InputError, match=r"nothing of '.*copy.pth' fits the decoder: it has entries of the encoder"):
        warm_start(segmentation("sn", "resnet18+c1_bilinear"), files[0], copy)
    torch.save({"elsewhere.weight": torch.zeros(3, 3)}, copy)
    with pytest.raises(InputError, match=r"nothing of '.*copy.pth' fits the decoder: is it of another network\?"):
        warm_start(segmentation("sn", "resnet18+c1_bilinear"), files[0], copy)
    with pytest.raises(InputError, match=r"nothing of '.*encoder.pth' with decoder '.*decoder.pth' fits CifarResNet"):
        warm_start(model(), *files)


@pytest.mark.parametrize(
    ("name", "source", "classifier"),
    [
        ("fcn_resnet50", "resnet50", ("fc.weight", "fc.bias")),
        ("fcn_resnet50", "resnetv1sn50", ("fc.weight", "fc.bias")),
        (
            "lraspp_mobilenet_v3_large",
            "mobilenet_v3_large",
            ("classifier.0.weight", "classifier.0.bias", "classifier.3.weight", "classifier.3.bias"),
        ),
    ],
)
def test_torchvision_s_networks_take_a_classifier_s_weights_as_their_backbone_s(saved, name, source, classifier):
    theirs, ours = create_model(source, norm="bn"), create_model(name, norm="bn")
    report = warm_start(ours, saved(theirs.state_dict()))
    assert set(report.matched) == entries(ours, "backbone.")
    assert set(report.missing) == entries(ours, "classifier.")
    assert (report.unexpected, report.shapes) == ((), ())
    assert report.classifier == classifier
    first, *_ = theirs.parameters()
    assert torch.equal(next(ours.parameters()), first)
    (Path(report.file)).unlink()


def test_another_encoder_is_an_error_or_reported(saved):
    deeper = create_model("resnetv1sn50", last_gamma=False)
    report = warm_start(segmentation("sn"), saved(deeper.state_dict()))
    assert "encoder.layer1.0.conv1.weight (64, 64, 1, 1) for (64, 64, 3, 3)" in report.shapes
    assert "layer1.0.conv3.weight" in report.unexpected
    with pytest.raises(InputError, match=r"it has no 'encoder.conv1.weight'; the nearest name in it is 'decoder"):
        warm_start(segmentation("sn"), saved({"decoder.x.weight": torch.zeros(3, 3)}))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"conv.weight": torch.zeros(3, 3)}, "it has no 'conv1.weight'; the nearest name in it is 'conv.weight'"),
        ({"conv1.weight": torch.zeros(3, 3)}, r"its conv1.weight is \(3, 3\), expected \(16, 1, 3, 3\)"),
        ({"bn1.num_batches_tracked": torch.tensor(3)}, "nothing of"),
    ],
)
def test_nothing_that_fits_is_an_error(saved, state, message):
    with pytest.raises(InputError, match=message):
        warm_start(model(), saved(state))


def test_a_run_starts_with_them_and_records_it(saved, recipe, tmp_path, capsys):
    theirs = model()
    theirs.conv1.weight.data.fill_(0.25)
    flags = ("--norm", "bn", "--epochs", "1", "--batch-size", "512", "--samples-per-gpu", "null", "--optimizer.lr", "0")
    config = read_config(recipe, (*flags, "--train.warm_start", str(saved(theirs.state_dict()))))
    run, _ = start(config, tmp_path / "run", default=Path("x"), command=())
    assert "warm start: " in capsys.readouterr().out
    kept = torch.load(run.last, weights_only=True)["state_dict"]
    assert torch.equal(kept["model.conv1.weight"], theirs.conv1.weight), "the rate is 0, so nothing moves"
    record = run.record()["warm_start"]
    assert record["file"].endswith("w.pt")
    assert record["matched"] == len(theirs.state_dict())
    assert record["missing"] == record["unexpected"] == record["shapes"] == record["classifier"] == []


def test_a_file_that_is_not_there_leaves_no_folder(recipe, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        start(read_config(recipe, ("--train.warm_start", "none.pt")), tmp_path / "run", default=Path("x"), command=())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("theirs", "norm"), [("sn", "ssn"), ("ssn", "sn"), ("sn", "gn"), ("ssn", "gn"), ("sn", "bn"), ("ssn", "bn")]
)
@pytest.mark.parametrize("how", ["auto", "equal"])
def test_normalizers_that_mix_are_left_as_a_switch_leaves_them(saved, theirs, norm, how):
    source = randomized(model(theirs))
    for layer in (module for module in source.modules() if len(getattr(module, "statistics", ())) == 3):
        layer.set_importance([0.1, 0.2, 0.7], [0.5, 0.3, 0.2])
    before = source.bn1.importance()
    ours = model(norm)
    report = warm_start(ours, saved(source.state_dict()), start=how)
    expected = switch(source, norm, start=how).state_dict()
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-6, atol=1e-6, msg=key)
    kept = norm in ("sn", "ssn") and how == "auto"
    assert (len(report.started.importance) > 0) == kept
    assert ("layers keep their importance" in str(report)) == kept
    assert report.total == len(expected)
    if kept:
        torch.testing.assert_close(ours.bn1.importance(), before)


@pytest.mark.parametrize("norm", ["sn", "ssn", "gn", "gn+ws", "ln", "in"])
@pytest.mark.parametrize("how", ["auto", "source", "equal"])
def test_other_normalizers_start_as_a_switch_starts_them(saved, norm, how):
    source = randomized(model())
    ours = model(norm)
    report = warm_start(ours, saved(source.state_dict()), start=how)
    expected = switch(source, norm, start=how).state_dict()
    found = ours.state_dict()
    if norm == "in":  # which a switch leaves flat inputs without, for each channel there is a single value
        expected = {key: value for key, value in expected.items() if not key.startswith("embedding.1.")}
        found = {key: value for key, value in found.items() if key in expected}
    assert found.keys() == expected.keys()
    for key, value in found.items():
        if how == "equal" and key.endswith(MIXING):
            assert value.unique().numel() == 1, key
            continue
        torch.testing.assert_close(value, expected[key], rtol=1e-6, atol=1e-6, msg=key)
    assert report.total == len(ours.state_dict())
    assert bool(report.started.logits) == (norm in ("sn", "ssn") and how != "equal")
    fitted = [name for name in report.started.fitted if norm != "in" or name != "embedding.1"]
    assert bool(fitted) == (norm != "in" and how != "equal")  # of gn+ws what no convolution feeds
    said = "layers start at the batch statistic, as they were trained; scale and shift of"
    assert (said in str(report)) == (norm in ("sn", "ssn") and how != "equal")


def test_weights_that_have_seen_nothing_leave_the_importance_equal(saved):
    ours = model("sn")
    assert not any(warm_start(ours, saved(model().state_dict())).started)
    assert torch.equal(ours.bn1.mean_weight, torch.ones(3))


def test_logits_of_the_file_are_not_replaced(saved):
    source, ours = randomized(model("sn")), model("sn")
    assert not any(warm_start(ours, saved(source.state_dict())).started)
    assert torch.equal(ours.bn1.mean_weight, source.bn1.mean_weight)


def test_a_source_that_is_none_is_refused(saved):
    with pytest.raises(InputError, match=r"no layer can start at what .* computed: .* set train\.start to 'auto'"):
        warm_start(model("bn"), saved(randomized(model()).state_dict()), start="source")
