"""Where new layers start: as their class makes them, or at what the layers before them computed.

Normalizers differ in the statistics by which they normalize. What these are on average follows from running statistics:
where channels have the means m_c and variances v_c, a group of channels has the mean of m_c, and the mean of v_c plus
the variance of m_c. So scale and shift of a new layer can make up for other statistics: on average it then computes
what the old one did, and what is lost is how the statistics of single samples differ. docs/results/start.md has what
this keeps of a trained network.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from switchnorm.errors import unknown
from switchnorm.layers import channels_of, has_batch_statistics, kind_of, norm_of
from switchnorm.layers.frozen import frozen_eps
from switchnorm.ops.simplex import interior
from switchnorm.surgery.carry import AFFINE, LOGITS, carried
from switchnorm.surgery.kinds import has_tail, own_forward

STARTS = ("auto", "equal", "source")

#: The importance with which statistics besides that of the old layer start, where scale and shift make up for it. A
#: sample's own channels fluctuate most, so that "instance" gets least. Together they get `TOGETHER` at most.
INSTANCE, OTHER, TOGETHER = 0.015, 0.1, 0.25
#: Likewise where nothing makes up for it, about that of the logits (0, 0, 5); and in sparse layers, whose logits have
#: their full gradient at any importance, and which give up most of it later, when scale and shift are not what fits.
ALONE = 0.0066
#: The most by which a scale grows, and shrinks, so that a way there and back changes nothing. Trained networks have
#: channels that are nearly constant, with tiny variances beside those of their groups; should one of them come to life
#: it must not drown the others.
GROWTH = 16.0

#: Of a new layer that computes what the old one did.
_KEPT = "kept"
#: Of one that begins anew, as layers of a fresh network do, where nobody can tell whether the old one had been trained.
UNKNOWN = "not known whether it was trained"

#: By statistic, its shares in the mean and in the variance.
Mixture = Mapping[str, tuple[float, float]]
#: Importance in the mean and in the variance, K numbers each.
Importance = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Start:
    """How a new layer starts.

    Attributes:
        function: whether it computes what the old one did, in words.
        importance: of its statistics; None where it is what the layer has by itself or takes over.
        fits: whether scale and shift make up for other statistics.
    """

    function: str
    importance: Importance | None = None
    fits: bool = False


class Source(NamedTuple):
    """By what a layer normalizes on average.

    Attributes:
        mixture: its statistics.
        running_mean, running_var: (C,), of its input, in float64.
        eps: added to the variance.
    """

    mixture: Mixture
    running_mean: Tensor
    running_var: Tensor
    eps: float


def check_start(start: str) -> str:
    """Return `start` if it is one of `STARTS`; raise `InputError` otherwise."""
    if start not in STARTS:
        raise unknown("start", str(start), STARTS)
    return start


def tied_parameters(model: nn.Module) -> set[int]:
    """The ids of the parameters that several modules of a model hold."""
    held = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    return {key for key, count in held.items() if count > 1}


def start_of(old: nn.Module, new: Any, start: str, learned: bool | None, tied: set[int], fed: bool) -> Start:
    """How `new`, as it was made, starts in the place of `old`; nothing changes.

    Args:
        old, new: two normalizations.
        start: one of `STARTS`.
        learned: whether `old` was trained; None where nothing tells.
        tied: ids of parameters that other layers hold too, so that they must stay what they are.
        fed: whether the convolution before them gets standardized weights, so that inputs are others.
    """
    unseen = "" if _keeps_running(old) or not _keeps_running(new) else "; calibrate it before evaluation"
    before, after = mixture_of(old), mixture_of(new)
    if before is None or after is None:
        same = norm_of(old) is not None and norm_of(old) is norm_of(new)
        name = type(old if before is None else new).__name__
        return Start((_KEPT if same else f"not known: {name} is no mixture of statistics") + unseen)
    importance, fits = None, False
    keeps = start == "source" or (start == "auto" and bool(learned))
    if keeps:
        fits = not fed and source_of(old) is not None and _can_fit(old, new, tied)
    if _mixes(new):
        importance = _importance(old, new, before, fits) if keeps else _equal(old, new)
        carries = importance is None and _mixes(old)
        after = _named(new, *(importance or _importance_of(old if carries else new)))
    # The average of instance statistics is that of the batch.
    average = _compared(before, after) != _KEPT and bool({*before, *after} - {"instance", "batch"})
    other_eps = _other_eps(old, new)
    fits = fits and (average or bool(other_eps))
    changes = [*([] if fits else other_eps), *_not_kept(old, new, after)]
    if keeps or (dict(after) == dict(before) and not changes):
        function = "changes: standardized weights" if fed else _compared(before, after, changes)
    elif learned and _mixes(new):
        function = "changes: equal importance"
    elif start == "auto" and learned is False:
        function = "nothing to keep"
    elif start == "auto" and _mixes(new):
        function = f"{UNKNOWN}: equal importance"
    else:
        function = _compared(before, after, changes)
    return Start(function + (", scale and shift fitted" if fits else "") + unseen, importance, fits)


@torch.no_grad()
def begin(start: Start, source: Source | None, new: Any) -> None:
    """Let a layer start, that already has what it takes over.

    Args:
        start: as `start_of` found it.
        source: the `source_of` the old layer, before anything was taken over; None where there is none.
        new: the new layer; its importance, and where `fits` scale and shift are written.
    """
    if start.importance is not None:
        new.set_importance(*start.importance)
    after = mixture_of(new)
    if not start.fits or source is None or after is None:
        return
    mean, var = _average(source.mixture, source)
    new_mean, new_var = _average(after, source)
    deviation, new_deviation = (var + source.eps).sqrt(), (new_var + float(new.eps)).sqrt()
    weight, bias = new.weight.cpu().double(), new.bias.cpu().double()
    # Of the same statistics with another eps every channel can be what it was.
    most = math.inf if dict(after) == dict(source.mixture) else GROWTH
    growth = (new_deviation / deviation).clamp(1 / most, most)
    # A channel without any variance and eps is what it is.
    deviation, growth = torch.where(deviation > 0, deviation, 1), torch.where(deviation > 0, growth, 1)
    grown = weight * growth
    # weight * (x - mean) / deviation + bias keeps its slope as far as that may grow, and its value at the mean of x.
    value = weight * (source.running_mean - mean) / deviation + bias
    new.bias.copy_(value - grown * (source.running_mean - new_mean) / new_deviation)
    new.weight.copy_(grown)


def mixture_of(layer: nn.Module) -> Mixture | None:
    """The statistics by which a normalization normalizes; None where it does something else, or cannot be read."""
    kind = kind_of(layer)
    if kind is None or kind.norm is None:
        return None
    if kind.base is not None and own_forward(layer) and not has_tail(layer):
        return None
    if kind.own and kind.norm.mixes:
        return _named(layer, *_importance_of(layer)) if _readable(layer, LOGITS) else None
    told = kind.norm.statistic
    if told is None:
        return None
    statistic = told(layer) if callable(told) else told
    return {_canonical(statistic, channels_of(layer)): (1.0, 1.0)}


def source_of(layer: Any) -> Source | None:
    """By what a normalization normalizes on average; None where it has no running statistics of its input."""
    mixture, eps = mixture_of(layer), _eps_of(layer)
    if mixture is None or not _keeps_running(layer) or eps is None:
        return None
    if not _readable(layer, ("running_mean", "running_var")):
        return None
    mean, var = (t.detach().cpu().double() for t in (layer.running_mean, layer.running_var))
    return Source(mixture, mean, var, eps)


def has_learned(layer: Any) -> bool | None:
    """Whether a normalization shows signs of training; None for one that holds nothing which could show them.

    These are running statistics that are not their initial ones or have counted batches; constants in their place, as
    frozen layers have; logits that differ; and of a layer without running statistics a scale or shift that differs
    between channels. Beside running statistics that have seen nothing such a scale is of an initialisation, as that of
    many generative networks.
    """
    kind = kind_of(layer)
    if kind is not None and kind.frozen:
        return True
    running = _keeps_running(layer) and _readable(layer, ("running_mean", "running_var"))
    if running:
        counter = layer._buffers.get("num_batches_tracked")
        counted = isinstance(counter, Tensor) and bool(counter > 0)
        if counted or bool((layer.running_mean != 0).any()) or bool((layer.running_var != 1).any()):
            return True
    differ = (*(() if running else AFFINE), *(LOGITS if _mixes(layer) else ()))
    shown = [bool((t := getattr(layer, name)).ne(t[:1]).any()) for name in differ if _readable(layer, (name,))]
    held = any(getattr(layer, name, None) is not None for name in (*AFFINE, *LOGITS, "running_mean"))
    return any(shown) if held else None


def _importance(old: nn.Module, new: Any, before: Mixture, fits: bool) -> Importance | None:
    """The importance that a mixing layer starts with: that of the old layer, but no statistic gets none."""
    if _mixes(old) and _alike(old, new):
        return None
    least = [ALONE] * len(new.statistics)
    if fits and not _mixes(old) and not _sparse(new):
        least = [INSTANCE if name == "instance" else OTHER for name in new.statistics]
        least = [each * min(1.0, TOGETHER / sum(least)) for each in least]
    found = []
    for moment in (0, 1):
        shares = [before.get(_canonical(n, channels_of(new)), (0.0, 0.0))[moment] for n in new.statistics]
        if sum(shares) == 0:
            return _equal(old, new)
        shares = [share / sum(shares) for share in shares]
        # A sparse layer of the same statistics keeps what it gave up.
        final = _sparse(old) and _sparse(new) and old.statistics == new.statistics
        floors = [0.0 if share > 0 or final else each for share, each in zip(shares, least, strict=True)]
        found.append(interior(shares, floors))
    if getattr(new, "tied", False):
        found = [[(a + b) / 2 for a, b in zip(*found, strict=True)]] * 2
    return found[0], found[1]


def _alike(old: Any, new: Any) -> bool:
    """Whether two mixing layers make the same importance of the same logits."""
    same = norm_of(old) is norm_of(new) and old.statistics == new.statistics
    return same and all(getattr(old, name, None) == getattr(new, name, None) for name in ("centre", "tied"))


def _equal(old: nn.Module, new: Any) -> Importance | None:
    """The same for all statistics, which a layer has as it is made, unless it takes over the logits of another."""
    k = len(new.statistics)
    return ([1 / k] * k, [1 / k] * k) if _mixes(old) else None


def _importance_of(layer: Any) -> Importance:
    mean, var = (each.detach().double().tolist() for each in layer.importance())
    return mean, var


def _named(layer: Any, mean: Sequence[float], var: Sequence[float]) -> Mixture:
    names = [_canonical(name, channels_of(layer)) for name in layer.statistics]
    return {name: pair for name, pair in zip(names, zip(mean, var, strict=True), strict=True) if any(pair)}


def _canonical(statistic: str, channels: int | None) -> str:
    """One name for what has several."""
    return {"group:1": "layer", f"group:{channels}": "instance"}.get(statistic, statistic)


def _average(mixture: Mixture, source: Source) -> tuple[Tensor, Tensor]:
    """The mean and variance (C,) of a mixture of statistics, on average over samples."""
    mean, var = torch.zeros_like(source.running_mean), torch.zeros_like(source.running_var)
    for name, (of_mean, of_var) in mixture.items():
        m, v = source.running_mean, source.running_var
        if name not in ("instance", "batch"):
            groups = 1 if name == "layer" else int(name.removeprefix("group:"))
            means, variances = (t.view(groups, -1) for t in (m, v))
            spread = variances.mean(1, keepdim=True) + means.var(1, unbiased=False, keepdim=True)
            m, v = (t.expand_as(means).flatten() for t in (means.mean(1, keepdim=True), spread))
        mean, var = mean + of_mean * m, var + of_var * v
    return mean, var


def _compared(before: Mixture, after: Mixture, changes: Sequence[str] = ()) -> str:
    """How much of the function stays, in words.

    Args:
        before, after: the statistics.
        changes: what is not the same besides these, in words.
    """
    common = {n: sum(min(a, b) for a, b in zip(after[n], before[n], strict=True)) / 2 for n in after if n in before}
    share = sum(common.values())
    if share < 0.5:
        changes = [f"{'+'.join(after)} in place of {'+'.join(before)}", *changes]
    if changes:
        return f"changes: {', '.join(changes)}"
    if share > 0.9999:
        return _KEPT
    return f"kept nearly ({100 * share:.0f} % {'+'.join(n for n in common if common[n] >= 0.05)})"


def _other_eps(old: nn.Module, new: nn.Module) -> list[str]:
    """That two layers have different eps, in words; [] where they have the same, or it is not known."""
    own, theirs = _eps_of(old), _eps_of(new)
    return [] if own is None or theirs is None or own == theirs else [f"eps {theirs:g} in place of {own:g}"]


def _not_kept(old: Any, new: nn.Module, after: Mixture) -> Iterator[str]:
    """What `new` cannot take over of what `old` computes with besides statistics, in words."""
    kept = carried(old, new)
    lost = [name for name, neutral in zip(AFFINE, (1, 0), strict=True) if _is_lost(old, name, neutral, kept)]
    if lost:
        yield f"without {' and '.join(lost)}"
    if _keeps_running(old) and not _keeps_running(new) and "batch" in after:
        yield "statistics of each batch in place of running ones"


def _is_lost(old: Any, name: str, neutral: float, kept: Mapping[str, Tensor]) -> bool:
    """Whether a layer has a tensor that its successor lacks, and that is not `neutral` as far as can be seen."""
    if name in kept or not isinstance(getattr(old, name, None), Tensor):
        return False
    return not _readable(old, (name,)) or bool((getattr(old, name) != neutral).any())


def _eps_of(layer: nn.Module) -> float | None:
    """What a normalization adds to the variance; None where it does not tell."""
    kind = kind_of(layer)
    eps = frozen_eps(layer) if kind is not None and kind.frozen else getattr(layer, "eps", None)
    return float(eps) if isinstance(eps, float) else None


def _can_fit(old: Any, new: Any, tied: set[int]) -> bool:
    """Whether scale and shift may be written."""
    own = carried(old, new)
    return all(name in own and id(own[name]) not in tied and _readable(old, (name,)) for name in AFFINE) and isinstance(
        getattr(new, "eps", None), float
    )


def _readable(layer: nn.Module, names: Sequence[str]) -> bool:
    """Whether a layer has tensors of these names with values, which can be read and written here."""
    tensors: list[Any] = [getattr(layer, name, None) for name in names]
    kinds = (Tensor, nn.Parameter)
    return all(type(t) in kinds and t.device.type != "meta" and not t.is_inference() and t.dim() == 1 for t in tensors)


def _keeps_running(layer: nn.Module) -> bool:
    """Whether a normalization normalizes by running statistics in evaluation."""
    # torch's Instance Normalization may hold some that it does not use.
    used = getattr(layer, "track_running_stats", True) or has_batch_statistics(layer)
    return used and isinstance(layer._buffers.get("running_mean"), Tensor)


def _mixes(layer: nn.Module) -> bool:
    """Whether a layer mixes statistics by an importance that can be set."""
    norm = norm_of(layer)
    return norm is not None and norm.mixes and hasattr(layer, "set_importance")


def _sparse(layer: nn.Module) -> bool:
    norm = norm_of(layer)
    return norm is not None and norm.sparse
