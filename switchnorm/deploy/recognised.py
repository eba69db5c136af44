"""By which name a network can be made again, and which switches it takes, see `switchnorm.deploy.network_entries`."""

from __future__ import annotations

import itertools
import sys
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from switchnorm.deploy.likeness import difference, plain
from switchnorm.deploy.network_entries import is_data
from switchnorm.deploy.rebuild import drafted
from switchnorm.deploy.switches import with_switches
from switchnorm.errors import InputError
from switchnorm.layers import Spec, norm_of
from switchnorm.models import registry
from switchnorm.models.foreign import PREFIX
from switchnorm.models.made import made_as
from switchnorm.weights.recognise import class_count, recognise


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
            network = with_switches(network, wanted)
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
        if entry in network and not is_data(network[entry]):
            if isinstance(network[entry], Spec) and network[entry].make is None:
                network[entry] = str(network[entry])
            else:  # a class or function of the user's: the layers that it made are looked at one by one
                del network[entry]
    for option, value in (network.get("options") or {}).items():
        if not is_data(value):
            raise InputError(
                f"option {option!r} of {made['name']!r} is {value!r:.80}, which no file can hold; give numbers, words "
                "or lists of these"
            )
    if network.get("num_classes") is None:
        network["num_classes"] = classes
    return network


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
