"""Bringing the layers of a switched network near to those of the network before, by a few batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import kind_of
from switchnorm.ops.moments import accumulation_dtype
from switchnorm.surgery.carry import AFFINE
from switchnorm.surgery.freeze import is_frozen
from switchnorm.surgery.kinds import named_layers, tail_of

Forward = Callable[[nn.Module, Any], Any]


class _Line:
    """The line a * y + b (C,) with the mean and deviation of t, over everything that was seen so far.

    Not the nearest line: least squares shrinks what it cannot predict, layer after layer, until nothing is left. By
    deviations a network keeps several times as much of what it knows.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        # Of y and t: the means, and the sums of the deviations' squares and products.
        zeros = torch.zeros(5, channels, dtype=torch.float64).unbind()
        self.mean_y, self.mean_t, self.square_y, self.square_t, self.product = zeros

    def see(self, y: Tensor, t: Tensor) -> None:
        """Take in values (N, C, *S) and their targets (Chan et al., "Updating formulae", 1979)."""
        y, t = (each.detach().to(accumulation_dtype(each.dtype)) for each in (y, t))
        new, over = y.numel() // y.shape[1], [0, *range(2, y.dim())]
        if new == 0:
            return
        mean_y, mean_t = (each.mean(over, dtype=torch.float64) for each in (y, t))
        y, t = y - _shaped(mean_y.to(y.dtype), y), t - _shaped(mean_t.to(t.dtype), t)
        pairs = ((y, y), (t, t), (y, t))
        square_y, square_t, product = ((a * b).sum(over, dtype=torch.float64).cpu() for a, b in pairs)
        mean_y, mean_t = mean_y.cpu(), mean_t.cpu()
        apart_y, apart_t = mean_y - self.mean_y, mean_t - self.mean_t
        share = new / (self.count + new)
        factor = self.count * share
        self.square_y = self.square_y + square_y + apart_y.square() * factor
        self.square_t = self.square_t + square_t + apart_t.square() * factor
        self.product = self.product + product + apart_y * apart_t * factor
        self.mean_y, self.mean_t = self.mean_y + apart_y * share, self.mean_t + apart_t * share
        self.count += new

    def fit(self) -> tuple[Tensor, Tensor]:
        """a, b (C,); a has the sign of the covariance, and is 1 where y does not vary."""
        varies = self.varies()
        slope = (self.square_t / self.square_y.where(varies, torch.ones_like(self.square_y))).sqrt()
        slope = torch.where(varies, torch.where(self.product < 0, -slope, slope), 1.0)
        return slope, self.mean_t - slope * self.mean_y

    def varies(self) -> Tensor:
        """Whether y does, (C,)."""
        return self.square_y > 0


