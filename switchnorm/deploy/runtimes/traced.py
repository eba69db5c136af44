"""The program of a network by torch.export, which several formats begin with."""

from __future__ import annotations

import contextlib
import gc
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from switchnorm.deploy.job import Job
from switchnorm.errors import InputError
from switchnorm.text import first_line

#: The dimension of images that each name stands for.
_DIMENSIONS = {"batch": 0, "height": 2, "width": 3}


def traced(job: Job) -> torch.export.ExportedProgram:
    """The program of a network, for images of any size in the dimensions that stay open.

    Raises:
        InputError: torch.export cannot follow the network, or the network does not leave such a dimension open.
    """
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(job.network, (job.example,), dynamic_shapes=open_dimensions(job))
    except Exception as error:  # torch.export, and whatever the network does, may raise anything
        raise InputError(f"torch.export cannot follow the network: {reason(error)}") from error


def open_dimensions(job: Job) -> tuple[dict[int, Any]]:
    """Which dimensions of the images stay open, as torch.export takes it."""
    return ({_DIMENSIONS[name]: torch.export.Dim.DYNAMIC for name in job.dynamic},)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters say of their own affairs from the user, who is told what matters by checks."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Let Python look for no cycles: exporters make millions of objects, and a sixth of their time would go there."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def on_arrays(program: Any, device: str) -> Callable[[np.ndarray], Sequence[np.ndarray]]:
    """A program that torch runs as a function of arrays."""

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        with torch.no_grad():
            return [each.cpu().numpy() for each in program(torch.from_numpy(images).to(device))]

    return run


def reason(error: BaseException) -> str:
    """What an exporter complains of, in a line."""
    dynamic = "specialized" in str(error) or "constraint" in str(error).lower()
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{first_line(error)}{'; leave these dimensions out of dynamic' if dynamic else ''}"
