"""What a switchable layer's whole pass takes beside tensors: how logits become importance, and what it moves."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from switchnorm.ops.partition import Ghost

#: How logits become importance: they are it, by softmax, or by SparsestMax with its ball in the centre of the simplex
#: or of the face that sparsemax chose. The kernels know these numbers.
GIVEN, SOFTMAX, SPARSE_SIMPLEX, SPARSE_SUPPORT = range(4)

#: SparsestMax by where its ball lies, see `switchnorm.ops.sparsestmax`.
SPARSE = {"simplex": SPARSE_SIMPLEX, "support": SPARSE_SUPPORT}


#: SparsestMax's mean_fixed and var_fixed, above 0 where a choice is final, and radius; (1,) each. See
#: `switchnorm.ops.importance`.
Final = tuple[Tensor, Tensor, Tensor]


class Projection(NamedTuple):
    """How logits become importance.

    Attributes:
        kind: GIVEN, SOFTMAX, SPARSE_SIMPLEX or SPARSE_SUPPORT.
        final: SparsestMax's; None for the others.
        tied: whether mean and variance have one importance: that of the mean of both logits.
    """

    kind: int
    final: Final | None = None
    tied: bool = False


BY_SOFTMAX = Projection(SOFTMAX)


class Call(NamedTuple):
    """What distinguishes one pass from another, apart from tensors.

    Attributes:
        statistics: names among "instance", "layer", "batch", "group:G".
        eps: added to the variance.
        ghost: samples of a part of the batch, or the sizes of the parts; None for one part.
        unbiased: as in `switchnorm.ops.rule.Rule`.
        relu: whether ReLU follows.
        projection: how logits become importance: GIVEN, SOFTMAX, SPARSE_SIMPLEX or SPARSE_SUPPORT.
        tied: whether mean and variance have one importance: that of the mean of both logits.
    """

    statistics: tuple[str, ...]
    eps: float
    ghost: Ghost
    unbiased: bool
    relu: bool
    projection: int
    tied: bool


class Moved(NamedTuple):
    """Running statistics that a pass moves towards those of its batch.

    Attributes:
        mean, var: (C,).
        counter: of batches, ().
        share: of the batch in them; below 0 they become the average over all batches.
    """

    mean: Tensor
    var: Tensor
    counter: Tensor
    share: float


def members(statistics: tuple[str, ...], flat: bool) -> tuple[str, ...]:
    """The statistics of an input: a flat one, (N, C), has no instance statistic, whose importance the others share."""
    return tuple(name for name in statistics if name != "instance") if flat else statistics