class Likeness:
    """Pairs of normalizations of two networks by their names, and what is needed to bring one near to the other.

    Args:
        model: the switched network.
        like: the network before.

    Attributes:
        pairs: (name, layer of `model`, layer of `like`), but for frozen ones.

    Raises:
        InputError: one and the same network, a normalization without one of its name and size in the other, one without
            scale and shift that was switched, or one that shares these with another.
    """

    def __init__(self, model: nn.Module, like: nn.Module) -> None:
        ours, theirs = _normalizations(model), _normalizations(like)
        for name in [*ours, *theirs]:
            if name not in ours or name not in theirs:
                here, there = ("like", "model") if name not in ours else ("model", "like")
                raise InputError(f"layer {name!r} of {here} has no normalization of that name in {there}")
        self.pairs: list[tuple[str, Any, Any]] = []
        holders: dict[int, str] = {}
        for name, layer in ours.items():
            if _affine(layer) is None:
                if is_frozen(layer) or type(layer) is type(theirs[name]):
                    continue
                raise InputError(
                    f"layer {name!r} of model has no scale and shift by which it could become alike; switch with "
                    "affine=True"
                )
            for each in _affine(layer) or ():
                if holders.setdefault(id(each), name) != name:
                    raise InputError(
                        f"layers {holders[id(each)]!r} and {name!r} of model share a scale or shift; only layers of "
                        "their own can become alike"
                    )
            if not is_frozen(layer):
                self.pairs.append((name, layer, theirs[name]))
        self.like = like
        if {id(each) for each in self.tensors()} & {id(each) for each in like.parameters()}:
            raise InputError(
                "like shares scales and shifts with model; give a copy from before the switch, by deepcopy"
            )

    def tensors(self) -> list[Tensor]:
        """What is written: scales and shifts."""
        return [each for _, layer, _ in self.pairs for each in _affine(layer) or ()]

    @contextmanager
    def forward(self, run: Forward) -> Iterator[Forward]:
        """A forward pass of both networks on a batch, in which every layer of the switched one becomes alike.

        The layers of the other are looked at first. Then a layer meets what the layers before it give, which are alike
        already, gets scale and shift, and goes on with these in evaluation mode. What earlier batches showed counts.

        Args:
            run: called with a network and a batch.
        """
        targets: defaultdict[str, list[Tensor]] = defaultdict(list)
        lines: dict[str, _Line] = {}

        def look(name: str) -> Callable[..., None]:
            def hook(layer: Any, args: Any, kwargs: Any, output: Any) -> None:
                targets[name].append(_plain(layer, args[0]))

            return hook

        def mend(name: str) -> Callable[..., Any]:
            def hook(layer: Any, args: Any, kwargs: Any, output: Any) -> Any:
                if not targets[name]:
                    raise InputError(f"layer {name!r} is called more often in model than in like")
                mode, layer.training = layer.training, False
                try:
                    line = lines.setdefault(name, _Line(len(layer.weight)))
                    _mend(name, layer, args[0], targets[name].pop(0), line)
                    # Not a call, which would come here again.
                    return layer.forward(*args, **kwargs)
                finally:
                    layer.training = mode

            return hook

        modes = [(module, module.training) for module in self.like.modules()]

        def both(model: nn.Module, batch: Any) -> None:
            targets.clear()
            run(self.like, batch)
            run(model, batch)
            if left := next((name for name, rest in targets.items() if rest), None):
                raise InputError(f"layer {left!r} is called more often in like than in model")

        with ExitStack() as hooks:
            # First, for the hooks of others have to see what the layer gives.
            settings = {"with_kwargs": True, "prepend": True}
            for name, layer, other in self.pairs:
                for module, hook in ((other, look(name)), (layer, mend(name))):
                    hooks.callback(module.register_forward_hook(hook, **settings).remove)
            for module, _ in modes:
                module.training = False
            try:
                yield both
            finally:
                for module, mode in modes:
                    module.training = mode


def _normalizations(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that stand for a registered normalizer, by the first of their names."""
    kinds = ((names[0], layer, kind_of(layer)) for layer, names in named_layers(model).items())
    return {name: layer for name, layer, kind in kinds if kind is not None and kind.norm is not None}


def _affine(layer: Any) -> tuple[Tensor, Tensor] | None:
    """Scale and shift (C,) by which a layer ends; None where it has not both."""
    weight, bias = (getattr(layer, name, None) for name in AFFINE)
    return (weight, bias) if isinstance(weight, Tensor) and isinstance(bias, Tensor) else None


def _plain(layer: Any, x: Tensor) -> Tensor:
    """What a normalization makes of x by itself, without residual, dropout and activation."""
    removed = {name: layer.get_submodule(name) for name in tail_of(layer)}
    activation = vars(layer).get("activation")
    try:
        for name in removed:
            setattr(layer, name, nn.Identity())
        if isinstance(activation, str):
            layer.activation = None
        y: Tensor = layer.forward(x)
        return y
    finally:
        for name, module in removed.items():
            setattr(layer, name, module)
        if isinstance(activation, str):
            layer.activation = activation


def _mend(name: str, layer: Any, x: Tensor, target: Tensor, line: _Line) -> None:
    """Give a layer the scale and shift after which its channels have the means and deviations of a target."""
    weight = layer.weight.detach().double()
    # By itself and not by its scale and shift so far, for those change from batch to batch.
    layer.weight.fill_(1)
    layer.bias.fill_(0)
    y = _plain(layer, x)
    if y.shape != target.shape:
        raise InputError(f"layer {name!r} gives {tuple(y.shape)} in model and {tuple(target.shape)} in like")
    first = line.count == 0
    line.see(y, target)
    slope, shift = (each.to(weight.device) for each in line.fit())
    layer.weight.copy_(torch.where(line.varies().to(weight.device), slope, weight))
    layer.bias.copy_(shift)
    if not first or line.count == 0:
        return
    expected = y * _shaped(layer.weight, y) + _shaped(layer.bias, y)
    if not torch.allclose(_plain(layer, x), expected.to(y.dtype), rtol=1e-2, atol=1e-2 * (1 + float(target.std()))):
        raise InputError(
            f"layer {name!r} ({type(layer).__name__}) does not end with scale and shift, by which it could become alike"
        )


def _shaped(table: Tensor, y: Tensor) -> Tensor:
    """(C,) so that it broadcasts against (N, C, *S)."""
    return table.view(-1, *(1,) * (y.dim() - 2))
