"""Plans cover every element once, fill the device, and are few; tables and blocks of code overrule them."""

from __future__ import annotations

import functools
import random
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from switchnorm.ops.kernels.triton import device as devices
from switchnorm.ops.kernels.triton import fused
from switchnorm.ops.kernels.triton.cut import (
    BLOCK_BYTES,
    COUNTERS,
    MERGED_PIECES,
    PIECES,
    PROGRAMS,
    TILES,
    Plan,
    Shape,
    Tuning,
    cuts,
    untuned,
)
from switchnorm.ops.kernels.triton.device import H100, H200, Device
from switchnorm.ops.kernels.triton.plan import (
    candidates,
    derived_from_plans,
    plan,
    plan_for,
    plans,
    predict,
    shape_of,
)
from switchnorm.ops.projection import SOFTMAX, Call
from tests.ops.triton.launches import instead
from tests.ops.triton.shapes import Layer, detector, resnet50

NETWORKS = {
    *resnet50(32, 224, 224),
    *detector(2, 800, 1344),
    *(layer for n in (2, 4) for side in (512, 769) for layer in resnet50(n, side, side, dilated=True)),
}
SHAPES = sorted(
    {
        Shape(layer.samples, layer.channels, layer.height * layer.width, channels_last, itemsize)
        for layer in NETWORKS
        for channels_last in (True, False)
        for itemsize in (2, 4)
    }
)
#: Of an NVIDIA A10, of an A100, and of something small.
OTHERS = (
    Device("NVIDIA A10", 72, 65536, 100 << 10, 1536),
    Device("NVIDIA A100-SXM4-80GB", 108, 65536, 164 << 10, 2048),
    Device("one", 1, 32768, 64 << 10, 1024),
)


def held(device: Device) -> int:
    """Bytes of the blocks that a device works on at once."""
    return device.multiprocessors * PROGRAMS * BLOCK_BYTES


@pytest.mark.parametrize("device", [H200, H100], ids=lambda device: device.name)
def test_networks_fill_the_device(device: Device) -> None:
    """What is smaller than the blocks that a device holds at once cannot: it takes a single round, in one wave."""
    small = 0
    for shape in SHAPES:
        cut = plan_for(shape, device)
        found = predict(cut, shape.itemsize, device)
        assert found.resident == PROGRAMS, shape
        if shape.samples * shape.channels * shape.size * shape.itemsize < held(device):
            assert found.waves == 1, shape
            share = cut.own * cut.block_c * min(cut.piece, cut.size) * shape.itemsize
            assert share <= 2 * BLOCK_BYTES, shape
            small += 1
            continue
        assert found.efficiency >= 0.9, shape
        assert found.flight >= 24 * 1024, shape
    assert small < len(SHAPES) // 6


def test_the_prediction_says_what_it_says_it_does() -> None:
    """A plan by hand: 2 x 8 tiles x 3 pieces, on a device of 5 multiprocessors that hold 4 programs each."""
    cut = Plan(2, 128, 1000, False, 8, False, 1, 16, 256, 8, 336, 3, 1, 4, 3, 128)
    found = predict(cut, 2, H200._replace(multiprocessors=5))
    assert cut.programs == 48
    assert (found.resident, found.waves) == (4, 3)
    assert found.efficiency == pytest.approx(2 * 128 * 1000 / (3 * 20 * 16 * 336))
    # Two blocks of each program wait for memory, two fill a piece, which holds 16 x 336 elements of 2 bytes.
    assert found.flight == 4 * 2 * 16 * 336 * 2 / 2
    # A single wave, of at most two programs on each.
    found = predict(cut, 2, H200._replace(multiprocessors=30))
    assert (found.resident, found.waves) == (4, 1)
    assert found.efficiency == pytest.approx(2 * 128 * 1000 / (60 * 16 * 336))
    assert found.flight == 2 * 2 * 16 * 336 * 2 / 2
    # Whole maps, of two samples each: the next two blocks are on their way, unless they are copied by 2 bytes.
    cut = Plan(8, 64, 50, False, 1, False, 2, 16, 64, 4, 64, 1, 8, 4, 3, 128)
    assert predict(cut, 4, H200).flight == 1 * 2 * 2 * 16 * 50 * 4
    assert predict(cut, 2, H200).flight == 1 * 1 * 2 * 16 * 50 * 2


shapes = st.builds(
    Shape,
    st.one_of(st.integers(1, 9), st.integers(1, 5000)),
    st.one_of(st.integers(1, 300), st.integers(1, 70000)),
    st.one_of(st.just(1), st.integers(1, 400), st.integers(1, 10**7)),
    st.booleans(),
    st.sampled_from((2, 4, 8)),
)
tunings = st.builds(
    Tuning,
    st.sampled_from((128, 1024, 4096, 16384)),
    st.sampled_from((1, 8, 32, 256, 2048)),
    st.sampled_from((1, 4, 8)),
    st.integers(1, 8),
    st.integers(1, 4),
)


