"""Recipes that build on others: `base:` names them, and what a file says itself wins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from switchnorm.errors import InputError, unknown
from switchnorm.recipes import bases, is_file_name, shipped_file, title
from switchnorm.recipes.located import Located, Place, read_located

#: The key that names what a recipe builds on: one name, or a list of which later ones win.
BASE = "base"

#: The key that no recipe takes over from its bases: a published result belongs to the recipe that states it.
CLAIM = "claim"


def read_recipe(path: Path) -> Located:
    """A recipe with everything that its bases say.

    Mappings are merged key by key; everything else, lists and null too, is replaced.

    Args:
        path: a YAML file. Its bases are names of `recipes.bases()`, or paths of YAML files, relative to its folder.

    Returns:
        The content, which no longer has the key "base", and where each key comes from.

    Raises:
        InputError: a base that does not exist, bases that lead back to themselves, a value where another file has
            keys, or a file that `read_located` refuses; names file and line.
    """
    return _read(path, [path])


def _read(path: Path, chain: list[Path]) -> Located:
    """Read a recipe; `chain` are the files that led to it, itself the last."""
    own = read_located(path, title(path))
    named, place = own.content.pop(BASE, None), own.origin.pop(BASE, None)
    if place is None:
        return own
    merged = Located({}, {})
    for name in _names(named, place):
        base = _find(name, path, place)
        here = [file.resolve() for file in chain]
        if base.resolve() in here:
            circle = [*chain[here.index(base.resolve()) :], base]
            raise InputError(f"{place}: bases lead back to themselves: {' -> '.join(map(title, circle))}")
        merged = _merge(merged, _without_claim(_read(base, [*chain, base])))
    return _merge(merged, own)


def _names(named: Any, place: Place) -> list[str]:
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{place}: base must be a name or a list of names, got {named!r}")
    return names


def _find(name: str, file: Path, place: Place) -> Path:
    """The file of a base that `file` names."""
    if not is_file_name(name):
        if name not in bases():
            raise unknown(f"{place}: base", name, bases())
        return shipped_file(name)
    found = file.parent / name
    if found.is_dir():
        raise InputError(f"{place}: base {name!r} is a folder; expected a YAML file")
    if not found.is_file():
        beside = [Path(name).with_name(other.name).as_posix() for other in sorted(found.parent.glob("*.y*ml"))]
        raise unknown(f"{place}: base", name, [*beside, *bases()])
    return found


def _merge(under: Located, over: Located) -> Located:
    """Everything that two files say; where both say something, `over` wins."""
    content = _merged(under, over, under.content, over.content, "")
    origin = under.origin | over.origin
    return Located(content, {name: origin[name] for name in _dotted(content)})


def _merged(under: Located, over: Located, below: dict[str, Any], above: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The keys of two mappings that both files have under the name `prefix`."""
    content = dict(below)
    for key, value in above.items():
        name, before = f"{prefix}{key}", below.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            content[key] = _merged(under, over, before, value, f"{name}.")
        elif before is None or value is None or isinstance(before, dict) == isinstance(value, dict):
            content[key] = value
        else:
            raise InputError(
                f"{over.origin[name]}: {name} must be {_kind(before)} as in {under.origin[name]}, got {value!r}"
            )
    return content


def _kind(value: Any) -> str:
    return f"a mapping of {', '.join(map(str, value))}" if isinstance(value, dict) else "a value without keys"


def _dotted(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of all keys."""
    for key, value in content.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")


def _without_claim(recipe: Located) -> Located:
    content = {key: value for key, value in recipe.content.items() if key != CLAIM}
    return Located(content, {name: recipe.origin[name] for name in _dotted(content)})
