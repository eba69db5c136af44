"""What a network remembers of the call of `create_model` that made it."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

# Not an attribute of the class: copies and pickles keep it, and state dicts do not have it.
_KEY = "_switchnorm_network"


def mark(model: nn.Module, name: str, **arguments: Any) -> None:
    """Let a network remember its name and the other arguments of `create_model`."""
    vars(model)[_KEY] = {"name": name, **arguments}


def made_as(model: nn.Module) -> dict[str, Any] | None:
    """The arguments of `create_model`, "name" among them; None for what it did not make.

    What was changed afterwards, by a switch for example, is not in there.
    """
    found: dict[str, Any] | None = vars(model).get(_KEY)
    return copy.deepcopy(found)
