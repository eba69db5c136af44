"""A layer's whole pass from logits: importance, running statistics and all gradients, against plain operations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from switchnorm.errors import InputError
from switchnorm.ops import kernel
from switchnorm.ops.kernels.triton import fused
from switchnorm.ops.projection import BY_SOFTMAX, SOFTMAX, SPARSE_SIMPLEX, SPARSE_SUPPORT, Call, Moved, Projection
from switchnorm.ops.switched import switch
from tests.ops.triton.cases import SN, Case, Choice, cases, check_whole, whole_case
from tests.ops.triton.limits import CUTS, cut

pytestmark = pytest.mark.usefixtures("poisoned")


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    projection = draw(st.sampled_from((SOFTMAX, SPARSE_SIMPLEX, SPARSE_SUPPORT)))
    fixed = draw(st.sampled_from((0, 0, 1, 2, 3)))
    return Choice.of(projection, draw(st.booleans()), fixed, draw(st.sampled_from((0.0, 0.25, 0.5, 0.7))))


DRAWN = (
    cases(elements=200, dtypes=(torch.float32, torch.float64, torch.bfloat16), equal_parts=True),
    choices(),
    st.sampled_from((None, 0.1, 0.25, 1.0)),
    st.sampled_from(CUTS),
)
PHASES = (Phase.explicit, Phase.generate)


def agrees(case: Case, choice: Choice, share: float | None, limits: dict[str, int]) -> None:
    with cut(limits):
        check_whole(case, choice, share)


@settings(max_examples=8, phases=PHASES)
@given(*DRAWN)
def test_agrees_with_plain_operations(case: Case, choice: Choice, share: float | None, limits: dict[str, int]) -> None:
    agrees(case, choice, share, limits)


@pytest.mark.sweep
@settings(max_examples=200, phases=PHASES)
@given(*DRAWN)
def test_many_more_agree_with_plain_operations(
    case: Case, choice: Choice, share: float | None, limits: dict[str, int]
) -> None:
    agrees(case, choice, share, limits)


PROJECTIONS = (SOFTMAX, SPARSE_SIMPLEX, SPARSE_SUPPORT)
#: Daily the quick cuts with every projection, and of those of many small blocks each with another one.
WAYS = [
    pytest.param(
        limits, projection, marks=() if cut < 2 or cut % 3 == place else pytest.mark.sweep, id=f"{limits}-{projection}"
    )
    for cut, limits in enumerate(CUTS)
    for place, projection in enumerate(PROJECTIONS)
]


@pytest.mark.parametrize(("limits", "projection"), WAYS)
def test_every_way_with_every_projection(limits: dict[str, int], projection: int) -> None:
    """Ghost batches, tied logits, a final choice, and running statistics that move."""
    case = whole_case((4, 12, 5, 3), (*SN, "group:4"), ghost=2, relu=True)
    with cut(limits):
        check_whole(case, Choice.of(projection, False, 0, 0.3), 0.1)
        check_whole(case._replace(ghost=None), Choice.of(projection, True, 2, 0.3), 0.6)


@pytest.mark.parametrize("limits", CUTS[:2], ids=str)
def test_flat_inputs_leave_the_instance_statistic_out(limits: dict[str, int]) -> None:
    case = whole_case((6, 10), SN)
    for projection in (SOFTMAX, SPARSE_SUPPORT):
        with cut(limits):
            check_whole(case, Choice.of(projection, False, 0, 0.2), 0.1)


@pytest.mark.parametrize("limits", CUTS[:2], ids=str)
def test_running_statistics_are_those_of_the_batch_or_are_used_and_stay(limits: dict[str, int]) -> None:
    case = whole_case((4, 6, 3, 5), SN)
    call = Call(SN, 1e-5, None, True, False, SOFTMAX, False)
    before = torch.randn(6), torch.rand(6)
    mean, var, counter = before[0].clone(), before[1].clone(), torch.tensor(3)
    given = (case.mean_logits, case.var_logits, None, None, None)
    with cut(limits):
        _, _, batch, _ = fused.forward(call, case.x, (*given, None), None, None)
        _, _, nothing, _ = fused.forward(call, case.x, (*given, None), None, Moved(mean, var, counter, 1.0))
        _, _, used, _ = fused.forward(call, case.x, (*given, before), None, None)
    assert batch is not None
    assert nothing is None
    assert used is None
    assert counter == 4
    assert torch.equal(torch.stack((mean, var)), batch)


@pytest.mark.parametrize("limits", CUTS, ids=str)
def test_the_same_bits_every_time(limits: dict[str, int]) -> None:
    case = whole_case((4, 12, 6, 4), (*SN, "group:3"), ghost=2, relu=True)

    def run() -> list[Tensor | None]:
        call = Call(case.statistics, 1e-5, 2, True, True, SPARSE_SUPPORT, False)
        final = (torch.tensor([0]), torch.tensor([1]), torch.tensor([0.4]))
        tables = (case.mean_logits, case.var_logits, final, case.weight, case.bias, None)
        moved = Moved(torch.zeros(12), torch.ones(12), torch.tensor(0), 0.1)
        y, saved, _, notes = fused.forward(call, case.x, tables, None, moved)
        return [y, saved, *moved[:2], *fused.backward(call, notes, case.dy, case.x, None, saved, tables)]

    with cut(limits):
        for once, again in zip(run(), run(), strict=True):
            assert (once is None) == (again is None)
            assert once is None or torch.equal(once, again)


def test_two_members_on_the_sphere_have_no_gradient() -> None:
    """An optimizer that divides by its size would take roundings for one."""
    logits = torch.tensor([1.0, 0.4], requires_grad=True)
    x, weight, bias = torch.randn(3, 4, 5, 5), torch.randn(4), torch.randn(4)
    projection = Projection(SPARSE_SUPPORT, (torch.zeros(1), torch.zeros(1), torch.full((1,), 0.6)))
    with kernel("triton"):
        y = switch(
            x, ("instance", "layer"), logits, logits, projection, weight, bias, 1e-5, None, None, None, None, False
        )
        (found,) = torch.autograd.grad(y, logits, torch.randn_like(y))
    assert found.tolist() == [0, 0]


@pytest.mark.parametrize("limits", CUTS[:2], ids=str)
def test_saved_tensors_may_come_back_in_another_layout(limits: dict[str, int]) -> None:
    """As `torch.autograd.graph.save_on_cpu(pin_memory=True)` gives channels-last ones."""

    def gradients(pack: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        torch.manual_seed(0)
        x, residual, dy = (torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last) for _ in range(3))
        leaves = [t.requires_grad_() for t in (x, *(torch.randn(count) for count in (3, 3, 8, 8)), residual)]
        with cut(limits), kernel("triton"), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            y = switch(x, SN, *leaves[1:3], BY_SOFTMAX, *leaves[3:5], 1e-5, None, None, None, residual, True)
            return torch.autograd.grad(y, leaves, dy)

    for found, expected in zip(gradients(lambda t: t.contiguous()), gradients(lambda t: t), strict=True):
        torch.testing.assert_close(found, expected)


def test_tables_of_other_lengths_are_refused() -> None:
    """A kernel would read, or write, past their ends."""
    x, table, logits = torch.randn(2, 8, 4, 4), torch.randn(8), torch.randn(3)
    moved = Moved(torch.zeros(6), torch.ones(8), torch.zeros((), dtype=torch.long), 0.1)
    for few, moving in ((logits[:2], None), (torch.randn(5), None), (logits, moved)):
        with kernel("triton"), pytest.raises(InputError, match=r"tables of \d numbers"):
            switch(x, SN, few, logits, BY_SOFTMAX, table, table, 1e-5, None, moving, None, None, False)
