"""What recipes say, each read once in a process: many tests ask, and a reading takes a tenth of a second."""

from __future__ import annotations

import functools

from switchnorm.config.recipe import read_config
from switchnorm.config.schema import Config
from switchnorm.recipes import find_recipe


@functools.cache
def config_of(name: str, *flags: str) -> Config:
    """The settings of a shipped recipe, for reading alone."""
    return read_config(find_recipe(name), flags)