@given(shapes, st.sampled_from((H200, *OTHERS)), st.one_of(st.none(), tunings))
def test_every_element_belongs_to_one_program(shape: Shape, device: Device, tuning: Tuning | None) -> None:
    for cut in cuts(shape, tuning or untuned(shape), device):
        assert (cut.tiles - 1) * cut.block_c < shape.channels <= cut.tiles * cut.block_c
        assert (cut.groups - 1) * cut.own < shape.samples <= cut.groups * cut.own
        assert (cut.pieces - 1) * cut.piece < cut.row <= cut.pieces * cut.piece
        assert cut.own % cut.block_n == 0
        assert cut.pieces == 1 or cut.piece % cut.align == 0
        assert cut.block_n == 1 or cut.whole
        assert not cut.whole or cut.pieces == 1
        for block in (cut.block_n, cut.block_c, cut.block_l):
            assert block & (block - 1) == 0
        if cut.shifted:
            assert shape.channels % cut.align == cut.block_c % cut.align == shape.channels_last == 0
            assert shape.size % cut.align > 0
            assert cut.row == shape.size + cut.align - 1 > 2 * (cut.align - 1)
            assert cut.block_c * shape.size < 1 << 31
        else:
            assert (shape.channels if shape.channels_last else shape.size) % cut.align == 0
        assert cut.tiles <= TILES
        assert cut.pieces <= PIECES
        assert cut.block_p in MERGED_PIECES
        assert cut.pieces <= cut.block_p
        assert cut.pieces == 1 or cut.tiles * (cut.groups + 1) <= COUNTERS
        assert cut.registers * cut.warps * 32 <= device.registers


def kernels(layers: list[Layer], channels_last: bool, dtype: torch.dtype) -> int:
    """How many kernels the layers' launches take: names, types and constants."""
    seen = set()

    def record(kernel: Any, programs: Any, x: torch.Tensor, *given: Any, **constants: Any) -> None:
        seen.add((kernel.fn.__name__, x.dtype, tuple(value is None for value in given), *sorted(constants.items())))

    logits = torch.empty(3, device="meta")
    with instead(record):
        for layer in layers:
            table = torch.empty(layer[1], device="meta")
            x = torch.empty(layer[:4], dtype=dtype, device="meta")
            if channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
            call = Call(("instance", "layer", "batch"), 1e-5, None, False, layer.relu, SOFTMAX, False)
            residual = x if layer.residual else None
            tables = (logits, logits, None, table, table, None)
            y, saved, _, notes = fused.forward(call, x, tables, residual, None)
            kept = y if layer.relu and layer.residual else None
            fused.backward(call, notes, x, x, kept, saved, tables)
    return len(seen)


@pytest.mark.parametrize("channels_last", [True, False], ids=["channels last", "contiguous"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_random_sizes_take_few_kernels(channels_last: bool, dtype: torch.dtype) -> None:
    """100 sizes of pictures, as large as they are, take at most 60."""
    drawn = random.Random(0)
    sizes = [(drawn.randint(480, 800), drawn.randint(480, 1333)) for _ in range(100)]
    layers = {layer for height, width in sizes for layer in detector(2, height, width)}
    assert kernels(sorted(layers), channels_last, dtype) <= 60


def test_a_device_is_asked_once() -> None:
    found = mock.Mock(
        multi_processor_count=78,
        regs_per_multiprocessor=65536,
        shared_memory_per_multiprocessor=100 << 10,
        max_threads_per_multi_processor=1536,
    )
    found.name = "NVIDIA X"
    devices._read.cache_clear()
    with (
        mock.patch.object(torch.cuda, "get_device_properties", return_value=found) as asked,
        mock.patch.object(torch.cuda, "current_device", return_value=1),
    ):
        expected = Device("NVIDIA X", 78, 65536, 100 << 10, 1536)
        assert devices.device_of(torch.device("cuda", 1)) == expected
        assert devices.device_of(torch.device("cuda")) == expected
        asked.assert_called_once_with(1)
    devices._read.cache_clear()
    assert devices.device_of(torch.device("cpu")) == H200


def test_what_a_multiprocessor_holds() -> None:
    """Threads, registers and shared memory limit it."""
    assert H200.resident(4, 128, 1024) == 4
    assert H200.resident(4, 128, 64 << 10) == 3
    assert H200.resident(8, 32, 1024) == 8
    assert H200.resident(16, 255, 1 << 20) == 1


def test_candidates_begin_with_the_usual_plan() -> None:
    for shape in (Shape(32, 256, 3136, True, 2), Shape(32, 2048, 49, False, 2), Shape(2, 64, 67200, False, 4)):
        found = candidates(shape, H200)
        assert next(iter(found.values())) == plan_for(shape, H200)
        assert len(set(found.values())) == len(found) >= 10
        for tuning, cut in found.items():
            assert cut in set(cuts(shape, tuning, H200))


def test_plans_hold_inside_a_block_of_code() -> None:
    x = torch.empty(32, 64, 56, 56, device="meta")
    shape = shape_of(x)
    usual = plan(x)
    others = list(candidates(shape, H200).values())[1:3]

    @derived_from_plans
    @functools.lru_cache
    def derived() -> Plan:
        return plan(x)

    with plans({shape: others[0]}):
        assert plan(x) == derived() == others[0]
        with plans({shape: others[1]}):
            assert plan(x) == derived() == others[1]
            assert plan(x[:16]) != others[1]
        with pytest.raises(KeyError), plans({shape: others[1]}):
            raise KeyError
        assert plan(x) == derived() == others[0]
    assert plan(x) == derived() == usual


def test_shapes_of_both_layouts() -> None:
    x = torch.empty(2, 3, 4, 5, dtype=torch.bfloat16)
    assert shape_of(x) == Shape(2, 3, 20, False, 2)
    assert shape_of(x.contiguous(memory_format=torch.channels_last)) == Shape(2, 3, 20, True, 2)
    assert shape_of(x[:, :, 0, 0].contiguous()) == Shape(2, 3, 1, True, 2)
