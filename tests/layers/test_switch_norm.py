"""SwitchNorm: the published layers, state, dtypes, compilation, and what a forward pass may touch."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import (
    SparseSwitchNorm1d,
    SparseSwitchNorm2d,
    SparseSwitchNorm3d,
    SwitchNorm,
    SwitchNorm1d,
    SwitchNorm2d,
    SwitchNorm3d,
)
from switchnorm.layers.norms import switch
from switchnorm.ops import normalize

pytestmark = pytest.mark.usefixtures("poisoned")

Golden = Callable[[str], dict[str, Tensor]]

SHAPES = {
    SwitchNorm1d: (4, 6, 7),
    SwitchNorm2d: (4, 6, 5, 7),
    SwitchNorm3d: (3, 6, 2, 3, 2),
    SparseSwitchNorm1d: (4, 6, 7),
    SparseSwitchNorm2d: (4, 6, 5, 7),
    SparseSwitchNorm3d: (3, 6, 2, 3, 2),
}
BOTH = [SwitchNorm2d, SparseSwitchNorm2d]


def random_layer(kind: type[SwitchNorm] = SwitchNorm2d, channels: int = 6, *args: Any, **options: Any) -> Any:
    """A layer with every parameter and buffer away from its default."""
    layer = kind(channels, *args, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
        if layer.running_mean is not None:
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
        if hasattr(layer, "radius"):
            layer.set_radius(0.3)
    return layer


def snapshot(layer: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in layer.state_dict().items()}


PUBLISHED = [
    ("switch_norm_1d", SwitchNorm1d, ("layer", "batch"), 0.003),
    ("switch_norm_1d", SwitchNorm1d, ("instance", "layer", "batch"), 0.003),
    ("switch_norm_2d", SwitchNorm2d, ("instance", "layer", "batch"), 0.1),
    ("switch_norm_2d_without_bn", SwitchNorm2d, ("instance", "layer"), 0.1),
]


@pytest.mark.parametrize(("name", "kind", "statistics", "momentum"), PUBLISHED, ids=str)
def test_published(name: str, kind: type[SwitchNorm], statistics: Any, momentum: float, golden: Golden) -> None:
    record = golden(name)
    layer = kind(6, statistics, momentum=momentum).double()
    before = {key.removeprefix("before."): value for key, value in record.items() if key.startswith("before.")}
    given = dict(before)
    layer.load_state_dict(before, strict=True)
    assert before == given  # what was handed over is left alone
    x = record["x"].requires_grad_()
    y = layer(x)
    y.backward(record["dy"])
    exactly: dict[str, Any] = {"rtol": 0, "atol": 1e-9}
    torch.testing.assert_close(y, record["y_train"], **exactly)
    torch.testing.assert_close(x.grad, record["dx"], **exactly)
    for key, parameter in layer.named_parameters():
        expected = record[f"grad.{key}"].flatten()
        # Only a flat input's published layer has no instance statistic; its logit has no influence here.
        found = parameter.grad.flatten()
        torch.testing.assert_close(found[len(found) - len(expected) :], expected, **exactly)
        assert (found[: len(found) - len(expected)] == 0).all()
    for key, buffer in layer.named_buffers():
        if key != "num_batches_tracked":
            torch.testing.assert_close(buffer.flatten(), record[f"after.{key}"].flatten(), **exactly)
    torch.testing.assert_close(layer.eval()(x), record["y_eval"], **exactly)


def test_the_published_layout_loads_into_a_network_on_the_meta_device(golden: Golden) -> None:
    record = golden("switch_norm_2d")
    state = {key.replace("before.", "1."): value for key, value in record.items() if key.startswith("before.")}
    with torch.device("meta"):
        network = nn.Sequential(nn.Identity(), SwitchNorm2d(6))
    network.load_state_dict(state, strict=True, assign=True)
    assert not any(tensor.is_meta for tensor in network.state_dict().values())
    assert network.eval()(record["x"]).shape == record["x"].shape


@pytest.mark.parametrize("wrong", [{"weight": torch.ones(1, 5, 1, 1)}, {"mean_weight": torch.ones(2)}], ids=str)
def test_what_does_not_fit_is_not_loaded(wrong: dict[str, Tensor]) -> None:
    layer = SwitchNorm2d(6)
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(snapshot(layer) | wrong)
    with pytest.raises(RuntimeError, match="Missing key"):
        layer.load_state_dict({})


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", SHAPES)
def test_is_normalize_with_its_importance(kind: type[SwitchNorm], training: bool) -> None:
    layer = random_layer(kind, eps=1e-3).train(training)
    x = torch.randn(SHAPES[kind])
    importance = layer.importance()
    assert all(abs(weights.sum() - 1) < 1e-6 for weights in importance)
    running = None if training else (layer.running_mean.clone(), layer.running_var.clone())
    expected = normalize(
        x, layer.statistics, *importance, layer.weight, layer.bias, eps=1e-3, running=running
    )  # fmt: skip
    torch.testing.assert_close(layer(x), expected.y, rtol=0, atol=0)


def test_a_flat_input_shares_the_importance_of_the_instance_statistic() -> None:
    layer = random_layer(SwitchNorm1d)
    reduced = SwitchNorm1d(6, ("layer", "batch"))
    reduced.load_state_dict(
        snapshot(layer) | {name: getattr(layer, name).detach()[1:] for name in ("mean_weight", "var_weight")}
    )
    x = torch.randn(5, 6)
    torch.testing.assert_close(layer(x), reduced(x), rtol=0, atol=0)
    torch.testing.assert_close(layer.eval()(x), reduced.eval()(x), rtol=0, atol=0)
    with pytest.raises(InputError, match="has no instance statistic; add 'layer' or 'batch'"):
        SwitchNorm1d(6, ("instance",))(x)


@pytest.mark.parametrize("parameters", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("inputs", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", BOTH)
def test_dtypes(kind: type[SwitchNorm], inputs: torch.dtype, parameters: torch.dtype) -> None:
    """y has x's dtype; gradients those of what they belong to; the result that of float64, rounded."""
    layer = random_layer(kind).to(parameters)
    x = torch.randn(4, 6, 5, 7).to(inputs).requires_grad_()
    y = layer(x)
    assert y.dtype == inputs
    assert all(buffer.dtype == parameters for name, buffer in layer.named_buffers() if name.startswith("running"))
    y.backward(torch.randn_like(y))
    assert x.grad is not None
    assert x.grad.dtype == inputs
    for parameter in layer.parameters():
        assert parameter.grad.dtype == parameters
        assert parameter.grad.isfinite().all()
    exact = copy.deepcopy(layer).double()(x.detach().double())
    eps = torch.finfo(inputs).eps
    # An ulp of the output; sparsestmax in float32 is good to about 1e-6, which float64 inputs see too.
    torch.testing.assert_close(y.double(), exact, rtol=2 * eps, atol=max(4 * eps, 5e-6))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_of_half_inputs_are_kept_in_float32(dtype: torch.dtype) -> None:
    """A float32 layer's running statistics show it: 300 * 300 is beyond float16, and 300.3 between two of bfloat16."""
    layer = SwitchNorm2d(6, momentum=1.0)
    x = (300.3 + 100 * torch.randn(4, 6, 9, 9)).to(dtype)
    layer(x)
    assert layer.running_mean is not None
    torch.testing.assert_close(layer.running_mean, x.double().mean((0, 2, 3)).float(), rtol=1e-6, atol=0)
    assert layer.running_mean.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", BOTH)
