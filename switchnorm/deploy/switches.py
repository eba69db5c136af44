"""Which switches make the layers of one network those of another, see `switchnorm.deploy.network_entries`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.deploy.likeness import TRAINING, difference, modules_of, plain
from switchnorm.deploy.network_entries import is_data
from switchnorm.deploy.rebuild import drafted
from switchnorm.errors import InputError
from switchnorm.layers import Norm, norm_of
from switchnorm.layers.made import made_by
from switchnorm.layers.registry import registered
from switchnorm.layers.weight_standardized import WS_CONV
from switchnorm.surgery.kinds import is_norm

#: Among a layer's options while they are looked for: what is written as "gn:G".
_GROUPS = ":groups"


def with_switches(network: dict[str, Any], wanted: nn.Module) -> dict[str, Any]:
    """The network with the switches that make its normalizations, and convolutions, those of the wanted one."""
    made = plain(drafted(network))
    if difference(made, wanted) is None:
        return network
    asked: dict[str, dict[str, Any]] = {path: {} for path in _switched(made, wanted)}
    for _ in range(2):  # a switch carries settings over from the layer before, so that only the result tells them
        groups = _groups(wanted, asked)
        tried = {**network, "switched": groups}
        ours, theirs = modules_of(plain(drafted(tried))), modules_of(wanted)
        for path, options in asked.items():
            if path in ours and path in theirs:
                options.update(_options(ours[path], theirs[path]))
    if len(groups) == 1 and not groups[0]["options"] and _alone(network, groups[0]["norm"], wanted):
        return {**network, "norm": groups[0]["norm"]}
    return tried


def _alone(network: Mapping[str, Any], norm: str, wanted: nn.Module) -> bool:
    """Whether the norm's name says all, as an argument of `create_model`."""
    try:
        return difference(plain(drafted({**network, "norm": norm})), wanted) is None
    except InputError:
        return False


def _switched(made: nn.Module, wanted: nn.Module) -> list[str]:
    """The names of normalizations and convolutions that are of another class, or print otherwise."""
    ours, theirs = modules_of(made), modules_of(wanted)
    found = []
    for path, module in theirs.items():
        one = ours.get(path)
        if one is None or not (norm_of(module) is not None or isinstance(module, tuple(WS_CONV.values()))):
            continue
        if not (is_norm(one) or isinstance(one, _ConvNd)):
            continue
        if type(one) is not type(module) or one.extra_repr() != module.extra_repr():
            found.append(path)
    return found


def _groups(wanted: nn.Module, asked: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Switches, each with the layers that take it, for options by layer."""
    modules = modules_of(wanted)
    standardized = [path for path in asked if isinstance(modules[path], _ConvNd)]
    found: dict[str, dict[str, Any]] = {}
    for path, options in asked.items():
        norm = _normalizer(modules[path])
        if norm is None:
            continue
        options = dict(options)
        groups = f":{options.pop(_GROUPS)}" if _GROUPS in options else ""
        each = {"norm": f"{norm.name}{groups}{'+ws' if standardized else ''}", "options": options}
        found.setdefault(json.dumps(each, sort_keys=True), {**each, "layers": []})["layers"].append(path)
    switches = list(found.values())
    if standardized and switches:  # whichever comes first sees every normalization that they feed
        switches[0]["layers"] += standardized
        for other in switches[1:]:
            other["norm"] = other["norm"].removesuffix("+ws")
    return switches


def _normalizer(layer: nn.Module) -> Norm | None:
    """The normalizer that made a layer; its class alone tells "gn", "in" and "ln" not apart."""
    made = made_by(layer)
    known = None if made is None or made.norm is None else registered(made.norm)
    return known or norm_of(layer)


def _options(made: nn.Module, wanted: nn.Module) -> dict[str, Any]:
    """The options of a layer that differ from the layer that was made."""
    norm = _normalizer(wanted)
    if norm is None or type(made) is not type(wanted):
        return {}
    dims = norm.dims_of(type(wanted)) or min(norm.layers, key=lambda known: abs(known - 2))
    found: dict[str, Any] = {}
    if norm.groups and (groups := _groups_of(wanted)) is not None and groups != _groups_of(made):
        found[_GROUPS] = groups
    for name in norm.options(dims).names:
        one, other = getattr(made, name, None), getattr(wanted, name, None)
        if name not in TRAINING and other is not None and one != other and is_data(other):
            found[name] = (
                float(other) if isinstance(other, float) else list(other) if isinstance(other, tuple) else other
            )
    return found


def _groups_of(layer: Any) -> int | None:
    return next((getattr(layer, name) for name in ("num_groups", "groups") if hasattr(layer, name)), None)
