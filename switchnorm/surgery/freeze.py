"""Parts of a model that stay as they are while the rest is trained."""

from __future__ import annotations

from functools import partial

from torch import nn

from switchnorm.layers.arguments import check_model
from switchnorm.surgery.select import Choice, Selection


def freeze(model: nn.Module, include: Choice) -> list[str]:
    """Let parts of a model stay bit for bit what they are, in place: no gradient, and evaluation mode for good.

    Both are needed: without a gradient alone, layers still normalize by their batches and move their running
    statistics; in evaluation mode alone, scale, shift and convolutions are trained. `train()` does not bring frozen
    parts back into training mode, and `calibrate`, `set_radius`, `harden`, `unharden` and `SparseSchedule` pass over
    them; all of it holds for copies and pickles.

    Args:
        model: any model.
        include: which modules, each with all that is inside of it: a glob over their names ("body.layer1"), a sequence
            of globs, or a predicate of name and module.

    Returns:
        The names of the modules that were chosen.

    Raises:
        InputError: a pattern that matches no module.
    """
    check_model("freeze", model)
    named = [(name, module) for name, module in model.named_modules(remove_duplicate=False) if name]
    chosen = Selection(include, None, [name for name, _ in named], "module")
    found = [(name, module) for name, module in named if chosen.refusal([name], module) is None]
    for _, module in found:
        hold(module)
    return [name for name, _ in found]


def hold(module: nn.Module) -> None:
    """Freeze a module with all that is inside of it."""
    module.requires_grad_(False)
    for inner in module.modules():
        inner.training = False
        # Of this object and not of its class, whose other objects are trained.
        vars(inner)["train"] = partial(_stay, inner)


def is_frozen(module: nn.Module) -> bool:
    """Whether `freeze` was called on a module, or on one around it."""
    own = vars(module).get("train")
    return isinstance(own, partial) and own.func is _stay


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """What `train` of a frozen module is: evaluation mode, whatever is asked for."""
    return type(module).train(module, False)
