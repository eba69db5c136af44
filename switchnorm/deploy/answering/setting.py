"""What may be set of how a task answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from switchnorm.config.ranges import Range
from switchnorm.errors import InputError


@dataclass(frozen=True)
class Setting:
    """A setting, which a caller may give, and a file that anybody has written.

    Args:
        default: of networks that do not say it; where it is None, None may be given too.
        kind: bool, int or float; list for whole numbers, at least one.
        range: of numbers, and of each number of a list.
    """

    default: Any
    kind: type
    range: Range = Range()  # noqa: RUF009 - it is frozen

    def check(self, name: str, value: Any) -> None:
        """Raise `InputError` naming the setting if the value is of another kind, or out of range."""
        if value is None and self.default is None:
            return
        expected, fits = {
            bool: ("True or False", isinstance(value, bool)),
            int: ("a whole number", _is_whole(value)),
            float: ("a number", _is_whole(value) or isinstance(value, float)),
            list: ("a list of whole numbers, as in [360, 480]", _are_whole(value)),
        }[self.kind]
        if not fits:
            raise InputError(f"{name} is {value!r:.80}; expected {expected}")
        for number in () if self.kind is bool else value if self.kind is list else (value,):
            self.range.check(name, number)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_whole(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and all(map(_is_whole, value))
