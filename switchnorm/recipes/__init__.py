"""The recipes that the package ships, by name; needs no torch, so that `--help` can list them at once."""

from __future__ import annotations

from pathlib import Path

from switchnorm.errors import InputError, unknown

_FOLDER = Path(__file__).parent


def recipes() -> list[str]:
    """Their names, such as "cifar10/resnet20"."""
    return sorted(path.relative_to(_FOLDER).with_suffix("").as_posix() for path in _FOLDER.rglob("*.yaml"))


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path to a YAML file, or the name of a shipped one.

    Raises:
        InputError: neither, with the nearest name.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        if not Path(name).is_file():
            raise InputError(f"recipe {name!r} does not exist; expected a YAML file, or one of {', '.join(recipes())}")
        return Path(name)
    if name not in recipes():
        raise unknown("recipe", name, recipes())
    return _FOLDER / f"{name}.yaml"
