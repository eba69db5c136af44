"""A family of networks: one definition, and the names it answers to."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from switchnorm.errors import InputError, unknown
from switchnorm.models.options import SHARED

#: What every builder takes besides the numbers of a name; whatever else it takes are the family's options.
COMMON = ("norm", "norms", "num_classes")
#: What an option of a plain type accepts.
_ACCEPTED: dict[Any, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}


@dataclass(frozen=True)
class Family:
    """Networks that one builder makes.

    Args:
        pattern: a regular expression for a whole name; its groups are the builder's positional arguments, numbers as
            int.
        build: `build(*numbers, norm=Spec, num_classes=int, **options)`, which raises `InputError` for numbers that
            make no network, with the nearest that do. Its options are its keyword-only parameters but for `norm` and
            `num_classes`, of other names than those in `SHARED`.
        names: the names that are listed; others that match the pattern are understood all the same.
        norm: the normalization where none is asked for; None for networks without any, whose builder takes no `norm`.
        num_classes: the number of logits where none is asked for.
        task: what the networks are for, "classification", "segmentation" or "detection".
        parts: names of the parts that may each have a normalization of their own. The builder then takes `norms={part:
            Spec or None}` of all of them in place of `norm`; None is for a part without any, which it may refuse.
        norms: of parts that have another normalization than `norm` where none is asked for; "none" for none.
    """

    pattern: str
    build: Callable[..., nn.Module]
    names: tuple[str, ...]
    norm: str | None = "bn"
    num_classes: int = 10
    task: str = "classification"
    parts: tuple[str, ...] = ()
    norms: Mapping[str, str] = field(default_factory=dict)

    def numbers(self, name: str) -> tuple[Any, ...] | None:
        """The builder's positional arguments in `name`, or None if it belongs to another family."""
        match = re.fullmatch(self.pattern, name)
        return None if match is None else tuple(int(g) if g and g.isdigit() else g for g in match.groups())

    def check_options(self, name: str, options: dict[str, Any]) -> None:
        """Raise `InputError` for an option that the builder does not take, or a value of another type than it says."""
        known = self.options()
        for option, value in options.items():
            if option not in known:
                raise unknown(f"option of {name!r}", option, [*known, *SHARED])
            accepted = _ACCEPTED.get(known[option])
            # bool is a subclass of int, so that isinstance alone would take True for a number.
            if accepted and not (isinstance(value, accepted) and isinstance(value, bool) == (accepted == (bool,))):
                raise InputError(f"option {option!r} of {name!r} takes a {known[option].__name__}, got {value!r}")

    def options(self) -> dict[str, Any]:
        """The builder's keyword-only parameters besides `COMMON`, and what they are annotated with."""
        parameters = inspect.signature(self.build, eval_str=True).parameters.values()
        return {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in COMMON}
