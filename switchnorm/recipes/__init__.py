"""The recipes that the package ships, by name; needs no torch, so that `--help` can list them at once."""

from __future__ import annotations

from pathlib import Path

from switchnorm.errors import InputError, unknown

_FOLDER = Path(__file__).parent


def recipes() -> list[str]:
    """Their names, such as "cifar10/resnet20"."""
    return [name for name in bases() if not name.rpartition("/")[2].startswith("_")]


def bases() -> list[str]:
    """What a recipe may name as its base: every recipe, and what recipes share, such as "cifar10/_bearpaw"."""
    return sorted(path.relative_to(_FOLDER).with_suffix("").as_posix() for path in _FOLDER.rglob("*.yaml"))


def shipped_file(name: str) -> Path:
    """The file of one of `bases()`."""
    return _FOLDER / f"{name}.yaml"


def title(path: Path) -> str:
    """What messages call a file: its path among the shipped recipes, or the path as it was given."""
    return path.relative_to(_FOLDER).as_posix() if path.is_relative_to(_FOLDER) else str(path)


def is_file_name(name: str) -> bool:
    """Whether this is a path to a YAML file rather than the name of a shipped one."""
    return Path(name).suffix in (".yaml", ".yml")


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path to a YAML file, or the name of a shipped one.

    Raises:
        InputError: neither, with the nearest name.
    """
    if is_file_name(name):
        if not Path(name).is_file():
            raise InputError(f"recipe {name!r} does not exist; expected a YAML file, or one of {', '.join(recipes())}")
        return Path(name)
    if name not in recipes():
        raise unknown("recipe", name, recipes())
    return shipped_file(name)
