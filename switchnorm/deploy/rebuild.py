"""Networks as entries of a file: the call of `create_model` that makes one, and the switches after it.

    name          as `create_model` knows it
    norm, norms, conv, num_classes    its arguments, where they are not its defaults
    options       the others by name, `statistics` and `momentum` among them
    switched      a list, where layers were switched by hand: {"norm": "sn", "options": {...}, "layers": [names]}
    plugins       modules whose import registers the network or its normalizers

All of it is plain data, so that a file of anybody can be loaded: nothing of it is imported, read or run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from switchnorm.errors import InputError, unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

ENTRIES = ("name", "norm", "norms", "conv", "num_classes", "options", "switched", "plugins")
_SWITCH = ("norm", "options", "layers")


def rebuilt(
    network: Mapping[str, Any], state: Mapping[str, Tensor] | None = None, source: str = "network"
) -> nn.Module:
    """A freshly initialised network, in evaluation mode; torch's random numbers go on as if it had not been made.

    Args:
        network: its entries, see above; of a stranger's file.
        state: what it is to be given, which tells of a network that it does not fit before that takes memory.
        source: what errors call the file.

    Raises:
        InputError: entries that make no network, that need a plugin which was not imported, or that make a network of
            other tensors than `state` has.
    """
    import torch

    with _explained(network, source), torch.random.fork_rng(devices=[]):
        arguments = _checked(network, source)
        if state is not None:
            _check_fits(drafted(network, source), state)
        model = _made(arguments, network.get("switched") or ())
    if state is not None and any(value.is_floating_point() and value.element_size() == 8 for value in state.values()):
        model = model.double()
    return model.eval()


def drafted(network: Mapping[str, Any], source: str = "network") -> nn.Module:
    """As `rebuilt`, but without memory for its tensors, where the network can be made so: they are shapes alone."""
    import torch

    with _explained(network, source), torch.random.fork_rng(devices=[]):
        arguments = _checked(network, source)
        switched = network.get("switched") or ()
        try:
            with torch.device("meta"):
                return _made(arguments, switched).eval()
        except InputError:
            raise
        except Exception:  # some networks compute with their weights as they are made
            return _made(arguments, switched).eval()


@contextmanager
def _explained(network: Any, source: str) -> Iterator[None]:
    """Say of an `InputError` which file is meant, and which plugin may be missing."""
    try:
        yield
    except InputError as error:
        named = network.get("plugins") if isinstance(network, Mapping) else None
        names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
        missing = [name for name in names if name not in sys.modules]
        if missing:
            hint = f"{source} needs {', '.join(missing)}, to be imported first (--plugins)"
            raise InputError(f"{hint}: {error}") from error
        raise InputError(f"{source} holds a network that cannot be made: {error}") from error


def _made(arguments: Mapping[str, Any], switched: Any) -> nn.Module:
    from switchnorm.models import create_model
    from switchnorm.surgery import plan_switch

    model = create_model(**arguments)
    for each in switched:
        chosen, options = frozenset(each["layers"]), _tuples(each.get("options") or {})
        names = {name for name, _ in model.named_modules(remove_duplicate=False)}
        missing = sorted(chosen - names)
        if missing:
            raise unknown(f"layer of {arguments['name']!r}", missing[0], names)
        plan = plan_switch(model, each["norm"], start="equal", include=lambda n, _, c=chosen: n in c, **options)
        model = plan.apply()
    return model


def _check_fits(draft: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raise `InputError` where a network has other tensors."""
    expected = {key: value.shape for key, value in draft.state_dict().items()}
    for key in (*expected, *state):
        if key not in expected or key not in state or expected[key].numel() != state[key].numel():
            there = tuple(state[key].shape) if key in state else "nothing"
            wanted = tuple(expected[key]) if key in expected else "nothing"
            raise InputError(f"it has {wanted} as {key}, and the file has {there}")


def _tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as functions take them, with tuples where JSON has lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def _checked(network: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The arguments of `create_model`; raises `InputError` for entries of other types."""
    if not isinstance(network, Mapping):
        raise InputError(f"{source} describes no network; expected entries such as name, norm and num_classes")
    for entry in network:
        if entry not in ENTRIES:
            raise unknown(f"entry of the network in {source}", entry, ENTRIES)
    _check(network, "name", str, "the name of a network", source, needed=True)
    _check(network, "norm", str, "the name of a normalizer", source)
    _check(network, "conv", str, "'ws' or nothing", source)
    _check(network, "num_classes", int, "a whole number", source)
    _check(network, "norms", Mapping, "names of normalizers by part", source)
    _check(network, "options", Mapping, "options by name", source)
    _check(network, "plugins", list, "names of modules", source)
    _check(network, "switched", list, "a list of switches", source)
    texts = [*(network.get("norms") or {}).values(), *(network.get("plugins") or ())]
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"the network in {source} is damaged: norms and plugins are names")
    for each in network.get("switched") or ():
        fits = isinstance(each, Mapping) and set(each) <= set(_SWITCH) and isinstance(each.get("norm"), str)
        names = each.get("layers") if fits else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"the network in {source} is damaged: a switch has norm, options and the names of layers")
        _check(each, "options", Mapping, "options by name", source)
    options = _tuples(network.get("options") or {})
    taken = next((name for name in options if name in ENTRIES), None)
    if taken is not None:
        raise InputError(f"the network in {source} is damaged: {taken!r} is no option of a network")
    own = {name: network[name] for name in ("name", "norm", "norms", "num_classes") if network.get(name) is not None}
    return {**own, "conv": network.get("conv") or "", **options}


def _check(
    network: Mapping[str, Any], entry: str, kind: type, expected: str, source: str, *, needed: bool = False
) -> None:
    value = network.get(entry)
    if (value is None and not needed) or (isinstance(value, kind) and not isinstance(value, bool)):
        return
    raise InputError(f"the network in {source} is damaged: {entry} is {value!r:.80}, expected {expected}")