def test_autocast_changes_nothing(kind: type[SwitchNorm], training: bool, dtype: torch.dtype) -> None:
    plain = random_layer(kind).train(training)
    layer = copy.deepcopy(plain)
    x, dy = (torch.randn(4, 6, 5, 7).to(dtype) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == dtype
    expected = plain(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    y.backward(dy)
    expected.backward(dy)
    for ours, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=0)
    torch.testing.assert_close(snapshot(layer), snapshot(plain), rtol=0, atol=0)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
def test_memory_format_and_gradients_follow_the_input(training: bool, memory_format: torch.memory_format) -> None:
    layer = random_layer().train(training)
    x = torch.randn(4, 6, 5, 7).to(memory_format=memory_format).requires_grad_()
    y = layer(x)
    assert y.is_contiguous(memory_format=memory_format)
    (dx,) = torch.autograd.grad(y, x, torch.randn_like(x))
    assert dx.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", BOTH)
def test_a_forward_pass_writes_no_parameter_and_buffers_only_in_training(
    kind: type[SwitchNorm], training: bool
) -> None:
    layer = random_layer(kind).train(training)
    if hasattr(layer, "radius"):
        layer.set_radius(1)  # the published layer would write its choice now
    before, versions = snapshot(layer), [parameter._version for parameter in layer.parameters()]
    layer(torch.randn(4, 6, 5, 7)).sum().backward()
    after = layer.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == ({"running_mean", "running_var", "num_batches_tracked"} if training else set())
    assert versions == [parameter._version for parameter in layer.parameters()]


@pytest.mark.parametrize("shape", [(0, 6, 5, 5), (3, 6, 0, 5)])
@pytest.mark.parametrize("kind", BOTH)
def test_an_empty_batch_leaves_no_trace(kind: type[SwitchNorm], shape: tuple[int, ...]) -> None:
    layer = random_layer(kind)
    before = snapshot(layer)
    for training in (True, False):
        y = layer.train(training)(torch.empty(shape, requires_grad=True))
        assert y.shape == shape
        y.sum().backward()
        assert all((parameter.grad == 0).all() for parameter in layer.parameters())
    torch.testing.assert_close(snapshot(layer), before, rtol=0, atol=0)


def test_momentum_none_averages_over_all_batches() -> None:
    layer = random_layer(momentum=None)
    layer.reset_running_stats()
    batches = [torch.randn(4, 6, 3, 3) + shift for shift in range(5)]
    statistics = [normalize(x, ("batch",)) for x in batches]
    for count in (5, 3):  # and again after a reset
        for x in batches[:count]:
            layer(x)
        assert layer.num_batches_tracked == count
        for name in ("mean", "var"):
            expected = torch.stack([getattr(each, f"batch_{name}") for each in statistics[:count]]).mean(0)
            torch.testing.assert_close(getattr(layer, f"running_{name}"), expected)
        layer.reset_running_stats()


def test_momentum_is_the_share_of_the_new_batch() -> None:
    layer = random_layer(momentum=0.3)
    before = snapshot(layer)
    x = torch.randn(4, 6, 3, 3)
    batch = normalize(x, ("batch",))
    layer(x)
    torch.testing.assert_close(layer.running_mean, 0.7 * before["running_mean"] + 0.3 * batch.batch_mean)
    torch.testing.assert_close(layer.running_var, 0.7 * before["running_var"] + 0.3 * batch.batch_var)
    assert layer.num_batches_tracked == 1


def test_without_affine_and_without_running_statistics() -> None:
    layer = random_layer(affine=False, track_running_stats=False)
    assert set(layer.state_dict()) == {"mean_weight", "var_weight"}
    x = torch.randn(4, 6, 5, 5)
    y = layer(x)
    torch.testing.assert_close(layer.eval()(x), y, rtol=0, atol=0)
    torch.testing.assert_close(y, normalize(x, layer.statistics, *layer.importance()).y, rtol=0, atol=0)
    without_batch = SwitchNorm2d(6, ("instance", "layer"))
    assert set(without_batch.state_dict()) == {"weight", "bias", "mean_weight", "var_weight"}


def test_ghost_batches_are_taken_in_training_only() -> None:
    layer = random_layer(ghost=2)
    parts = copy.deepcopy(layer)
    parts.ghost = None
    x = torch.randn(5, 6, 4, 4)
    torch.testing.assert_close(layer(x), torch.cat([copy.deepcopy(parts)(part) for part in x.split(2)]))
    parts.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer.eval()(x), parts.eval()(x), rtol=0, atol=0)


