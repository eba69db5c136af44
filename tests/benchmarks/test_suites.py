"""The suites at a small size: every way agrees with the reference, and a wrong one is found."""

from __future__ import annotations

import argparse
from types import ModuleType

import pytest
import torch
from torch._inductor.exc import InvalidCxxCompiler

from benchmarks import decoders, deploy, detectors, layers, networks, overhead, shapes, step, subjects, weights
from benchmarks.agreement import MismatchError
from benchmarks.runner import run_case
from switchnorm.errors import InputError
from switchnorm.layers import SwitchNorm2d


def options(suite: ModuleType, *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    suite.add_arguments(parser)
    return parser.parse_args(["--device", "cpu", *arguments])


def test_layers() -> None:
    for case in layers.cases(options(layers, "--seconds", "0", "--shapes", "2x32x3x4")):
        outcome = run_case(case)
        assert outcome.failures == {}
        assert outcome.ratios.keys() == set(case.pairs)
        ways = {row["way"] for row in outcome.rows}
        evaluated = case.facts["phase"] == "evaluation"
        timed = subjects.EVALUATED if evaluated else subjects.LAYERS.keys() - {"SN, compiled", "SSN, all batch"}
        assert ways == {layers.COPY, *timed}


def test_overhead() -> None:
    for case in overhead.cases(options(overhead, "--rounds", "1")):
        outcome = run_case(case)
        assert outcome.failures == {}
        assert outcome.ratios.keys() == set(case.pairs)
        assert {pair.over for pair in case.pairs} == {"BatchNorm2d"}
    with pytest.raises(InputError, match="--rounds must be 1 or more, got 0"):
        overhead.cases(options(overhead, "--rounds", "0"))


def test_a_layer_that_is_wrong_in_evaluation_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [subjects.make_inputs((2, 4, 3, 3), "contiguous", torch.float32, "cpu", 0)]
    hardened = subjects.Subject("SSN, all batch", inputs, trains=False)
    assert hardened.agreed
    assert hardened.layer.mean_fixed
    assert hardened.layer.var_fixed
    wrong = subjects.Layer(lambda c: SwitchNorm2d(c, eps=0.1), "BatchNorm2d", plain=SwitchNorm2d)
    monkeypatch.setitem(subjects.LAYERS, "wrong", wrong)
    with pytest.raises(MismatchError, match="y differs"):
        _ = subjects.Subject("wrong", inputs, trains=False).agreed


def test_channels_that_groups_do_not_divide_go_without_groups() -> None:
    (case, *_) = layers.cases(options(layers, "--shapes", "2x6x3x4", "--layers", "SN", "SN, group only"))
    assert set(case.ways()) == {layers.COPY, "BatchNorm2d", "SN"}
    assert {pair.over for pair in case.pairs} == {layers.COPY, "BatchNorm2d"}


@pytest.mark.parametrize(
    ("suite", "flags"),
    [(layers, ("--compile",)), (layers, ("--layers", "SN, compiled")), (step, ("--compile",))],
    ids=["layers", "one layer", "steps"],
)
def test_without_a_compiler_nothing_is_measured_before_a_line_says_so(
    suite: ModuleType, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(x: torch.Tensor) -> torch.Tensor:
        raise InvalidCxxCompiler

    monkeypatch.setattr(torch, "compile", lambda call: missing)
    with pytest.raises(InputError, match=r"^torch.compile fails here: No working C\+\+ .* leave what is compiled out$"):
        suite.cases(options(suite, *flags))
    assert suite.cases(options(suite))


def test_what_follows_the_normalization_is_compared_where_its_sign_is_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [subjects.make_inputs((2, 4, 3, 3), "contiguous", torch.float32, "cpu", 0)]
    assert subjects.Subject("SN + add + ReLU", inputs).agreed
    monkeypatch.setitem(
        subjects.LAYERS, "wrong", subjects.Layer(lambda c: SwitchNorm2d(c, eps=0.1), plain=SwitchNorm2d)
    )
    with pytest.raises(MismatchError, match="y differs"):
        _ = subjects.Subject("wrong", inputs).agreed


def test_inputs_take_turns() -> None:
    inputs = [subjects.make_inputs((2, 4, 3, 3), "channels last", torch.float32, "cpu", seed) for seed in range(2)]
    subject = subjects.Subject("SN", inputs)
    first, second, third = (subject.forward() for _ in range(3))
    assert torch.equal(first, third)
    assert not torch.equal(first, second)


def test_resnet50() -> None:
    found = shapes.resnet50_shapes(16)
    assert found[0] == (16, 64, 112, 112)
    assert found[-1] == (16, 2048, 7, 7)
    assert len(found) == 12
    assert len(shapes.resnet50_inputs(torch.nn.Conv2d)) == 53
    assert (2, 256, 200, 336) in shapes.detection_shapes()


def test_weights_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    few = shapes.resnet50_inputs(torch.nn.Conv2d)[:5]
    monkeypatch.setattr(weights, "resnet50_inputs", lambda kind: few)
    for case in weights.cases(options(weights, "--quick")):
        for way in case.ways().values():
            way.check()


NETWORK = networks.Setting("resnet18", 2, "cpu", "contiguous", "float32", ("SN",))


def test_networks_agree() -> None:
    network = networks.Network("SN", NETWORK)
    assert network.agreed
    network.require_finite()
    with torch.no_grad():
        network.model.fc.weight.fill_(float("nan"))
    with pytest.raises(MismatchError, match="not finite"):
        network.require_finite()


def test_a_network_may_be_wrong_by_rounding_and_not_by_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, fine in ((1.02, True), (1.2, False), (float("nan"), False)):
        losses = iter((1.0, 1.01, found))  # The truth, the reference in float32, and the usual path.
        monkeypatch.setattr(
            networks.Network, "_results", lambda self, dtype, losses=losses: {"the loss": [torch.tensor(next(losses))]}
        )
        network = networks.Network("SN", NETWORK)
        if fine:
            assert network.agreed
            continue
        with pytest.raises(MismatchError, match="the loss is wrong by"):
            _ = network.agreed


DECODERS = (
    "--encoder",
    "resnet18",
    "--size",
    "32",
    "--rounds",
    "1",
    "--decoders",
    "c1_bilinear",
    "c1_bilinear_deepsup",
)


def test_decoders() -> None:
    (case,) = decoders.cases(options(decoders, *DECODERS))
    outcome = run_case(case)
    assert outcome.failures == {}
    assert [row["way"] for row in outcome.rows] == ["c1_bilinear", "c1_bilinear_deepsup"]
    assert all(row["peak_bytes"] > 0 and row["images_per_second"] > 0 for row in outcome.rows)
    assert {(pair.of, pair.quantity) for pair in outcome.ratios} == {
        ("c1_bilinear_deepsup", "time"),
        ("c1_bilinear_deepsup", "peak_bytes"),
    }
    assert all(ratio.value > 1 for pair, ratio in outcome.ratios.items() if pair.quantity == "peak_bytes")


def test_a_decoder_that_computes_something_else_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    pairing = decoders.Pairing("c1_bilinear", decoders.Setting("resnet18", "gn", 32, 2, "cpu"))
    assert pairing.agreed
    with torch.no_grad():
        pairing.model.decoder.conv_last.bias.fill_(float("nan"))
    with pytest.raises(MismatchError, match="not finite"):
        pairing.check()
    results = iter([1.0, 1.01, 1.2])  # The truth, the reference in float32, and the usual path.
    monkeypatch.setattr(decoders.Pairing, "_results", lambda self, dtype: {"the loss": [torch.tensor(next(results))]})
    with pytest.raises(MismatchError, match="the loss is wrong by"):
        _ = decoders.Pairing("c1_bilinear", pairing.setting).agreed


def test_an_encoder_that_does_not_exist_is_named_first() -> None:
    with pytest.raises(InputError, match="the nearest valid stride is 8"):
        decoders.cases(options(decoders, "--encoder", "resnet18_dilated2"))


def test_detectors_have_the_losses_of_torchvisions_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "BATCH", 1)
    (case,) = detectors.cases(options(detectors, "--body", "resnet18", "--size", "64"))
    ways = case.ways()
    assert list(ways) == [detectors.REFERENCE, "BN", "SN"]
    for way in ways.values():
        way.check()
    ways["BN"].run()
    assert {name for pair in case.pairs for name in (pair.of, pair.over)} == set(ways)


@pytest.mark.parametrize("wrong", [1.02, float("nan")])
def test_a_detector_with_other_losses_has_no_speed(wrong: float) -> None:
    detectors.require_same({"loss": torch.tensor(1.001)}, {"loss": torch.tensor(1.0)})
    with pytest.raises(MismatchError, match="loss is"):
        detectors.require_same({"loss": torch.tensor(wrong)}, {"loss": torch.tensor(1.0)})


def test_sizes_that_would_be_padded_are_refused() -> None:
    with pytest.raises(InputError, match="--size must be a multiple of 32 and --rounds 1 or more, got 50 and 1"):
        detectors.cases(options(detectors, "--size", "50", "--rounds", "1"))


@pytest.mark.parametrize(
    "runtime", ["eager", *(pytest.param(r, marks=pytest.mark.sweep) for r in ("onnxruntime", "openvino"))]
)
def test_deploy(runtime: str) -> None:
    arguments = ["--size", "32", "--rounds", "1", "--networks", "resnet18", "--runtimes", runtime]
    parser = argparse.ArgumentParser()
    deploy.add_arguments(parser)
    (case,) = deploy.cases(parser.parse_args([*arguments, "--settings", "ssn, all batch", "gn"]))
    outcome = run_case(case)
    assert outcome.failures == {}
    assert {row["way"] for row in outcome.rows} == {"bn", "ssn, all batch", "gn"}
    nodes = [ratio.value for pair, ratio in outcome.ratios.items() if pair.quantity == "nodes"]
    assert nodes == ([] if runtime == "eager" else [1.0])
