"""Which layers an operation is for: names and patterns of names, or a predicate."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from torch import nn

from switchnorm.errors import InputError

Choice: TypeAlias = "str | Sequence[str] | Callable[[str, nn.Module], bool]"


class Selection:
    """The layers that `include` chooses (all, if None) and `exclude` does not.

    Args:
        include, exclude: a glob over layer names ("layer1.*"; "*" matches dots too), a sequence of such, or a predicate
            of name and module. A layer with several names is chosen if one of its names is.
        names: the names of all layers, to check the patterns against.
        what: these layers, as errors call one.

    Raises:
        InputError: no pattern, or one that matches no layer.
    """

    def __init__(
        self,
        include: Choice | None,
        exclude: Choice | None,
        names: Iterable[str],
        what: str = "normalization or convolution",
    ) -> None:
        names = list(names)
        self._include = _predicate("include", include, names, what)
        self._exclude = _predicate("exclude", exclude, names, what)

    def refusal(self, names: Iterable[str], module: nn.Module) -> str | None:
        """Why a layer is not chosen; None where it is."""
        names = list(names)
        if self._include is not None and not any(self._include(name, module) for name in names):
            return "not included"
        if self._exclude is not None and any(self._exclude(name, module) for name in names):
            return "excluded"
        return None


def _predicate(
    argument: str, choice: Choice | None, names: Sequence[str], what: str
) -> Callable[[str, nn.Module], bool] | None:
    if choice is None:
        return None
    if callable(choice) and not isinstance(choice, type):
        try:
            inspect.signature(choice).bind("", nn.Identity())
        except TypeError as error:
            raise InputError(f"{argument} is called with a name and a module: {error}") from None
        except ValueError:  # Of what is written in C, nothing tells.
            pass
        return choice
    several = tuple(choice) if isinstance(choice, Iterable) else (choice,)
    patterns: tuple[Any, ...] = (choice,) if isinstance(choice, str) else several
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise InputError(
            f"{argument} {choice!r} is no glob over names, no sequence of globs and no predicate of name and module; "
            "the nearest is '*'"
        )
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            nearest = difflib.get_close_matches(pattern, names, n=1, cutoff=0)
            hint = f"the nearest layer is {nearest[0]!r}" if nearest else "the model has none"
            raise InputError(f"{argument} {pattern!r} matches no {what}; {hint}")
    return lambda name, module: any(fnmatchcase(name, pattern) for pattern in patterns)
