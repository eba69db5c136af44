"""By which name a network can be made again, and which switches it takes, see `switchnorm.deploy.network_entries`."""

from __future__ import annotations

import copy
import itertools
import json
import sys
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.deploy.rebuild import drafted
from switchnorm.errors import InputError
from switchnorm.layers import Norm, Spec, norm_of
from switchnorm.layers.made import made_by
from switchnorm.layers.registry import registered
from switchnorm.layers.weight_standardized import WS_CONV
from switchnorm.models import registry
from switchnorm.models.foreign import PREFIX
from switchnorm.models.made import made_as
from switchnorm.surgery.kinds import is_norm
from switchnorm.weights.recognise import class_count, recognise

#: What training alone asks of a layer, by the value that says nothing.
_TRAINING = {"ghost": None, "sync": False}
#: Among a layer's options while they are looked for: what is written as "gn:G".
_GROUPS = ":groups"


def network_of(model: nn.Module, name: str | None = None) -> dict[str, Any]:
    """The entries of a network that `switchnorm.deploy.rebuild.rebuilt` makes anew.

    Args:
        model: made by `create_model`, timm or torchvision, switched or not; its classifier may have another number of
            classes.
        name: of the network, for those that do not tell, as `create_model` knows it.

    Raises:
        InputError: what it makes by that name is not the same network, with the first difference; or no name is known.
    """
    wanted = plain(model)
    reasons = []
    for network in _candidates(model, name):
        try:
            network = _with_switches(network, wanted)
            made = drafted(network)
        except InputError as error:
            reasons.append(str(error))
            continue
        reason = difference(plain(made), wanted)
        if reason is None:
            return {**network, **_plugins(made)}
        reasons.append(f"{network['name']!r} {reason}")
    kind = type(model).__name__
    if not reasons:
        raise InputError(
            f"{kind} cannot be made again by a name: it is none of create_model's, torchvision's and timm's networks; "
            "say which it is by network=, or export it to a format that holds the whole network, such as onnx"
        )
    raise InputError(
        f"{kind} cannot be made again by its name: {reasons[0]}; make it by create_model, which remembers its options, "
        "or export it to a format that holds the whole network, such as onnx"
    )


