"""Making a network again by the entries of a file, see `switchnorm.deploy.network_entries`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from switchnorm.deploy.network_entries import arguments_of, check_network, tuples
from switchnorm.errors import InputError, unknown

if TYPE_CHECKING:
    from torch import Tensor, nn


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
        arguments = arguments_of(check_network(network, source))
        switched = network.get("switched") or ()
        if state is not None:
            _check_fits(_drafted(arguments, switched), state)
        model = _made(arguments, switched)
    if state is not None and any(value.is_floating_point() and value.element_size() == 8 for value in state.values()):
        model = model.double()
    return model.eval()


def drafted(network: Mapping[str, Any], source: str = "network") -> nn.Module:
    """As `rebuilt`, but without memory for its tensors, where the network can be made so: they are shapes alone."""
    import torch

    with _explained(network, source), torch.random.fork_rng(devices=[]):
        arguments = arguments_of(check_network(network, source))
        return _drafted(arguments, network.get("switched") or ())


def _drafted(arguments: Mapping[str, Any], switched: Any) -> nn.Module:
    import torch

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
        chosen, options = frozenset(each["layers"]), tuples(each.get("options") or {})
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
