"""Reading checkpoint files without running code from them, and loading them with an account of what does not fit."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from switchnorm.errors import InputError

# How training systems wrap a network: DataParallel, our own runs.
_WRAPPERS = ("module.", "model.")


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint file, on the CPU.

    Args:
        path: a .safetensors file, or what torch.save wrote: a state dict, or a training checkpoint that holds one under
            "state_dict". Prefixes that a training wrapper gave to every key are taken off.

    Raises:
        InputError: no such file, or one that holds no state dict or would have to run code to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"checkpoint {str(path)!r} does not exist; expected a file that torch.save or safetensors wrote"
        )
    content = _read(path)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(_is_entry(*item) for item in state.items()):
        raise InputError(f"checkpoint {str(path)!r} holds no state dict; expected tensors by name")
    return _unwrap(dict(state))


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` into `model` completely, or change nothing.

    Args:
        model: the network.
        state: tensors by key; layouts of the published layers are understood.
        source: what to call the state in an error, for example the file's name.

    Raises:
        InputError: keys missing, unexpected or of another shape, each listed.
    """
    before = {key: value.clone() for key, value in model.state_dict().items()}
    problems: list[str] = []
    try:
        result = model.load_state_dict(dict(state), strict=False)
        problems += _listed("missing", result.missing_keys) + _listed("unexpected", result.unexpected_keys)
    except RuntimeError as error:
        # torch stops at entries of another shape; compare them all.
        problems += _listed("missing", [k for k in before if k not in state and not k.endswith("num_batches_tracked")])
        problems += _listed("unexpected", [k for k in state if k not in before])
        other = [k for k in before if k in state and before[k].numel() != state[k].numel()]
        shapes = [f"{k} {tuple(state[k].shape)} for {tuple(before[k].shape)}" for k in other]
        problems += _listed("of another shape", shapes) or [str(error).splitlines()[-1].strip()]
    if problems:
        model.load_state_dict(before)
        raise InputError(f"{source} does not fit {type(model).__name__}: " + "; ".join(problems))


def load_published(model: nn.Module, path: str | Path) -> nn.Module:
    """Load a published checkpoint (or any other) into `model`, strictly; returns the model.

    Raises:
        InputError: as `read_state` and `load_state`.
    """
    load_state(model, read_state(path), f"checkpoint {str(path)!r}")
    return model


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"checkpoint {str(path)!r} is damaged, or would have to run code to be read; expected tensors by name"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise InputError(f"checkpoint {str(path)!r} is damaged or no checkpoint; expected tensors by name") from error


def _is_entry(key: Any, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor)


def _unwrap(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _WRAPPERS:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _listed(what: str, names: list[str], most: int = 8) -> list[str]:
    if not names:
        return []
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return [f"{len(names)} {what} ({', '.join(names[:most])}{more})"]
