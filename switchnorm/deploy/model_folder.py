"""A network as a folder that repositories of the Hugging Face Hub have: README.md, config.json, model.safetensors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchnorm.deploy.description import KEY, Description
from switchnorm.errors import InputError
from switchnorm.files import check_free, remove, utf8, write_files, writing
from switchnorm.text import from_json, read_text

if TYPE_CHECKING:
    from torch import nn

    from switchnorm.deploy.runtimes.network import NetworkRuntime

CARD, CONFIG, WEIGHTS = "README.md", "config.json", "model.safetensors"
#: What opening needs.
NEEDED = (CONFIG, WEIGHTS)
#: All that is written.
FILES = (CARD, CONFIG, WEIGHTS)


def contents(
    network: nn.Module, description: Description, card: Callable[[Description], str]
) -> tuple[dict[str, bytes], Description]:
    """The files, and the description of the network in them.

    Args:
        network: one that its name makes again, see `switchnorm.deploy.recognised`.
        description: of it.
        card: the text of README.md, for the description that the files have.

    Raises:
        InputError: a network that cannot be made again.
    """
    from switchnorm.deploy.runtimes.safetensors_file import prepared

    weights, description = prepared(network, description)
    about = json.dumps(config(description), indent=2, allow_nan=False) + "\n"
    return {WEIGHTS: weights, CONFIG: about.encode(), CARD: utf8(card(description))}, description


def check_folder(folder: Path, force: bool) -> None:
    """Raise `InputError` if the files cannot be written, or are there and `force` does not say to replace them."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{str(folder)!r} is a file; expected a folder to write to")
    if folder.is_dir():
        for name in FILES:
            check_free(folder / name, force)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files, all of them or none, to a folder that is made where it is missing.

    Raises:
        WriteError: the folder cannot be written.
    """

    def write(content: bytes) -> Callable[[Path], None]:
        return lambda part: _write(part, content)

    made = _make(folder)
    try:
        write_files({folder / name: write(content) for name, content in files.items()})
    except BaseException:
        for each in made:
            if not any(each.iterdir()):
                remove(each)
        raise


def _make(folder: Path) -> list[Path]:
    """Make a folder and those around it; those that were made, the innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def config(description: Description) -> dict[str, Any]:
    """config.json: the description, below "switchnorm", beside what others look for in such files by plain names."""
    network = description.network or {}
    return {
        "library_name": "switchnorm",
        "architecture": network.get("name"),
        "num_classes": len(description.classes) or network.get("num_classes"),
        "label_names": list(description.classes),
        KEY: description.to_dict(),
    }


def open_folder(folder: Path, source: str, device: str = "cpu") -> NetworkRuntime:
    """The network in a folder.

    Where config.json describes it otherwise than model.safetensors does, config.json holds, and a warning says what is
    different: people correct the names of classes there.

    Args:
        folder: with the files that are needed.
        source: what errors call it.
        device: as torch calls it.

    Raises:
        InputError: files that are missing, damaged or of other libraries; a network that cannot be made.
    """
    from switchnorm.deploy.runtimes.safetensors_file import contents as read_contents
    from switchnorm.deploy.runtimes.safetensors_file import network_runtime

    described = _described(folder, source)
    state, own = read_contents(folder / WEIGHTS)
    values = described.to_dict()
    other = [name for name, value in own.to_dict().items() if value != values[name]]
    if other:
        warnings.warn(
            f"{source}: {CONFIG} has another {', '.join(other)} than {WEIGHTS}, and {CONFIG} is used", stacklevel=3
        )
    return network_runtime(state, described, source, device)


def _described(folder: Path, source: str) -> Description:
    path = folder / CONFIG
    for name in NEEDED:
        if not (folder / name).is_file():
            raise InputError(f"{source} has no {name}; expected a folder that `switchnorm push` has written")
    title = f"{source}, {CONFIG}"
    values = from_json(read_text(path, title), title)
    if not isinstance(values, Mapping) or KEY not in values:
        raise InputError(
            f"{title} is not of switchnorm{_whose(values)}; expected a folder that `switchnorm push` wrote"
        )
    description = Description.from_dict(values[KEY], title)
    if description.network is None:
        raise InputError(f"{title} does not say which network the weights are of")
    return description


def _whose(values: Any) -> str:
    """What else a config.json is of, as far as it says it."""
    if not isinstance(values, Mapping):
        return ""
    if "pretrained_cfg" in values:
        return f" but of timm ({values.get('architecture')!s:.80}), whose networks `create_model('timm:NAME')` makes"
    if "model_type" in values:
        return f" but of transformers ({values.get('model_type')!s:.80})"
    return ""
