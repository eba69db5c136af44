"""Programs of torch.export, .pt2."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from switchnorm.deploy.description import KEY
from switchnorm.deploy.runtime import OUTPUTS, FileRuntime, Runtime, described
from switchnorm.deploy.runtimes.harmless import harmless
from switchnorm.errors import InputError
from switchnorm.text import first_line, from_json

if TYPE_CHECKING:
    from switchnorm.deploy.job import Job

#: What an archive of a program may hold: no compiled code, no pickled objects.
_ENTRIES = re.compile(
    r"[^/]+/(?:version|byteorder|\.data/\w+|\.format_version|\.storage_alignment|archive_format|archive_version|"
    r"models/\w+\.json|extra/\w+|data/weights/(?:weight_\d+|\w+_config\.json)|"
    r"data/constants/(?:tensor_\d+|\w+_config\.json)|data/sample_inputs/\w+\.pt)"
)
#: A name without two underscores, by which Python's own attributes begin, but for those of operators.
_NAME = r"(?:__(?:i?and|i?or|i?xor|[lr]shift)__|(?:(?!__)\w)+)"
#: What a program may call.
_CALLS = re.compile(
    rf"(?:torch\.ops\.(?:aten|prims|prim|torchvision|higher_order|quantized_decomposed)\.{_NAME}(?:\.{_NAME})?"
    rf"|_operator\.{_NAME}|operator\.{_NAME}|math\.{_NAME}|torch\.(?:sym_|_sym_){_NAME})"
)
_LARGEST_PROGRAM = 256 << 20


def write(job: Job, path: Path) -> None:
    """Write a program.

    Raises:
        InputError: what torch.export cannot follow.
    """
    import torch

    from switchnorm.deploy.runtimes.traced import quiet, traced

    program = traced(job.in_half())
    program._example_inputs = None  # it would be kept whole, and says nothing
    for node in program.graph.nodes:  # where it is in Python, with the paths of this machine
        node.meta.pop("stack_trace", None)
    content = io.BytesIO()
    with quiet():
        torch.export.save(program, content, extra_files=job.metadata())
    path.write_bytes(content.getbuffer())  # torch raises no OSError where a disk is full


def read(path: Path, device: str = "cpu") -> Runtime:
    """Open a program. Nothing in the file is run but operations on tensors.

    Args:
        path: of the file.
        device: as torch calls it.

    Raises:
        InputError: no such file, or one that holds anything else than a program and its tensors.
    """
    import torch

    from switchnorm.deploy.runtimes.traced import on_arrays, quiet

    metadata: dict[str, Any] = {KEY: "", OUTPUTS: ""}
    _check(path)
    # torch falls back to running what a pickle says where it cannot be read as tensors alone.
    with mock.patch.dict("os.environ", {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}), quiet():
        try:
            program = torch.export.load(str(path), extra_files=metadata)
        except Exception as error:  # a damaged file may raise anything
            raise InputError(f"{path} is no program of torch.export: {str(error).strip()[:200]!r}") from error
    found = {key: value for key, value in metadata.items() if value}
    description, names = described(found, str(path))
    network = program.module().to(device)
    return FileRuntime(path, description, names, on_arrays(network, device), first_line)


def _check(path: Path) -> None:
    """Raise `InputError` for an archive that holds more than a program of known operations and its tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if _ENTRIES.fullmatch(entry.filename) is None:
                    raise _refused(path, f"an entry {entry.filename!r:.80}")
                if not entry.filename.endswith(".json"):
                    continue
                if entry.file_size > _LARGEST_PROGRAM:
                    raise _refused(path, f"{entry.filename!r:.80} of {entry.file_size >> 20} MB")
                content = from_json(archive.read(entry).decode("utf-8"), f"{path}: {entry.filename}")
                for key, value in _members(content):
                    _check_member(path, key, value)
    except (zipfile.BadZipFile, UnicodeDecodeError, OSError, EOFError, NotImplementedError) as error:
        raise InputError(f"{path} is no program of torch.export: {error}") from error


def _check_member(path: Path, key: str, value: Any) -> None:
    if key == "use_pickle" and value is not False:
        raise _refused(path, "a pickled object")
    if key == "path_name" and re.fullmatch(r"(?:weight|tensor)_\d+", str(value)) is None:
        raise _refused(path, f"an object {str(value)!r:.80}")
    if key == "target" and _CALLS.fullmatch(str(value)) is None:
        raise _refused(path, f"a call of {str(value)!r:.80}")
    # torch gives these texts to Python, or to a library that does.
    for text in value if key == "guards_code" else [value] if key == "expr_str" else []:
        if not isinstance(text, str) or not harmless(text):
            raise _refused(path, f"a formula {text!r:.80}")


def _members(content: Any) -> Iterator[tuple[str, Any]]:
    """All members of objects in JSON, at any depth."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _refused(path: Path, what: str) -> InputError:
    return InputError(f"{path} holds {what}, which no export of this library writes; it is not opened")
