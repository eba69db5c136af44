"""Nested mappings as one level of dotted keys, and back."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any


def flatten(nested: Mapping[str, Any], whole: Container[str] = (), prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested mapping under dotted keys: `{"a": {"b": 1}}` yields `("a.b", 1)`.

    Args:
        nested: the mapping.
        whole: dotted keys whose values are leaves even where they are mappings.
        prefix: before every key.
    """
    for key, value in nested.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping) and dotted not in whole:
            yield from flatten(value, whole, f"{dotted}.")
        else:
            yield dotted, value
