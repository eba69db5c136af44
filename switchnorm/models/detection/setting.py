"""Attributes of detectors that one of their parts keeps."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Setting(Generic[T]):
    """An attribute of the same name as that of a part, which is read and set there.

    Args:
        part: the attribute of the detector that holds the part.
    """

    def __init__(self, part: str) -> None:
        self.part = part
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, detector: Any, owner: type | None = None) -> T:
        if detector is None:
            raise AttributeError(self.name)  # a class has no such setting, only its objects do
        value: T = getattr(getattr(detector, self.part), self.name)
        return value

    def __set__(self, detector: Any, value: T) -> None:
        setattr(getattr(detector, self.part), self.name, value)
