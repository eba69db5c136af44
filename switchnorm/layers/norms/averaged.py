"""Averages of sparse layers: the logits may be averaged, radius and final choices are those of what is trained.

Every library averages weights in its own way: a deep copy of the model, whose tensors are written in place after each
step, some of them or all. A radius that lags behind is no radius of the schedule, a flag is no number to average, and
the average of a final choice with what was there before is none. So a copy of a layer remembers which layer it was
copied from, and where its tensors have been written since, takes these over from there.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from switchnorm.ops.kernels.choice import needs_plain_operations


class Choices(NamedTuple):
    """What a sparse layer's importance is made of: logits (K,), radius (1,), and whether choices are final, (1,)."""

    mean_weight: Tensor
    var_weight: Tensor
    radius: Tensor
    mean_fixed: Tensor
    var_fixed: Tensor


def choices_of(layer: nn.Module) -> Choices | None:
    """The very tensors of a layer; None where something else is in the place of one, as a parametrization."""
    held = layer._parameters | layer._buffers
    found = [held.get(name) for name in Choices._fields]
    return None if any(each is None for each in found) else Choices(*found)  # type: ignore[arg-type]


@torch.no_grad()
def take_over(average: Choices, trained: Choices, where: Tensor | None = None) -> None:
    """Give an average the radius and final choices of what is trained, in place, without waiting for the device.

    Args:
        average, trained: of one layer; devices and dtypes may differ.
        where: (), whether to; None always does.
    """
    there = Choices(*(theirs.to(ours) for ours, theirs in zip(average, trained, strict=True)))
    always = torch.ones((), dtype=torch.bool, device=average.radius.device) if where is None else where
    for logits, fixed in (("mean_weight", "mean_fixed"), ("var_weight", "var_fixed")):
        ours, final = getattr(average, logits), always & (getattr(there, fixed) > 0)
        ours.copy_(torch.where(final, getattr(there, logits), ours))
    for name in ("radius", "mean_fixed", "var_fixed"):
        ours = getattr(average, name)
        ours.copy_(torch.where(always, getattr(there, name), ours))


class Reference:
    """What a layer's state says of whose copy a copy of it will be: in a pickle, nobody's.

    Args:
        layer: the layer.
        origin: whom it follows; where this is copied along, the copy of the layer follows the copy of that.
    """

    def __init__(self, layer: Averaged, origin: Averaged | None) -> None:
        self.layer = layer
        self._origin = origin

    def __deepcopy__(self, memo: dict[int, Any]) -> Reference:
        return Reference(memo.get(id(self._origin), self.layer), None)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


class Origin:
    """The layer that another was copied from, which it follows once its logits or radius differ from the copied ones.

    A copy that nobody writes to, as one of the best epoch, stays what it is.

    Args:
        layer: what the copy was copied from.
        copy: the copy.
    """

    def __init__(self, layer: Averaged, copy: Averaged) -> None:
        self.layer = layer
        self.remember(copy)

    def remember(self, copy: nn.Module) -> None:
        """Let the copy count as unwritten from now on."""
        self._own = choices_of(copy)
        self._given = None if self._own is None else [t.detach().clone() for t in self._own[:3]]
        self._seen: list[int] = []

    @torch.no_grad()
    def follow(self, copy: nn.Module, again: bool = False) -> None:
        """Take over what belongs to the layer that is trained, if the copy was written.

        Args:
            copy: the copy.
            again: whether it may be the next of many calls between which nothing is written, which then return at once.
                Nothing counts writes past `Tensor.data`, so others look at the values.
        """
        self.layer._follow()
        ours, theirs = choices_of(copy), choices_of(self.layer)
        if ours is None or theirs is None or self._own is None or self._given is None:
            return
        # functional_call puts others in their place, which are the caller's.
        if any(each is not own for each, own in zip(ours, self._own, strict=True)):
            return
        tensors = (*ours, *theirs)
        if any(t.is_meta for t in tensors) or needs_plain_operations(*tensors):
            return
        if again and self._seen and self._seen == _versions(tensors):
            return
        differs = [(own != given).any() for own, given in zip(ours, self._given, strict=False)]
        take_over(ours, theirs, torch.stack(differs).any())
        self._seen = _versions(tensors) if again else []


