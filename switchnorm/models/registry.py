"""Networks by name."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torch import nn

from switchnorm import layers
from switchnorm.errors import InputError, unknown
from switchnorm.layers import NormLike, Spec
from switchnorm.layers.arguments import check_momentum
from switchnorm.models import cifar, detection, foreign, imagenet, segmentation
from switchnorm.models.family import Family
from switchnorm.models.made import mark
from switchnorm.models.options import SHARED, explained
from switchnorm.models.pictures import Pictures, expected
from switchnorm.surgery import set_momentum
from switchnorm.surgery.kinds import is_norm

#: All families, those of this library first.
FAMILIES: list[Family] = [*cifar.FAMILIES, *imagenet.FAMILIES, *segmentation.FAMILIES, *detection.FAMILIES]

#: In `norms`, a part without a normalization.
NONE = "none"

# The momentum that is not given: layers keep theirs, where None is a momentum.
_AS_BUILT: Any = object()


def register(family: Family) -> Family:
    """Make networks known by name: to `create_model`, recipes and commands.

    Raises:
        InputError: no family, one without names, a norm that is unknown, an option that every network has, a name that
            the pattern does not match, or one that other networks answer to.
    """
    if not isinstance(family, Family):
        raise InputError(f"register takes a Family, got {type(family).__name__}")
    if not family.names or not callable(family.build):
        raise InputError(f"family {family.pattern!r} needs the names of some networks, and a function that builds them")
    if family.norm is not None:
        Spec.parse(family.norm)
    taken = next((option for option in family.options() if option in ("conv", *SHARED)), None)
    if taken is not None:
        raise InputError(f"family {family.pattern!r} has an option {taken!r}, which every network has; rename it")
    for name in family.names:
        if family.numbers(name) is None:
            raise InputError(f"model {name!r} is listed, but the pattern {family.pattern!r} does not match it")
        if any(other.numbers(name) is not None for other in FAMILIES) or name in foreign.TORCHVISION.names():
            raise InputError(f"model {name!r} exists already; choose another name")
    FAMILIES.append(family)
    return family


def create_model(
    name: str,
    *,
    norm: NormLike | None = None,
    norms: Mapping[str, NormLike] | None = None,
    conv: str = "",
    num_classes: int | None = None,
    statistics: Sequence[str] | str | None = None,
    tied: bool = False,
    momentum: float | None = _AS_BUILT,
    **options: Any,
) -> nn.Module:
    """A freshly initialised network, in training mode.

    From pictures (N, C, H, W) networks for classification make logits (N, num_classes). Those for segmentation, such as
    "resnet50_dilated8+ppm_bilinear_deepsup", make {"out": logits (N, num_classes, h, w)} at a size of their own, and in
    training with deep supervision also "aux", the logits of that branch. Those for detection, such as
    "resnet50_fpn+faster_2fc", are called as torchvision's, see `switchnorm.models.detection.TwoStage`.

    Args:
        name: one of `list_models()`, or "timm:NAME" for any network of timm.
        norm: a name of `switchnorm.layers.norm_names()`, such as "sn" or "gn:16", with "+ws" for weight-standardized
            convolutions; or a class or function of the channels that makes layers. None takes what the name says
            ("resnetv1sn50": SN) or else Batch Norm, and leaves networks of torchvision and timm as their authors built
            them.
        norms: of parts of a network for detection, as {"body": "bn", "box": "sn"}, in place of `norm`: "body", "neck",
            "box" and "mask", as far as it has them with a normalization. "none" is for convolutions with a bias and
            no normalization, in all parts but the body.
        conv: "ws" means the same as "+ws" behind the norm; "" leaves convolutions to the norm.
        num_classes: the number of logits; None for what the network was made for, 1000 for ImageNet, 10 for CIFAR, 150
            for segmentation (ADE20K). For detection the classes of objects, without background; None for the 80 of
            COCO.
        statistics: what SN and SSN mix, as names or as one string with commas between them; "instance,layer" is what
            the papers train at one sample per GPU. None for instance, layer and batch.
        tied: whether mean and variance of an SSN layer choose alike, so that more of it is folded away for inference.
        momentum: of running statistics, in all layers that keep some: the share of the new batch, in [0, 1], or None
            for the average over all batches; as the layers were made where it is not given. Without effect in a network
            that keeps none, as `switchnorm.set_momentum` tells.
        options: what else the network takes, such as `dropout`.

    Raises:
        InputError: an unknown name, norm, conv or option, with the nearest valid one; a norm for a network without a
            normalization; an option's value that makes no network; a momentum out of its range, or for layers that have
            none; timm where it is not installed.
    """
    if num_classes is not None and (not isinstance(num_classes, int) or num_classes < 1):
        raise InputError(f"num_classes {num_classes} is impossible; the nearest valid number is 1")
    if momentum is not _AS_BUILT:
        check_momentum(momentum)
    made: list[nn.Module] = []
    spec = None if norm is None else _recording(Spec.of(norm), made)
    if norms is not None and not isinstance(norms, Mapping):
        raise InputError(f"norms {norms!r} must name parts, as {{'body': 'bn', 'box': 'sn'}}; for all parts give norm")
    parts = {part: _part_norm(each) for part, each in (norms or {}).items()}
    parts = {part: None if each is None else _recording(each, made) for part, each in parts.items()}
    mixed = _Mixed(statistics, tied)
    model = _build(name, spec, parts, conv, num_classes, mixed, options)
    switched = made or any(layers.norm_of(module) is not None for module in model.modules())
    if (norm is not None or conv) and not switched:
        kinds = sorted({type(module).__name__ for module in model.modules() if is_norm(module)})
        has = f"no normalization that switches, only {', '.join(kinds)}" if kinds else "no normalization"
        raise InputError(f"model {name!r} has {has}; leave norm and conv out")
    told: dict[str, Any] = {} if statistics is None else {"statistics": statistics}
    if tied:
        told["tied"] = True
    if momentum is not _AS_BUILT:
        set_momentum(model, momentum)
        told["momentum"] = momentum
    arguments = {"norm": norm, "norms": dict(norms or {}), "conv": conv, "num_classes": num_classes}
    mark(model, name, **arguments, options={**options, **told})
    return model


class _Mixed(NamedTuple):
    """What layers mix, and whether mean and variance choose alike."""

    statistics: Sequence[str] | str | None
    tied: bool

    @property
    def asked(self) -> str:
        """What was asked for, in a word; "" for nothing."""
        return "statistics" if self.statistics is not None else "tied" if self.tied else ""

    def of(self, spec: Spec) -> Spec:
        """A normalization that does so; raises `InputError` where it cannot."""
        return spec.mixing(self.statistics).tying(self.tied)


def _part_norm(norm: NormLike) -> Spec | None:
    """What the normalization of a part stands for; None for none."""
    return None if isinstance(norm, str) and norm == NONE else Spec.of(norm)


def _recording(spec: Spec, made: list[nn.Module]) -> Spec:
    """The same normalization; layers that a user's class or function makes are added to `made`."""
    if spec.make is None:
        return spec
    make = spec.make

    @functools.wraps(make, updated=())
    def recorded(*args: Any, **options: Any) -> nn.Module:
        made.append(make(*args, **options))
        return made[-1]

    return replace(spec, make=recorded)


