"""The libraries: a file for each, named as it is imported, with `TITLE` and its models, `HOSTS`."""

from __future__ import annotations

import importlib
import pkgutil

#: Names of the libraries, in the order of the alphabet.
NAMES = sorted(module.name for module in pkgutil.iter_modules(__path__))


def title(library: str) -> str:
    """A library's name as its authors write it."""
    return str(importlib.import_module(f"{__name__}.{library}").TITLE)
