"""torch's optimizers by one name, and the options that each takes."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, get_args

import torch
from torch.optim import Optimizer

from switchnorm.config.ranges import Range
from switchnorm.config.schema import OptimizerConfig
from switchnorm.errors import InputError, unknown

#: What of torch.optim trains no network of this library, why, and what comes nearest.
_UNFIT = {
    "lbfgs": ("evaluates the loss several times in a step", "sgd"),
    "sparseadam": ("takes sparse gradients alone", "adam"),
    "muon": ("takes matrices alone", "adamw"),
}
#: Arguments that have a key of their own.
_KEYS = ("lr", "weight_decay", "momentum", "nesterov")
#: What options are numbers of, and those that torch takes out of range.
_NUMBERS = Range(-1e6, most=1e6)
_RANGES = {"dampening": Range(0, most=1), "alpha": Range(0, below=1)}
#: Arguments that the run decides on.
_DECIDED = ("params", "fused", "capturable", "differentiable")


def optimizers() -> dict[str, type[Optimizer]]:
    """The optimizers of the installed torch that train networks, by their class's name in lower case."""
    found = {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer
    }
    return {name: kind for name, kind in sorted(found.items()) if name not in _UNFIT}


def optimizer_of(settings: OptimizerConfig) -> partial[Optimizer]:
    """The constructor that a configuration names, with all arguments but the parameters.

    Raises:
        InputError: an optimizer or option that is unknown, with the nearest one, or a value that it refuses.
    """
    kind: Any = _kind(settings.name)
    name = settings.name
    takes = inspect.signature(kind).parameters
    options = [key for key in takes if key not in (*_KEYS, *_DECIDED)]
    for key, value in settings.options.items():
        if key in _KEYS:
            raise InputError(f"optimizer.options.{key} is a key of its own, optimizer.{key}")
        if key not in options:
            raise unknown(f"option of {name}", key, options)
        _check(key, value, takes[key])
    given = {key: getattr(settings, key) for key in ("momentum", "nesterov") if key in takes}
    arguments = {**settings.options, **{key: value for key, value in given.items() if value is not None}}
    made = partial(kind, lr=settings.lr, **arguments)
    try:
        made([torch.zeros(1, requires_grad=True)])
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"optimizer {name!r}: {str(error).partition(chr(10))[0]}") from error
    return made


def idle_keys(settings: OptimizerConfig) -> list[str]:
    """The keys of the optimizer that are set and that this one does not take."""
    takes = inspect.signature(_kind(settings.name)).parameters
    given = {"momentum": settings.momentum is not None, "nesterov": settings.nesterov is not None}
    given["weight_decay"] = settings.weight_decay > 0
    return [f"optimizer.{key}" for key, is_set in given.items() if is_set and key not in takes]


def _kind(name: str) -> type[Optimizer]:
    if name in _UNFIT:
        reason, nearest = _UNFIT[name]
        raise InputError(f"optimizer {name!r} {reason}; the nearest is {nearest!r}")
    known = optimizers()
    if name not in known:
        raise unknown("optimizer", name, known)
    return known[name]


def _check(name: str, value: Any, parameter: inspect.Parameter) -> None:
    """Raise `InputError` for a value of another kind than the default, or one that no optimizer can mean.

    torch itself looks at ranges alone, and at few of their upper ends.
    """
    key, default = f"optimizer.options.{name}", parameter.default
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, int | float):
            _RANGES.get(name, _NUMBERS).check(key, number)
    if bool in get_args(parameter.annotation) and value is None:
        return
    if isinstance(default, bool) or bool in get_args(parameter.annotation):
        if not isinstance(value, bool):
            raise InputError(f"{key} must be true or false, got {value!r}")
    elif isinstance(default, tuple):
        if not isinstance(value, list) or len(value) != len(default) or not all(map(_fits, value, default)):
            raise InputError(f"{key} must be {len(default)} numbers such as {list(default)}, got {value!r}")
    elif isinstance(default, int | float) and not _fits(value, default):
        raise InputError(f"{key} must be a number such as {default:g}, got {value!r}")


def _fits(value: Any, default: float | None) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number or (value is None and default is None)
