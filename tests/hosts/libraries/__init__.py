"""The libraries: a file for each, named as it is imported, with `TITLE` and its models, `HOSTS`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from importlib.util import find_spec

from tests.hosts.host import Host

#: The libraries as they are imported, in the order of the alphabet.
NAMES = sorted(module.name for module in pkgutil.iter_modules(__path__))


def installed() -> bool:
    """Whether this is the environment that `make test-hosts` sets up. Imports nothing."""
    return all(find_spec(name) is not None for name in NAMES)


def title(library: str) -> str:
    """A library's name as its authors write it."""
    return str(importlib.import_module(f"{__name__}.{library}").TITLE)


def hosts() -> Iterator[tuple[str, Host]]:
    """Every model with its library's title; imports all libraries."""
    for name in NAMES:
        for host in importlib.import_module(f"{__name__}.{name}").HOSTS:
            yield title(name), host