def test_evaluation_without_running_statistics_is_of_the_whole_batch_of_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither of ghost batches, nor of other processes, which may not be evaluating."""
    plain = random_layer(track_running_stats=False)
    x = torch.randn(5, 6, 4, 4)
    asked: list[Any] = []
    monkeypatch.setattr(switch, "process_group", asked.append)
    for setting, value in (("ghost", 2), ("sync", True)):
        layer = copy.deepcopy(plain)
        setattr(layer, setting, value)
        torch.testing.assert_close(layer.eval()(x), plain.eval()(x), rtol=0, atol=0)
    assert asked == []
    layer.train()(x)
    assert asked == [True]


@pytest.mark.parametrize("kind", SHAPES)
def test_copies(kind: type[SwitchNorm]) -> None:
    """A deep copy, a pickle, a state dict and functional_call all compute the same."""
    layer = random_layer(kind, momentum=None)
    x = torch.randn(SHAPES[kind])
    layer(x)
    layer.eval()
    expected = layer(x)
    fresh = kind(6).eval()
    fresh.load_state_dict(layer.state_dict())
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
        torch.testing.assert_close(other(x), expected, rtol=0, atol=0)
        torch.testing.assert_close(snapshot(other), snapshot(layer), rtol=0, atol=0)
    state = snapshot(layer)
    torch.testing.assert_close(torch.func.functional_call(kind(6).eval(), state, x), expected, rtol=0, atol=0)
    # In training, the buffers handed over are the ones that move.
    shell = kind(6)
    untouched = snapshot(shell)
    torch.func.functional_call(shell, state, x)
    assert state["num_batches_tracked"] == layer.num_batches_tracked + 1
    torch.testing.assert_close(snapshot(shell), untouched, rtol=0, atol=0)


@pytest.mark.parametrize("kind", BOTH)
def test_second_derivatives(kind: type[SwitchNorm]) -> None:
    layer = random_layer(kind, 3).double()
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    state = dict(layer.named_parameters())

    def y(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(state, values, strict=True)), x)

    assert torch.autograd.gradgradcheck(y, (x, *state.values()))


COMPILED: list[tuple[type[SwitchNorm], tuple[int, ...], dict[str, Any]]] = [
    (SwitchNorm2d, (4, 6, 5, 7), {}),
    (SwitchNorm2d, (4, 6, 5, 7), {"statistics": ("group:3", "batch"), "momentum": None}),
    (SwitchNorm2d, (5, 6, 3, 3), {"ghost": 2}),
    (SparseSwitchNorm2d, (4, 6, 5, 7), {}),
    (SparseSwitchNorm3d, (2, 6, 2, 3, 2), {"centre": "simplex"}),
    (SwitchNorm1d, (5, 6), {}),
]


def compare_compiled(layer: SwitchNorm, x: Tensor, backend: str, modes: tuple[bool, ...] = (True, False)) -> None:
    plain = copy.deepcopy(layer)
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    for training in modes:
        plain.train(training)
        layer.train(training)
        dy = torch.randn_like(x)
        results = []
        for call, parameters in ((compiled, layer.parameters()), (plain, plain.parameters())):
            leaf = x.clone().requires_grad_()
            y = call(leaf)
            results.append((y, *torch.autograd.grad(y, (leaf, *parameters), dy)))
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(snapshot(layer), snapshot(plain))


@pytest.mark.parametrize(("kind", "shape", "options"), COMPILED, ids=str)
def test_compiles_as_one_graph(kind: type[SwitchNorm], shape: tuple[int, ...], options: dict[str, Any]) -> None:
    torch.compiler.reset()
    compare_compiled(random_layer(kind, 6, **options), torch.randn(shape), "aot_eager")


def test_compiles_to_machine_code() -> None:
    torch.compiler.reset()
    compare_compiled(random_layer(), torch.randn(2, 6, 3, 4), "inductor", (True,))


def test_one_compilation_serves_every_batch_size() -> None:
    torch.compiler.reset()
    layer = random_layer()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    compiled(torch.randn(4, 6, 5, 7))
    with torch.compiler.set_stance("fail_on_recompile"):
        for n in (2, 7, 32):
            x = torch.randn(n, 6, 5, 7)
            plain = copy.deepcopy(layer)
            torch.testing.assert_close(compiled(x), plain(x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", BOTH)
def test_exports_with_any_batch_size(kind: type[SwitchNorm], training: bool) -> None:
    layer = random_layer(kind).train(training)
    batch = torch.export.Dim("batch", min=2 if training else 1)
    program = torch.export.export(layer, (torch.randn(6, 6, 5, 7),), dynamic_shapes=({0: batch},))
    exported = program.module()
    for n in (2, 9) if training else (1, 9):
        x = torch.randn(n, 6, 5, 7)
        torch.testing.assert_close(exported(x), layer(x))
    torch.testing.assert_close(dict(exported.named_buffers()), dict(layer.named_buffers()))


def test_reset() -> None:
    layer = random_layer(SparseSwitchNorm2d)
    layer(torch.randn(4, 6, 5, 5))
    layer.mean_fixed.fill_(1)
    layer.reset_parameters()
    torch.testing.assert_close(snapshot(layer), snapshot(SparseSwitchNorm2d(6)), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SwitchNorm2d(6, ("instance", "bach")), "statistic 'bach' is unknown; did you mean 'batch'?"),
        (lambda: SwitchNorm2d(6, ("group:4", "batch")), "the nearest group counts are 3 or 6"),
        (lambda: SwitchNorm2d(6, ()), "statistics is empty; choose from"),
        (lambda: SwitchNorm2d(6, ghost=0), "ghost batches of 0 samples are impossible; the nearest valid size is 1"),
        (lambda: SwitchNorm2d(6, ghost=2, sync=True), "choose ghost or sync"),
        (lambda: SwitchNorm2d(6)(torch.ones(2, 6, 3)), "2d takes 4 dimensions with 6 channels, got (2, 6, 3)"),
        (lambda: SwitchNorm1d(6)(torch.ones(2, 5)), "SwitchNorm1d takes 2 or 3 dimensions with 6 channels, got (2, 5)"),
        (lambda: SwitchNorm2d(6, ("batch",))(torch.ones(1, 6, 1, 1)), "add 'instance', 'layer' or 'group:G'"),
    ],
)
def test_errors(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_repr() -> None:
    assert repr(SwitchNorm2d(6)) == (
        "SwitchNorm2d(6, statistics=('instance', 'layer', 'batch'), eps=1e-05, momentum=0.1)"
    )
    layer = SparseSwitchNorm2d(6, affine=False, track_running_stats=False, ghost=2)
    assert repr(layer).endswith("affine=False, track_running_stats=False, ghost=2, centre='support')")
    assert "sync=True" in repr(SwitchNorm2d(6, sync=True))
