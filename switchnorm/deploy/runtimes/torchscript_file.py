"""Traced programs of TorchScript, for LibTorch."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchnorm.deploy.description import KEY
from switchnorm.deploy.runtime import OUTPUTS, FileRuntime, Runtime, described
from switchnorm.errors import InputError
from switchnorm.text import first_line

if TYPE_CHECKING:
    from switchnorm.deploy.job import Job


def write(job: Job, path: Path) -> None:
    """Write a traced program.

    Raises:
        InputError: what the tracer cannot follow.
    """
    import torch

    from switchnorm.deploy.runtimes.sized import sized
    from switchnorm.deploy.runtimes.traced import quiet

    height, width = (
        0 if name in job.dynamic else side
        for name, side in zip(("height", "width"), job.example.shape[2:], strict=True)
    )
    content = io.BytesIO()
    try:
        with quiet(), torch.no_grad(), traced_numbers():
            program = torch.jit.trace(job.in_half().network, (job.example,), check_trace=False)
            torch.jit.save(sized(program, height, width), content, _extra_files=job.metadata())
    except Exception as error:  # the tracer, and whatever the network does, may raise anything
        raise InputError(f"torch.jit cannot trace the network: {first_line(error)}") from error
    path.write_bytes(content.getbuffer())  # a full disk is no fault of the network, and torch would not say it


def traced_numbers() -> Any:
    """A context in which functions of sizes take those that the tracer hands out, which are tensors."""
    import torch
    from torch.overrides import TorchFunctionMode

    tensors = {torch.sym_max: torch.maximum, torch.sym_min: torch.minimum}

    class TracedNumbers(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function in tensors and any(isinstance(each, torch.Tensor) for each in args):
                return tensors[function](*(torch.as_tensor(each) for each in args))
            return function(*args, **(kwargs or {}))

    return TracedNumbers()


def read(path: Path, device: str = "cpu") -> Runtime:
    """Open a traced program.

    Args:
        path: of the file.
        device: as torch calls it.

    Raises:
        InputError: no such file.
    """
    import torch

    from switchnorm.deploy.runtimes.traced import on_arrays, quiet

    metadata: dict[str, Any] = {KEY: "", OUTPUTS: ""}
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is no program of TorchScript")
    try:
        with quiet():
            network = torch.jit.load(str(path), map_location=device, _extra_files=metadata)
    except Exception as error:  # a damaged file may raise anything
        raise InputError(f"{path} is no program of TorchScript: {str(error).strip()[:200]!r}") from error
    texts = {key: value.decode() if isinstance(value, bytes) else value for key, value in metadata.items()}
    description, names = described({key: value for key, value in texts.items() if value}, str(path))
    return FileRuntime(path, description, names, on_arrays(network, device))
