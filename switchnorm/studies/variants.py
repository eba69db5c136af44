"""Variants of a training: a name, and the keys in which it differs from the recipe. Needs no torch."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from switchnorm.config.keys import flatten
from switchnorm.errors import InputError
from switchnorm.recipes import is_file_name
from switchnorm.recipes.located import read_located

_EXAMPLE = "'NAME: KEY=VALUE ...' such as 'frozen bn: norm=bn train.frozen_statistics=true', a norm, or a YAML file"


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Args:
        name: what tables call it, and what is in its folders' names.
        flags: what it changes, as flags of `switchnorm train`, each "--key=value".
        label: `name`, where that says more than the norm; None where the variant is just a norm.
        where: how errors name it.
    """

    name: str
    flags: tuple[str, ...]
    label: str | None
    where: str

    @property
    def stem(self) -> str:
        """How the names of its run folders begin: "frozen-bn", "gn+ws"."""
        return re.sub(r"[^\w+.=]+", "-", re.sub(r"\s*\+\s*", "+", self.name.lower().replace(":", ""))).strip("-.")


def read_variants(given: Sequence[str]) -> list[Variant]:
    """Variants from a command line.

    Args:
        given: for each a norm, "sn"; a name with keys and values, "frozen bn: norm=bn train.frozen_statistics=true";
            or a YAML file whose keys are names and whose values are what a recipe would say:
            `frozen bn: {model: {norm: bn}, train: {frozen_statistics: true}}`.

    Raises:
        InputError: none of these, two variants of one name, or a file that cannot be read.
    """
    found: dict[str, Variant] = {}
    for text in given:
        for variant in _file(Path(text)) if is_file_name(text) else [_variant(text)]:
            rival = next((other for other in found.values() if other.stem == variant.stem), None)
            if rival is not None:
                raise InputError(f"{variant.where}: {rival.name!r} would have the same folders; take another name")
            found[variant.name] = variant
    return list(found.values())


def _variant(text: str) -> Variant:
    name, colon, rest = text.partition(": ")
    name = name.strip()
    if not colon:
        if "=" in name or not name or name.endswith(":"):
            raise InputError(f"variant {text!r} is none; expected {_EXAMPLE}")
        return Variant(name, (f"--model.norm={name}",), None, f"variant {name!r}")
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise InputError(f"variant {name!r}: {error}; quote values as a shell does") from error
    wrong = next((word for word in words if not re.match(r"[^=\s]+=", word)), None)
    if wrong is not None:
        raise InputError(f"variant {name!r}: {wrong!r} is no KEY=VALUE; expected {_EXAMPLE}")
    return _named(name, tuple(f"--{word.removeprefix('--')}" for word in words), f"variant {name!r}")


def _file(path: Path) -> Iterator[Variant]:
    """The variants of a YAML file."""
    if not path.is_file():
        raise InputError(f"variants {str(path)!r} do not exist; expected {_EXAMPLE}")
    written = read_located(path, str(path))
    for name, changes in written.content.items():
        where = f"{written.origin[name]}: variant {name!r}"
        if changes is not None and not isinstance(changes, dict):
            raise InputError(f"{where} must hold keys as a recipe does, {{model: {{norm: sn}}}}, got {changes!r}")
        flags = tuple(f"--{key}={_value(value)}" for key, value in flatten(changes or {}))
        yield _named(name, flags, where)


def _named(name: str, flags: tuple[str, ...], where: str) -> Variant:
    if not name or not name.isprintable():
        raise InputError(f"{where} must have a name of printable characters; expected {_EXAMPLE}")
    return Variant(name, flags, name, where)


def _value(value: Any) -> str:
    """A value of YAML as a flag has it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