def _build(
    name: str,
    norm: Spec | None,
    norms: Mapping[str, Spec | None],
    conv: str,
    num_classes: int | None,
    mixed: _Mixed,
    options: dict[str, Any],
) -> nn.Module:
    for family in FAMILIES:
        numbers = family.numbers(name)
        if numbers is not None:
            family.check_options(name, options)
            spec = _norm_of_family(name, family, norm, norms, conv, mixed)
            with explained(name, options):
                return family.build(*numbers, **spec, num_classes=num_classes or family.num_classes, **options)
    source = foreign.source_of(name)
    source.check(name, _own_names())
    if norms:
        raise InputError(f"model {name!r} has no parts with a norm of their own; leave norms out, or give norm")
    asked = parse_norm("bn" if norm is None else norm, conv)
    if norm is None and mixed.asked:
        needs, nearest = ("need", "sn") if mixed.asked == "statistics" else ("needs", "ssn")
        raise InputError(f"{mixed.asked} {needs} a norm for {name!r}; the nearest valid norm is {nearest!r}")
    if norm is None and asked.ws:
        raise InputError(f"conv {conv!r} needs a norm for {name!r}, which is left as it is without; try norm 'bn'")
    return foreign.create(source, name, None if norm is None else mixed.of(asked), num_classes, options)


