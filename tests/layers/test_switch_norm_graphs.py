"""SwitchNorm under torch.compile and torch.export."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from switchnorm.layers import SparseSwitchNorm2d, SparseSwitchNorm3d, SwitchNorm, SwitchNorm1d, SwitchNorm2d
from tests.layers.switch_norms import BOTH, random_layer, snapshot

pytestmark = pytest.mark.usefixtures("poisoned")

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


@pytest.mark.filterwarnings("error:Dynamo detected")  # what it would rather not see
@pytest.mark.parametrize(("kind", "shape", "options"), COMPILED, ids=str)
def test_compiles_as_one_graph(kind: type[SwitchNorm], shape: tuple[int, ...], options: dict[str, Any]) -> None:
    torch.compiler.reset()
    compare_compiled(random_layer(kind, 6, **options), torch.randn(shape), "aot_eager")


def test_compiles_to_machine_code(inductor: str) -> None:
    torch.compiler.reset()
    compare_compiled(random_layer(), torch.randn(2, 6, 3, 4), inductor, (True,))


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
