"""The standardized weight that evaluation keeps: never that of another weight, and nowhere to be seen from outside."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import prune

from switchnorm.layers import WSConv1d, WSConv2d, WSConv3d, weight_standardized
from switchnorm.ops import kernel, standardize_weight
from switchnorm.surgery import switch


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The weights that layers standardize from here on."""
    seen: list[Tensor] = []

    def spy(weight: Tensor) -> Tensor:
        seen.append(weight)
        return standardize_weight(weight)

    monkeypatch.setattr(weight_standardized, "standardize_weight", spy)
    return seen


def expected(conv: Any, x: Tensor) -> Tensor:
    """What a convolution computes that keeps nothing."""
    return conv._conv_forward(x, standardize_weight(conv.weight), conv.bias)


def kept_conv(kind: Any = WSConv2d, **options: Any) -> tuple[Any, Tensor]:
    """A convolution that keeps a standardized weight, and an input."""
    conv = kind(4, 80, 3, **options).eval()
    x = torch.randn(2, 4, *(5,) * (conv.weight.dim() - 2))
    with torch.no_grad():
        conv(x)
    return conv, x


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", [WSConv1d, WSConv2d, WSConv3d])
def test_evaluation_standardizes_once(kind: Any, mode: Any, counted: list[Tensor]) -> None:
    conv = kind(4, 8, 3).eval()
    x = torch.randn(2, 4, *(5,) * (conv.weight.dim() - 2))
    with mode():
        for _ in range(3):
            torch.testing.assert_close(conv(x), expected(conv, x), rtol=0, atol=0)
    assert len(counted) == 1


def test_a_frozen_weight_is_kept_while_its_input_has_a_gradient(counted: list[Tensor]) -> None:
    conv = WSConv2d(4, 8, 3).eval().requires_grad_(False)
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    with torch.inference_mode():
        conv(x)  # what is kept must not be an inference tensor
    for _ in range(2):
        found, right = (torch.autograd.grad(f(x).square().sum(), x)[0] for f in (conv, lambda x: expected(conv, x)))
        torch.testing.assert_close(found, right)
    assert len(counted) == 1


def test_gradients_and_training_keep_nothing(counted: list[Tensor]) -> None:
    conv = WSConv2d(4, 8, 3).eval()
    x = torch.randn(2, 4, 5, 5)
    for _ in range(2):
        conv(x).sum().backward()
    conv.train()
    with torch.no_grad():
        conv(x), conv(x)
    assert len(counted) == 4
    assert conv.weight.grad.any()


def sgd_step(conv: Any) -> None:
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.5)
    conv.weight.grad = torch.randn_like(conv.weight)
    optimizer.step()


def in_place(conv: Any) -> None:
    with torch.no_grad():
        conv.weight[1, 2, 0] = 3.0


def in_place_in_inference_mode(conv: Any) -> None:
    with torch.inference_mode():
        conv.weight[1, 2, 0] = 3.0


def through_data(conv: Any) -> None:
    conv.weight.data.pow_(3)


def through_numpy(conv: Any) -> None:
    conv.weight.detach().numpy()[:] **= 3


def with_one_other_weight(conv: Any) -> Tensor:
    """A copy that differs where no sample is taken."""
    value = conv.weight.detach().clone()
    value[1, 2, 0] = 3.0
    return value


def other_data(conv: Any) -> None:
    conv.weight.data = with_one_other_weight(conv)


def other_view_of_the_same_data(conv: Any) -> None:
    conv.weight.data = conv.weight.data.transpose(2, -1)


def other_parameter(conv: Any) -> None:
    conv.weight = nn.Parameter(with_one_other_weight(conv))


def other_state(conv: Any) -> None:
    conv.load_state_dict({name: torch.randn_like(value) for name, value in conv.state_dict().items()})


def assigned_state(conv: Any) -> None:
    state = {name: torch.randn_like(value) for name, value in conv.state_dict().items()}
    conv.load_state_dict(state, assign=True)


def one_weight_through_data_and_eval(conv: Any) -> None:
    conv.weight.data[1, 2, 0] = 3.0
    conv.eval()


def one_weight_through_data_and_training(conv: Any) -> None:
    conv.weight.data[1, 2, 0] = 3.0
    conv.train().eval()


def one_weight_through_data_and_a_gradient(conv: Any) -> None:
    conv.weight.data[1, 2, 0] = 3.0
    conv(torch.randn(1, 4, 5, 5))