def _norm_of_family(
    name: str,
    family: Family,
    norm: Spec | None,
    norms: Mapping[str, Spec | None],
    conv: str,
    mixed: _Mixed,
) -> dict[str, Any]:
    """What the builder of a family is given for its normalization; nothing where it has none."""
    for part in norms:
        if not family.parts:
            raise InputError(f"model {name!r} has no parts with a norm of their own; leave norms out, or give norm")
        if part not in family.parts:
            if any(part in other.parts for other in FAMILIES):
                raise InputError(
                    f"norms.{part} is impossible: that part of {name!r} has no norm; those with one are "
                    f"{', '.join(family.parts)}"
                )
            raise unknown(f"part in norms of {name!r}", part, family.parts)
    if family.norm is None:
        if norm is not None or conv or mixed.asked:
            asked = "norm and conv" if norm is not None or conv else mixed.asked
            raise InputError(f"model {name!r} has no normalization; leave {asked} out")
        return {}
    usual = family.norm if norm is None else norm
    if not family.parts:
        return {"norm": mixed.of(parse_norm(usual, conv))}
    own = family.norms if norm is None else {}
    unasked = {part: _part_norm(own.get(part, usual)) for part in family.parts}
    specs = [norms.get(part, unasked[part]) for part in family.parts]
    asked_for = [None if each is None else parse_norm(each, conv) for each in specs]
    mixers = [each for each in asked_for if each is not None and each.registration.mixes]
    if mixed.statistics is not None and not mixers:
        parse_norm(usual, conv).mixing(mixed.statistics)  # which says who mixes some
        raise InputError(f"statistics are mixed by no part of {name!r}; leave statistics out")
    choosers = [each for each in mixers if each.registration.sparse]
    if mixed.tied and not choosers:
        parse_norm(usual, conv).tying(mixed.tied)  # which says who chooses
        raise InputError(f"tied choices are made by no part of {name!r}; leave tied out")
    mixing = [
        each if each is None or each not in mixers else mixed._replace(tied=mixed.tied and each in choosers).of(each)
        for each in asked_for
    ]
    return {"norms": dict(zip(family.parts, mixing, strict=True))}


def task_of(name: str) -> str:
    """What a network is for, "classification", "segmentation" or "detection", by its name alone.

    Whether it exists is not asked.
    """
    family = next((family for family in FAMILIES if family.numbers(name) is not None), None)
    if family is not None:
        return family.task
    if foreign.detects(name):
        return "detection"
    return "segmentation" if foreign.segments(name) else "classification"


def pictures_of(name: str) -> Pictures | None:
    """The pictures that a network's published weights expect, by its name alone; as `switchnorm.models.pictures`.

    None for networks of this library, which expect what their recipes say, and for unknown names. Detectors with a body
    of timm expect what that does.
    """
    name = detection.timm_of(name) or name
    return None if any(family.numbers(name) is not None for family in FAMILIES) else expected(name)


def norm_of(name: str) -> str | None:
    """What a network normalizes with where no norm is asked for, by its name alone: "bn", "gn+ws", ...

    None for networks without a normalization, for those of torchvision and timm, which are as their authors built them,
    and for unknown names.
    """
    return next((family.norm for family in FAMILIES if family.numbers(name) is not None), None)


def parse_norm(norm: NormLike, conv: str = "") -> Spec:
    """The `Spec` that `norm` and `conv` name together; raise `InputError` with the nearest valid name."""
    if conv not in ("", "ws"):
        raise unknown("conv", conv, ("ws",))
    spec = Spec.of(norm)
    return replace(spec, ws=True) if conv else spec


def list_models(pattern: str = "*") -> list[str]:
    """The names that `create_model` knows and that match a glob, for example "cifar*"; a list, possibly empty.

    Networks of timm are listed only by patterns that begin with "timm:", and only where it is installed.

    Raises:
        InputError: such a pattern where timm is not installed.
    """
    source = foreign.source_of(pattern)
    names = source.names() if source is foreign.TIMM else [*_own_names(), *source.names()]
    return fnmatch.filter(names, pattern)


def _own_names() -> list[str]:
    return [name for family in FAMILIES for name in family.names]
