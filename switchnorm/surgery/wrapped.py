"""Parts of a model that know its parameters already, so that new ones would be trained without them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

# By name, for most are of libraries that need not be installed. DataParallel and torch.compile's modules are none of
# them: these look at the model anew in every call.
_WRAPPERS = {
    "DistributedDataParallel": "DDP",
    "FullyShardedDataParallel": "FSDP",
    "FSDPModule": "fully_shard",
    "DeepSpeedEngine": "DeepSpeed",
    "ShardedDataParallel": "FairScale",
}


def wrapped_refusal(model: nn.Module, changed: Iterable[nn.Module]) -> str | None:
    """Why layers must not change any more, and what to do; None where they may.

    Args:
        model: any model.
        changed: those of its layers that are to change.
    """
    changed = set(changed)
    for name, module in model.named_modules():
        wrapper = wrapper_of(module)
        if wrapper is not None and not changed.isdisjoint(module.modules()):
            what = f"part {name!r} of the model" if name else "the model"
            return (
                f"{what} is wrapped by {wrapper}, which would not train the new parameters; switch the model before it "
                "is wrapped"
            )
    for module in changed:
        if any(cls.__name__ == "DTensor" for p in module.parameters() for cls in type(p).__mro__):
            return f"{type(module).__name__} has sharded parameters (DTensor); switch the model before it is sharded"
    return None


def wrapper_of(module: nn.Module) -> str | None:
    """What a module is that spreads another over processes, or trains it; None for all other modules."""
    names = [cls.__name__ for cls in type(module).__mro__]
    return next((_WRAPPERS[name] for name in names if name in _WRAPPERS), None)
