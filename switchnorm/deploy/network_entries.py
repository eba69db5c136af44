"""Entries of a file that say which network it holds: a call of `create_model`, and switches after it. Needs no torch.

    name          as `create_model` knows it
    norm, norms, conv, num_classes    its arguments, where they are not its defaults
    options       the others by name, `statistics` and `momentum` among them
    switched      a list, where layers were switched by hand: {"norm": "sn", "options": {...}, "layers": [names]}
    plugins       modules whose import registers the network or its normalizers

All of it is plain data, so that a file of anybody can be loaded: nothing of it is imported, read or run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from switchnorm.errors import InputError, unknown

ENTRIES = ("name", "norm", "norms", "conv", "num_classes", "options", "switched", "plugins")
_SWITCH = ("norm", "options", "layers")
_MOST = 1 << 20


def check_network(network: Any, source: str) -> dict[str, Any]:
    """The entries of a network in a file that anybody may have written.

    Args:
        network: what the file has.
        source: what errors call the file.

    Raises:
        InputError: entries that are unknown or of another type, each named.
    """
    if not isinstance(network, Mapping):
        raise InputError(f"{source} describes no network; expected entries such as name, norm and num_classes")
    for entry in network:
        if entry not in ENTRIES:
            raise unknown(f"entry of the network in {source}", str(entry), ENTRIES)
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
    count = network.get("num_classes")
    if count is not None and not 0 < count <= _MOST:
        raise InputError(f"the network in {source} is damaged: num_classes is {count}, expected 1 to {_MOST}")
    taken = next((name for name in network.get("options") or {} if name in ENTRIES), None)
    if taken is not None:
        raise InputError(f"the network in {source} is damaged: {taken!r} is no option of a network")
    return dict(network)


def arguments_of(network: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `create_model`, name among them, in entries that were checked."""
    own = {name: network[name] for name in ("name", "norm", "norms", "num_classes") if network.get(name) is not None}
    return {**own, "conv": network.get("conv") or "", **tuples(network.get("options") or {})}


def tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as functions take them, with tuples where JSON has lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def is_data(value: Any) -> bool:
    """Whether a file of JSON can hold a value."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _check(
    network: Mapping[str, Any], entry: str, kind: type, expected: str, source: str, *, needed: bool = False
) -> None:
    value = network.get(entry)
    if (value is None and not needed) or (isinstance(value, kind) and not isinstance(value, bool)):
        return
    raise InputError(f"the network in {source} is damaged: {entry} is {value!r:.80}, expected {expected}")
