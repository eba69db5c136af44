"""The formats of files that networks leave in: one table, for the command line, for writing and for opening."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from switchnorm.errors import InputError, not_installed, unknown

#: Those of `switchnorm.export` that change a file, and that not every format takes.
ARGUMENTS = ("dynamic", "raw", "half", "int8")


@dataclass(frozen=True)
class Format:
    """A format of files.

    Args:
        name: as `--format` takes it.
        suffix: of its files, by which it is told where no format is named.
        arguments: which of `ARGUMENTS` it takes.
        packages: what writing one imports.
        opened_by: what opening one imports.
        module: of `switchnorm.deploy.runtimes`: `write`, of a `switchnorm.deploy.job.Job` and a path, and `read`, of a
            path and a device, which returns a `switchnorm.deploy.runtime.Runtime`.
        summary: what it is, for the help.
        extra: of this library, which brings the packages.
        beside: suffixes of the files that a file of this format comes with.
        folds: whether it holds a network folded for inference, or the weights as they were trained.
        counts: whether it holds networks that give more or less by what is in the picture, as detectors do.
    """

    name: str
    suffix: str
    arguments: tuple[str, ...]
    packages: tuple[str, ...]
    opened_by: tuple[str, ...]
    module: str
    summary: str
    extra: str = "train"
    beside: tuple[str, ...] = ()
    folds: bool = True
    counts: bool = True

    def files(self, path: Path) -> list[Path]:
        """All files that one at `path` consists of, itself the first."""
        return [path, *(path.with_suffix(suffix) for suffix in self.beside)]

    def check_arguments(self, given: Sequence[str]) -> None:
        """Raise `InputError` for an argument that this format does not take, naming the formats that do."""
        for argument in given:
            if argument not in self.arguments:
                able = [format.name for format in FORMATS.values() if argument in format.arguments]
                raise InputError(
                    f"format {self.name!r} takes no {argument!r}; leave it out, or choose from {', '.join(able)}"
                )

    def require(self, packages: Sequence[str], doing: str) -> None:
        """Raise `InputError` where a package is not installed, with the line that installs it."""
        require(packages, doing, self.extra)

    @property
    def write(self) -> Callable[[Any, Path], None]:
        """What writes a file."""
        self.require(self.packages, f"format {self.name!r}")
        return self._function("write")

    @property
    def open(self) -> Callable[..., Any]:
        """What opens a file."""
        self.require(self.opened_by, f"a file of format {self.name!r}")
        return self._function("read")

    def _function(self, name: str) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(importlib.import_module(f"switchnorm.deploy.runtimes.{self.module}"), name)
        return found


def require(packages: Sequence[str], doing: str, extra: str = "train") -> None:
    """Raise `InputError` where a package is not installed, with the line that installs it.

    Args:
        packages: as they are imported.
        doing: what needs them.
        extra: of this library, which brings them.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise not_installed(missing, doing, extra)


#: By name, the most asked for first.
FORMATS: Mapping[str, Format] = {
    each.name: each
    for each in (
        Format(
            name="onnx",
            suffix=".onnx",
            arguments=("dynamic", "raw", "half", "int8"),
            packages=("onnx", "onnxscript", "onnxruntime"),
            opened_by=("onnxruntime",),
            extra="export",
            summary="ONNX, which ONNX Runtime, TensorRT and most others run",
            module="onnx_file",
        ),
        Format(
            name="openvino",
            suffix=".xml",
            arguments=("dynamic", "raw", "half", "int8"),
            packages=("openvino", "onnx", "onnxscript"),
            opened_by=("openvino",),
            extra="openvino",
            beside=(".bin",),
            summary="OpenVINO's .xml with its .bin, for Intel's processors",
            module="openvino_file",
        ),
        Format(
            name="pt2",
            suffix=".pt2",
            arguments=("dynamic", "raw", "half"),
            packages=("torch",),
            opened_by=("torch",),
            summary="a program of torch.export, which torch runs, compiles (AOTInductor) or lowers further",
            module="pt2_file",
        ),
        Format(
            name="executorch",
            suffix=".pte",
            arguments=("raw", "half"),
            packages=("executorch",),
            opened_by=("executorch",),
            extra="executorch",
            beside=(".json",),
            summary="ExecuTorch's program for phones and devices by XNNPACK, one picture of one size",
            counts=False,
            module="executorch_file",
        ),
        Format(
            name="safetensors",
            suffix=".safetensors",
            arguments=(),
            packages=("safetensors",),
            opened_by=("safetensors", "torch"),
            summary="the weights as trained, for this library on any machine",
            folds=False,
            module="safetensors_file",
        ),
        Format(
            name="torchscript",
            suffix=".torchscript",
            arguments=("dynamic", "raw", "half"),
            packages=("torch",),
            opened_by=("torch",),
            summary="a traced program for LibTorch, for what has no newer loader",
            module="torchscript_file",
        ),
    )
}


def find_format(name: str) -> Format:
    """The format of that name.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    return FORMATS[name]


def format_of(path: Path, name: str | None = None) -> Format:
    """The format of a file, by its name or its file's suffix.

    Raises:
        InputError: a suffix that no format has, or another than that of the named format.
    """
    by_suffix = {format.suffix: format for format in FORMATS.values()}
    if name is None:
        if path.suffix.lower() not in by_suffix:
            raise unknown("suffix", path.suffix or path.name, by_suffix)
        return by_suffix[path.suffix.lower()]
    format = find_format(name)
    if path.suffix.lower() != format.suffix:
        nearest = path.with_suffix(format.suffix)
        raise InputError(
            f"a file of format {name!r} ends with {format.suffix}, got {str(path)!r}; say {str(nearest)!r}"
        )
    return format
