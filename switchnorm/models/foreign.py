"""Networks of torchvision and timm, their normalization switched."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from switchnorm.errors import InputError, not_installed, unknown
from switchnorm.layers import Spec
from switchnorm.models.detection import foreign as detectors
from switchnorm.models.detection.build import HEADS
from switchnorm.models.options import SHARED, explained
from switchnorm.models.segmentation import timm_encoder
from switchnorm.models.segmentation.timm_encoder import Parts, decoder_options, parts
from switchnorm.surgery import plan_switch

PREFIX = "timm:"

#: The names of torchvision's networks for segmentation, told without importing torchvision, which takes seconds.
_SEGMENTATION = re.compile(r"(fcn|deeplabv3|lraspp)_\w+")
#: What a name has that is one of a detector with a feature pyramid, but for its heads.
_PYRAMID = re.compile(r".+_fpn\d*\+(.+)")
#: What a name has that is one of a detector whose head is a stage of its body.
_LAST_STAGE = re.compile(r"(.+)_c4\+.+")
#: Options that would read weights from somewhere.
_WEIGHTS = ("weights", "weights_backbone", "progress", "checkpoint_path", "cache_dir")
#: Options after which a network gives something else than logits.
_NO_LOGITS = ("features_only",)
#: Options that the name of an encoder with a decoder decides.
_BY_NAME = ("out_indices", "feature_cls", "output_stride")
#: Options with which transformers of timm take pictures of any size, where they have them.
_ANY_SIZE = {"dynamic_img_size": True, "strict_img_size": False}


@dataclass(frozen=True)
class Source:
    """A library of networks.

    Attributes:
        names: what `create_model` calls them, as far as they are listed.
        check: raises `InputError` for a name that is none, though others than the listed ones may be known; it
            suggests one of these, or of the names that it is given besides.
        builder: the library's own function that makes the network of such a name, with weights at random.
        arguments: what that function is given besides the user's options.
    """

    names: Callable[[], list[str]]
    check: Callable[[str, list[str]], None]
    builder: Callable[[str], Callable[..., nn.Module]]
    arguments: Callable[[str], dict[str, Any]]


def source_of(name: str) -> Source:
    """The library that a name, or a pattern of names, belongs to."""
    return TIMM if name.startswith(PREFIX) else TORCHVISION


def detects(name: str) -> bool:
    """Whether a name is that of a network for detection; which of them there are is not looked up."""
    return detectors.NAMES.fullmatch(name) is not None


def segments(name: str) -> bool:
    """Whether a name is that of a network for segmentation; which of them there are is not looked up."""
    return _SEGMENTATION.fullmatch(name) is not None or parts(name) is not None


def create(source: Source, name: str, spec: Spec | None, num_classes: int | None, options: dict[str, Any]) -> nn.Module:
    """A freshly initialised network of others.

    Args:
        source: where it comes from.
        name: among the source's names.
        spec: what its normalization is switched to, where it has one; None leaves it.
        num_classes: the number of logits; None for what it was made for.
        options: of its builder.

    Raises:
        InputError: options that the builder does not take, would read weights or give no logits.
    """
    for option in options:
        if option.startswith("pretrained") or option in _WEIGHTS:
            raise InputError(
                f"model {name!r} starts at random, without {option!r}; load a file with load_published, "
                "or start a run from one with --train.warm_start FILE"
            )
        if option in _NO_LOGITS:
            raise InputError(f"model {name!r} gives logits, so that {option!r} is not an option; leave it out")
    options = _with_channels(source, name, options)
    found = parts(name)
    if found is not None:
        return _encoder_decoder(found, spec, num_classes, options)
    arguments = source.arguments(name) | ({} if num_classes is None else {"num_classes": num_classes})
    builder = source.builder(name)
    _check_options(name, builder, arguments, options)
    with explained(name, options, lambda: _plain_options(builder)):
        model = builder(**(arguments | options))
    return model if spec is None else plan_switch(model, spec, start="equal").apply()


def _with_channels(source: Source, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options, with `in_channels`, as this library's own networks call it, in the source's words."""
    if "in_channels" not in options:
        return options
    if source is TORCHVISION:
        raise InputError(
            f"model {name!r} takes pictures of 3 channels, as all of torchvision do; take three bands, or a network of "
            "timm's"
        )
    return {"in_chans" if option == "in_channels" else option: value for option, value in options.items()}


def _encoder_decoder(name: Parts, spec: Spec | None, num_classes: int | None, options: dict[str, Any]) -> nn.Module:
    """A network of timm as the encoder of one of this library's decoders; arguments as of `create`."""
    for option in options:
        if option in _BY_NAME:
            raise InputError(f"option {option!r} of {name.encoder!r} is what the network's name says; leave it out")
    own = decoder_options(name, options)
    builder = TIMM.builder(name.encoder)
    arguments = _features(name.encoder)
    given = {option: value for option, value in options.items() if option not in own}
    _check_options(name.encoder, builder, arguments, given)
    arguments = {option: value for option, value in arguments.items() if option not in given}
    return timm_encoder.build(name, functools.partial(builder, **arguments), spec, num_classes, options)


