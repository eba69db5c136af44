"""Numbers that users give."""

from __future__ import annotations

from numbers import Real
from typing import Any

from torch import Tensor

from switchnorm.errors import InputError


def check_number(name: str, value: Any) -> Any:
    """Return `value` if it is a real number, or a tensor of one; raise `InputError` otherwise."""
    if isinstance(value, Tensor) and value.numel() == 1 and value.dtype.is_floating_point:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name} must be a number, got {value!r}")
    return value
