"""Programs of ExecuTorch, .pte, with their description beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from switchnorm.deploy.runtime import FileRuntime, Runtime, described
from switchnorm.errors import InputError
from switchnorm.text import first_line, from_json, read_text

if TYPE_CHECKING:
    import numpy as np

    from switchnorm.deploy.job import Job


def write(job: Job, path: Path) -> None:
    """Write a program for XNNPACK, and beside it, since the format holds no metadata, NAME.json.

    Raises:
        InputError: what ExecuTorch cannot express.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from switchnorm.deploy.runtimes.traced import quiet, traced

    program = traced(job.in_half())
    try:
        with quiet():
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            content = lowered.to_executorch().buffer
    except Exception as error:  # its passes raise errors of many kinds
        raise InputError(f"ExecuTorch cannot express the network: {first_line(error)}") from error
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps(job.metadata(), indent=1), encoding="utf-8")


def read(path: Path, device: str = "cpu") -> Runtime:
    """Open a program.

    Args:
        path: of the .pte, beside its .json.
        device: "cpu", which XNNPACK is for.

    Raises:
        InputError: no such file, its .json is missing, or another device.
    """
    import numpy as np
    import torch
    from executorch.runtime import Runtime as Library
    from executorch.runtime import Verification

    from switchnorm.deploy.runtimes.traced import quiet

    if device != "cpu":
        raise InputError(f"device {device!r} runs no program of ExecuTorch; the nearest is 'cpu'")
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise InputError(f"{path} lacks its {beside.name}; keep the two files together")
    metadata = from_json(read_text(beside, str(beside)), str(beside))
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InputError(f"{beside} does not describe {path.name}; expected texts by name")
    description, names = described(metadata, str(beside))
    try:
        with quiet():
            program = Library.get().load_program(path, verification=Verification.InternalConsistency)
            method = program.load_method("forward")
    except Exception as error:  # a damaged file may raise anything
        raise InputError(f"{path} is no program of ExecuTorch: {str(error).strip()[:200]!r}") from error
    if method is None:
        raise InputError(f"{path} is no program of ExecuTorch: it has no method 'forward'")

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        results = method.execute((torch.from_numpy(np.ascontiguousarray(images)),))
        return [each.numpy().copy() for each in results]

    return FileRuntime(path, description, names, run)