def _versions(tensors: tuple[Tensor, ...]) -> list[int]:
    """How often each was written in place; nothing where inference mode does not count."""
    return [] if any(t.is_inference() for t in tensors) else [t._version for t in tensors]


class Averaged(nn.Module):
    """What makes a sparse layer follow the one it was copied from; comes before the layer's class among the bases.

    Whoever reads the tensors through the layer has what it should be: by its attributes, its state dict, a pickle or a
    deep copy, its importance, a forward pass. For those who read them past it (Lightning's WeightAveraging, a compiled
    pass), copies also follow whenever the radius of the trained layer is set, and its choices are made final.
    """

    _origin: Origin | None = None
    _copies: weakref.WeakSet[Averaged] | None = None

    @property
    def radius(self) -> Tensor:
        """(1,), the radius in use."""
        return self._followed("radius")

    @property
    def mean_fixed(self) -> Tensor:
        """(1,), whether the choice of the mean is final."""
        return self._followed("mean_fixed")

    @property
    def var_fixed(self) -> Tensor:
        """(1,), whether the choice of the variance is final."""
        return self._followed("var_fixed")

    def importance(self) -> tuple[Tensor, Tensor]:
        """As `SwitchNorm.importance`; a final choice has 1."""
        self._follow()
        found: tuple[Tensor, Tensor] = super().importance()  # type: ignore[misc]
        return found

    def _followed(self, name: str) -> Tensor:
        self._follow()
        buffer: Any = self.__getattr__(name)
        found: Tensor = buffer
        return found

    def _follow(self, again: bool = False) -> None:
        """As a copy, take over what belongs to the layer that is trained; `again` as in `Origin.follow`."""
        if torch.compiler.is_compiling() or self._origin is None:
            return
        logits = self._parameters.get("mean_weight")
        if logits is not None and logits.grad is not None:
            self._origin = None  # it was trained itself, by a compiled pass, which does not come by here
        else:
            self._origin.follow(self, again)

    def _leave(self) -> None:
        """As a copy, keep what it has now and follow nobody any more."""
        self._follow()
        self._origin = None

    def _lead(self) -> None:
        """Let copies follow now, for those who read their tensors past this class."""
        for each in list(self._copies or ()):
            each._follow()

    def _remember(self) -> None:
        """As a copy, count as unwritten from now on."""
        if self._origin is not None:
            self._origin.remember(self)

    @contextlib.contextmanager
    def _rewritten(self) -> Iterator[None]:
        """What is written inside, as by loading, makes no average of a copy, nor do copies follow it."""
        for each in list(self._copies or ()):
            each._follow()
            each._remember()
        yield
        self._remember()

    def _before_pass(self, x: Tensor) -> None:
        if self._origin is not None:
            self._follow(again=True)
            logits = self._parameters.get("mean_weight")
            if self.training and torch.is_grad_enabled() and logits is not None and logits.requires_grad:
                self._leave()  # it is trained itself
        super()._before_pass(x)  # type: ignore[misc]

    def _save_to_state_dict(self, *args: Any) -> None:
        self._follow()
        super()._save_to_state_dict(*args)

    def _load_from_state_dict(self, *args: Any) -> None:
        with self._rewritten():
            super()._load_from_state_dict(*args)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        self._follow()
        super()._apply(fn, recurse)
        self._remember()
        return self

    def __getstate__(self) -> dict[str, Any]:
        self._follow()
        origin = None if self._origin is None else self._origin.layer
        state = {name: value for name, value in super().__getstate__().items() if name != "_copies"}
        return state | {"_origin": Reference(self, origin)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        origin = getattr(state.get("_origin"), "layer", None)
        super().__setstate__({name: value for name, value in state.items() if name != "_origin"})
        if origin is not None and origin._buffers is not self._buffers:
            self._origin = Origin(origin, self)
            if origin._copies is None:
                origin._copies = weakref.WeakSet()
            origin._copies.add(self)