CHANGES: list[Callable[[Any], None]] = [
    *(sgd_step, in_place, in_place_in_inference_mode, through_data, through_numpy, other_data),
    *(other_view_of_the_same_data, other_parameter, other_state, assigned_state),
    *(one_weight_through_data_and_eval, one_weight_through_data_and_training, one_weight_through_data_and_a_gradient),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_weight_is_standardized_anew(change: Callable[[Any], None]) -> None:
    conv, x = kept_conv(bias=False)
    before = expected(conv, x).detach()
    change(conv)
    with torch.no_grad():
        y = conv(x)
        torch.testing.assert_close(y, expected(conv, x), rtol=0, atol=0)
    assert not torch.allclose(y, before)


def test_freed_memory_that_another_weight_takes_is_no_mistake() -> None:
    """The same address, version, shape and dtype, for the first parameter is gone."""
    conv, x = kept_conv()
    for _ in range(20):
        value = torch.randn_like(conv.weight)
        conv.weight = nn.Parameter(value)
        del value
        with torch.no_grad():
            torch.testing.assert_close(conv(x), expected(conv, x), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_converted_weight_is_standardized_anew(dtype: torch.dtype) -> None:
    conv, x = kept_conv()
    conv.to(dtype)
    with torch.no_grad():
        torch.testing.assert_close(conv(x.to(dtype)), expected(conv, x.to(dtype)), rtol=0, atol=0)


def test_moving_frees_what_was_kept() -> None:
    conv, _ = kept_conv()
    conv.to("meta")
    assert "_kept" not in vars(conv)
    with torch.no_grad():
        assert conv(torch.empty(2, 4, 5, 5, device="meta")).is_meta


def test_inference_tensors_are_not_kept(counted: list[Tensor]) -> None:
    """They change without a trace."""
    x = torch.randn(2, 4, 5, 5)
    with torch.inference_mode():
        conv = WSConv2d(4, 80, 3).eval()
        conv(x)
        conv.weight[1, 2, 0] = 3.0
        torch.testing.assert_close(conv(x), expected(conv, x), rtol=0, atol=0)
    assert len(counted) == 2


def test_shared_memory_is_not_kept(counted: list[Tensor]) -> None:
    conv = WSConv2d(4, 8, 3).eval().share_memory()
    with torch.no_grad():
        for _ in range(2):
            conv(torch.randn(2, 4, 5, 5))
    assert len(counted) == 2


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda conv: pickle.loads(pickle.dumps(conv))])
def test_is_in_no_state_dict_copy_or_pickle(clone: Callable[[Any], Any]) -> None:
    conv, x = kept_conv()
    assert "_kept" in vars(conv)
    assert set(conv.state_dict()) == {"weight", "bias"}
    other = clone(conv)
    assert "_kept" not in vars(other)
    with torch.no_grad():
        other.weight[1, 2, 0] = 3.0
        torch.testing.assert_close(other(x), expected(other, x), rtol=0, atol=0)
        torch.testing.assert_close(conv(x), expected(conv, x), rtol=0, atol=0)


def test_parametrized_and_pruned_weights() -> None:
    for change in (
        lambda conv: nn.utils.parametrize.register_parametrization(conv, "weight", nn.Softplus()),
        lambda conv: nn.utils.parametrizations.weight_norm(conv),
        lambda conv: prune.random_unstructured(conv, "weight", 0.5),
    ):
        conv, x = kept_conv()
        change(conv)
        with torch.no_grad():
            conv(x)
            for parameter in conv.parameters():
                parameter.mul_(torch.rand_like(parameter))
            y = conv(x)  # pruning makes the weight before each call
            torch.testing.assert_close(y, expected(conv, x), rtol=0, atol=0)


def test_surgery_makes_layers_that_keep_theirs(counted: list[Tensor]) -> None:
    net = switch(nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)).eval(), "gn+ws")
    with torch.no_grad():
        for _ in range(2):
            net(torch.randn(2, 4, 5, 5))
    assert len(counted) == 1


def compiled(conv: Any, x: Tensor) -> Any:
    torch.compiler.reset()
    return torch.compile(conv, backend="aot_eager", fullgraph=True)


WATCHED: dict[str, Callable[[Any, Tensor], Any]] = {
    "compile": compiled,
    "export": lambda conv, x: torch.export.export(conv, (x,)).module(),
    "trace": lambda conv, x: torch.jit.trace(conv, x),
    "make_fx": lambda conv, x: make_fx(lambda x: conv(x))(x),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("watch", WATCHED)
def test_what_is_recorded_standardizes_the_weight_itself(watch: str, kept: bool) -> None:
    """A program that held the standardized weight as a constant would not see its weight change."""
    conv, x = kept_conv()
    if not kept:
        conv.eval()
    with torch.no_grad(), kernel("reference"):
        program = WATCHED[watch](conv, x)
        program(x)
        weight = next((p for n, p in getattr(program, "named_parameters", list)() if n.endswith("weight")), conv.weight)
        for each in {id(w): w for w in (weight, conv.weight)}.values():
            each[1, 2, 0] = 3.0
        torch.testing.assert_close(program(x), expected(conv, x))
        torch.testing.assert_close(conv(x), expected(conv, x), rtol=0, atol=0)


def test_functorch_and_forward_mode() -> None:
    conv, x = kept_conv()
    state = {name: torch.randn_like(value) for name, value in conv.state_dict().items()}
    other = copy.deepcopy(conv)
    other.load_state_dict(state)
    right = expected(other, x)
    with torch.no_grad():
        torch.testing.assert_close(torch.func.functional_call(conv, state, (x,)), right)
        torch.testing.assert_close(torch.func.vmap(conv)(x[:, None])[:, 0], conv(x))
        stacked = {name: value[None] for name, value in state.items()}
        call = torch.func.vmap(lambda state: torch.func.functional_call(conv, state, (x,)))
        torch.testing.assert_close(call(stacked)[0], right)
        torch.testing.assert_close(conv(x), expected(conv, x), rtol=0, atol=0)
    with forward_ad.dual_level(), torch.no_grad():
        dual = forward_ad.make_dual(conv.weight.detach(), torch.randn_like(conv.weight))
        y = torch.func.functional_call(conv, {"weight": dual}, (x,))
        assert forward_ad.unpack_dual(y).tangent.any()


@pytest.mark.gpu
def test_on_cuda_inference_mode_alone_keeps_it_and_a_graph_reads_the_weight(counted: list[Tensor]) -> None:
    conv = WSConv2d(4, 80, 3).cuda().eval()
    x = torch.randn(2, 4, 5, 5, device="cuda")
    with torch.no_grad():
        conv(x), conv(x)
    assert len(counted) == 2
    with torch.inference_mode():
        conv(x), conv(x)
        assert len(counted) == 3
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = conv(x)
        conv.weight.data.pow_(3)
        graph.replay()
        torch.testing.assert_close(y, expected(conv, x))
