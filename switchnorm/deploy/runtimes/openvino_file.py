"""OpenVINO's files, an .xml with its .bin."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchnorm.deploy.description import KEY
from switchnorm.deploy.runtime import INPUT, OUTPUTS, FileRuntime, Runtime, described
from switchnorm.errors import InputError
from switchnorm.text import last_line

if TYPE_CHECKING:
    import numpy as np

    from switchnorm.deploy.job import Job


def write(job: Job, path: Path) -> None:
    """Write a file of OpenVINO with its .bin beside it, by way of ONNX.

    Raises:
        InputError: as the writer of ONNX, or what OpenVINO cannot read of it, or int8 without nncf.
    """
    import onnx
    import openvino

    from switchnorm.deploy.runtimes import onnx_file
    from switchnorm.deploy.runtimes.traced import quiet

    if path.suffix != ".xml":
        raise InputError(f"OpenVINO wants .xml in small letters, got {path.name!r}; say {path.stem + '.xml'!r}")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        file = Path(folder) / "network.onnx"
        onnx.save_model(onnx_file.program(job), str(file))
        try:
            with quiet():
                model = openvino.convert_model(str(file))
        except Exception as error:  # OpenVINO's errors have no common class
            raise InputError(f"OpenVINO cannot express the network: {last_line(error)}") from error
        if job.calibration is not None:
            model = _quantized(model, job.calibration)
        for key, value in job.metadata().items():
            model.set_rt_info(value, key)
        openvino.save_model(model, str(path), compress_to_fp16=job.half)


def _quantized(model: Any, calibration: Sequence[np.ndarray]) -> Any:
    """A model that computes in 8 bits, by OpenVINO's own tool."""
    from switchnorm.deploy.formats import find_format
    from switchnorm.deploy.runtimes.traced import quiet

    find_format("openvino").require(("nncf",), "int8 of format 'openvino'")
    import nncf

    with quiet():
        # Mixed: maps that no ReLU ends have a zero of their own.
        preset = nncf.QuantizationPreset.MIXED
        return nncf.quantize(model, nncf.Dataset(list(calibration)), preset=preset, subset_size=len(calibration))


def read(path: Path, device: str = "cpu") -> Runtime:
    """Open a file of OpenVINO.

    Args:
        path: the .xml, beside its .bin.
        device: as OpenVINO calls it, "cpu" or "gpu".

    Raises:
        InputError: no such file, its .bin is missing, or a device that OpenVINO does not find.
    """
    import openvino

    if not path.with_suffix(".bin").is_file():
        raise InputError(f"{path} lacks its {path.with_suffix('.bin').name}; keep the two files together")
    core = openvino.Core()
    known = [name.lower() for name in core.available_devices]
    if device.lower() not in known:
        raise InputError(f"device {device!r} is none that OpenVINO finds; the nearest is {known[0]!r}")
    try:
        model = core.read_model(str(path))
        # Where a processor has 16-bit matrices OpenVINO would take these unasked.
        compiled = core.compile_model(model, device.upper(), {"INFERENCE_PRECISION_HINT": "f32"})
    except Exception as error:  # OpenVINO's errors have no common class
        raise InputError(f"{path} is no file that OpenVINO opens: {last_line(error)}") from error
    info = model.get_rt_info()
    metadata = {key: str(info[key].value) for key in (KEY, OUTPUTS) if key in info}
    description, names = described(metadata, str(path))
    found = [next(iter(sorted(output.get_names())), "") for output in compiled.outputs]
    names = names or tuple(found)

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        results = compiled({INPUT: images})
        return [results[place] for place in range(len(names))]

    return FileRuntime(path, description, names, run)