def plain(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, without what training alone asks of layers."""
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if norm_of(module) is not None:
            for name, value in _TRAINING.items():
                if hasattr(module, name):
                    setattr(module, name, value)
    return model


def difference(made: nn.Module, wanted: nn.Module) -> str | None:
    """What the network that was made has in place of the one that is wanted, in words; None where they are alike.

    Compared are the modules, by name, class and what they print, and the names and shapes of their tensors.
    """
    ours, theirs = _modules(made), _modules(wanted)
    for path in (*theirs, *ours):
        one, other = ours.get(path), theirs.get(path)
        if one is None or other is None or type(one) is not type(other) or one.extra_repr() != other.extra_repr():
            return f"has {_shown(one)} as {path or 'the whole'}, and this network has {_shown(other)}"
    ours, theirs = made.state_dict(), wanted.state_dict()
    for key in (*theirs, *ours):
        one, other = ours.get(key), theirs.get(key)
        if one is None or other is None or getattr(one, "shape", None) != getattr(other, "shape", None):
            return f"has {_shape(one)} as {key}, and this network has {_shape(other)}"
    return None


def _modules(model: nn.Module) -> dict[str, nn.Module]:
    return dict(model.named_modules(remove_duplicate=False))


def _shown(module: nn.Module | None) -> str:
    return "nothing" if module is None else f"{type(module).__name__}({module.extra_repr()})"


def _shape(tensor: Any) -> str:
    shape = getattr(tensor, "shape", None)
    return "nothing" if tensor is None else type(tensor).__name__ if shape is None else str(tuple(shape))


def _candidates(model: nn.Module, name: str | None) -> Iterator[dict[str, Any]]:
    """Networks by name that the model may be, the likeliest first: as they are built, without switches."""
    state = model.state_dict()
    classes = _classes(model, state)
    made = made_as(model)
    if made is not None and name in (None, made["name"]):
        yield _told(made, classes)
        if name is None:
            return
    if name is not None:
        yield {"name": name, "num_classes": classes}
        return
    known = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    known = known if isinstance(known, Mapping) else vars(known) if hasattr(known, "__dict__") else {}
    if isinstance(known.get("architecture"), str):
        yield {"name": PREFIX + known["architecture"], "num_classes": classes}
    elif type(model).__module__.startswith("torchvision."):
        yield from ({"name": each, "num_classes": classes} for each in _torchvision(model, classes))
    else:
        found = recognise(state)
        if found is not None:
            yield {"name": found.network, "num_classes": found.num_classes}


def _classes(model: nn.Module, state: Mapping[str, Any]) -> int:
    """The number of logits: timm's networks say it, and others have as many rows."""
    said = getattr(model, "num_classes", None)
    return said if type(said) is int and said > 0 else class_count(state)


def _torchvision(model: nn.Module, classes: int) -> list[str]:
    """torchvision's networks of the model's class, the one with most of its convolutions first."""
    from torchvision.models import get_model_builder, list_models

    def shapes(network: nn.Module) -> set[tuple[str, tuple[int, ...]]]:
        return {(key, tuple(value.shape)) for key, value in network.state_dict().items() if value.dim() > 1}

    wanted = shapes(model)
    names = [n for n in list_models() if typing.get_type_hints(get_model_builder(n)).get("return") is type(model)]
    apart = {name: len(wanted ^ shapes(drafted({"name": name, "num_classes": classes}))) for name in names}
    nearest = min(apart.values(), default=0)
    return [name for name in names if apart[name] == nearest]


def _told(made: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """What a network remembers, as plain data.

    Raises:
        InputError: options that are none.
    """
    network = {entry: value for entry, value in made.items() if value not in (None, "", {})}
    for entry in ("norm", "norms"):
        if entry in network and not _is_plain(network[entry]):
            if isinstance(network[entry], Spec) and network[entry].make is None:
                network[entry] = str(network[entry])
            else:  # a class or function of the user's: the layers that it made are looked at one by one
                del network[entry]
    for option, value in (network.get("options") or {}).items():
        if not _is_plain(value):
            raise InputError(
                f"option {option!r} of {made['name']!r} is {value!r:.80}, which no file can hold; give numbers, words "
                "or lists of these"
            )
    if network.get("num_classes") is None:
        network["num_classes"] = classes
    return network


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _with_switches(network: dict[str, Any], wanted: nn.Module) -> dict[str, Any]:
    """The network with the switches that make its normalizations, and convolutions, those of the wanted one."""
    made = plain(drafted(network))
    if difference(made, wanted) is None:
        return network
    asked: dict[str, dict[str, Any]] = {path: {} for path in _switched(made, wanted)}
    for _ in range(2):  # a switch carries settings over from the layer before, so that only the result tells them
        groups = _groups(wanted, asked)
        tried = {**network, "switched": groups}
        ours, theirs = _modules(plain(drafted(tried))), _modules(wanted)
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
    ours, theirs = _modules(made), _modules(wanted)
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
    modules = _modules(wanted)
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
        if name not in _TRAINING and other is not None and one != other and _is_plain(other):
            found[name] = (
                float(other) if isinstance(other, float) else list(other) if isinstance(other, tuple) else other
            )
    return found


def _groups_of(layer: Any) -> int | None:
    return next((getattr(layer, name) for name in ("num_groups", "groups") if hasattr(layer, name)), None)


def _plugins(model: nn.Module) -> dict[str, list[str]]:
    """The modules, none of this library's, that registered the network or its normalizers."""
    made = made_as(model)
    families = [f for f in registry.FAMILIES if made is not None and f.numbers(made["name"]) is not None]
    norms = [norm for module in model.modules() if (norm := norm_of(module)) is not None]
    makers = [f.build for f in families] + list(itertools.chain.from_iterable(norm.layers.values() for norm in norms))
    names = {str(getattr(maker, "__module__", "")) for maker in makers}
    own = {name for name in names if name.partition(".")[0] not in ("switchnorm", "torch", "functools")}
    found = sorted(name for name in own if name in sys.modules)
    return {"plugins": found} if found else {}