def features(name: str) -> Callable[..., nn.Module]:
    """What makes the network "timm:NAME" without its classifier, of any size of pictures, from timm's own options.

    Raises:
        InputError: an unknown network; timm is not installed.
    """
    TIMM.check(name, [])
    return functools.partial(TIMM.builder(name), **_features(name))


def _features(name: str) -> dict[str, Any]:
    """What timm's builder is given where a network is to give maps of pictures of any size."""
    network = _network(TIMM.builder(name))
    any_size = {option: value for option, value in _ANY_SIZE.items() if option in network}
    return {**TIMM.arguments(name), **any_size, "features_only": True}


def _check_options(
    name: str, builder: Callable[..., nn.Module], arguments: dict[str, Any], options: dict[str, Any]
) -> None:
    """Raise `InputError` for an option that a builder would take without using it."""
    network = _network(builder)
    if not options or (network and not any(p.kind is p.VAR_KEYWORD for p in network.values())):
        return  # Python itself refuses what such a network does not know.
    try:
        builder(**arguments, no_network_has_this_option=0)
    except Exception:  # The builder itself refuses options that it does not know.
        return
    for option in options:
        if option not in network:
            raise unknown(f"option of {name!r}", option, _plain_options(builder) or SHARED)


def _network(builder: Callable[..., nn.Module]) -> dict[str, inspect.Parameter]:
    """The parameters of the network that a builder says it returns; none where it does not say."""
    network = typing.get_type_hints(builder).get("return")
    return dict(inspect.signature(network).parameters) if inspect.isclass(network) else {}


def _plain_options(builder: Callable[..., nn.Module]) -> list[str]:
    """The options of a builder's network whose values are plain, to choose from; none where it does not say."""
    parameters = _network(builder).values()
    plain = [p.name for p in parameters if isinstance(p.default, (bool, int, float, str)) and p.name != "num_classes"]
    return [*plain, *SHARED] if plain else []


def _check_torchvision(name: str, others: list[str]) -> None:
    if name in detectors.REFUSED:
        raise InputError(f"model {name!r} {detectors.REFUSED[name]}")
    if name not in _torchvision_names():
        raise unknown("model", name, [*others, *_torchvision_names()])


@functools.cache
def _torchvision_names() -> list[str]:
    try:
        import torchvision.models  # It takes seconds, and most networks do without it.
    except ModuleNotFoundError:
        raise not_installed(("torchvision",), "networks of torchvision, and the list of all,") from None

    modules = (torchvision.models, torchvision.models.segmentation, torchvision.models.detection)
    names = [name for module in modules for name in torchvision.models.list_models(module=module)]
    return [name for name in names if name not in detectors.REFUSED]


def _torchvision_builder(name: str) -> Callable[..., nn.Module]:
    if segments(name):
        from switchnorm.models.segmentation.foreign import build

        return lambda **options: build(name, **options)
    if detects(name):
        return lambda **options: detectors.build(name, **options)
    from torchvision.models import get_model_builder

    builder: Callable[..., nn.Module] = get_model_builder(name)
    return builder


def _torchvision_arguments(name: str) -> dict[str, Any]:
    if segments(name) or detects(name):
        return {}
    # In training these two would return the logits of auxiliary classifiers as well, in a tuple of their own kind.
    auxiliary = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return {"weights": None, **auxiliary}


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise InputError(
            "networks named 'timm:NAME' need timm, which is not installed; run `pip install timm`"
        ) from None
    return timm


@functools.cache
def _timm_names() -> list[str]:
    return [PREFIX + name for name in _timm().list_models()]


def _check_timm(name: str, others: list[str]) -> None:
    found = parts(name)
    if found is not None:
        pyramid = _PYRAMID.fullmatch(name)
        if pyramid is not None:
            raise unknown("heads", pyramid[1], HEADS)
        staged = _LAST_STAGE.fullmatch(name)
        if staged is not None:
            raise InputError(
                f"model {name!r} is impossible, for networks of timm are bodies of pyramids alone; the nearest is "
                f"'{staged[1]}_fpn+faster_2fc'"
            )
        timm_encoder.check(found)
        name = found.encoder
    plain, dot, tag = name.partition(".")
    if plain not in _timm_names():
        raise unknown("model", name, [*others, *_timm_names()])
    if dot:
        tags = _timm().list_models(f"{plain.removeprefix(PREFIX)}.*", include_tags=True)
        if name.removeprefix(PREFIX) not in tags:
            raise unknown("weights", tag, [known.partition(".")[2] for known in tags])


def _timm_builder(name: str) -> Callable[..., nn.Module]:
    builder: Callable[..., nn.Module] = _timm().model_entrypoint(name.removeprefix(PREFIX).partition(".")[0])
    return builder


def _timm_arguments(name: str) -> dict[str, Any]:
    _, dot, tag = name.partition(".")
    return {"pretrained": False, **({"pretrained_cfg": tag} if dot else {})}


TORCHVISION = Source(_torchvision_names, _check_torchvision, _torchvision_builder, _torchvision_arguments)
TIMM = Source(_timm_names, _check_timm, _timm_builder, _timm_arguments)
