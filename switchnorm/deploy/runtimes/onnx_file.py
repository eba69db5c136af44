"""Files of ONNX, run by ONNX Runtime."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchnorm.deploy.runtime import INPUT, OUTPUTS, FileRuntime, Runtime, described
from switchnorm.errors import InputError
from switchnorm.text import first_line

if TYPE_CHECKING:
    import numpy as np

    from switchnorm.deploy.job import Job

#: The version of ONNX's operators: the newest that needs no group normalization of opset 21, which ONNX Runtime
#: computes slowly on CPUs, and which every runtime of the last years knows.
OPSET = 18
#: Bytes that a file of protocol buffers can hold.
_LARGEST = (1 << 31) - (1 << 20)
#: What is computed in 8 bits: where the time goes, and what may stand between two of these without leaving 8 bits.
_QUANTIZED = ("Conv", "Gemm", "MatMul", "Add", "Relu", "Clip", "MaxPool", "GlobalAveragePool", "Concat")
#: How names of nodes begin that compute coordinates, which in 16 bits would be off by half a pixel.
_COORDINATES = "coordinates/"
#: What keeps 32 bits in a file of 16-bit numbers besides what no converter takes: statistics, whose sums and squares
#: leave the range.
_PRECISE = ("ReduceMean", "ReduceL2", "ReduceSumSquare", "ReduceSum", "InstanceNormalization", "LayerNormalization")


def write(job: Job, path: Path) -> None:
    """Write a file of ONNX.

    Raises:
        InputError: what the exporter cannot express, or a file larger than the format's 2 GB.
    """
    import onnx

    model = program(job)
    if job.half:
        model = _half(model)
    model = _ordered_metadata(model, job.metadata())
    if model.ByteSize() > _LARGEST:
        raise InputError(f"the network has {model.ByteSize() / 1e9:.1f} GB, and a file of ONNX holds 2; add half")
    onnx.save_model(model, str(path))
    if job.calibration is not None:
        _quantize(job, path)


def program(job: Job) -> Any:
    """The network as ONNX's ModelProto, in 32-bit floating point."""
    import torch
    from onnx_ir.passes.common import IdentityEliminationPass
    from onnxscript.optimizer import optimize

    from switchnorm.deploy.runtimes.traced import open_dimensions, quiet, reason, uncollected

    try:
        # The exporter traces by itself, for the forms of folded layers ask it whether it does.
        with quiet(), uncollected(), torch.no_grad():
            written = torch.onnx.export(
                job.network,
                (job.example,),
                dynamo=True,
                dynamic_shapes=open_dimensions(job),
                input_names=[INPUT],
                output_names=list(job.outputs),
                opset_version=OPSET,
                verbose=False,
                optimize=False,
            )
    except Exception as error:  # the exporter, and whatever the network does, may raise anything
        raise InputError(f"ONNX cannot express the network: {reason(error)}") from error
    if written is None:
        raise InputError("ONNX cannot express the network")
    # The exporter itself would look twice for all patterns, which takes long and finds no more than what the first
    # time leaves as it is.
    with uncollected():
        optimize(written.model, num_iterations=1)
        IdentityEliminationPass()(written.model)
    model = written.model_proto
    model.producer_name, model.producer_version = "switchnorm", job.description.version
    _name_dimensions(model, job.dynamic)
    _mark_coordinates(model, job.network)
    _forget_origin(model)
    return model


def _mark_coordinates(model: Any, network: Any) -> None:
    """Let the names of nodes tell which of them compute coordinates: those in modules that say `of_coordinates`."""
    import ast

    for node in model.graph.node:
        scopes = next((each.value for each in node.metadata_props if each.key == "pkg.torch.onnx.name_scopes"), "[]")
        path = ast.literal_eval(scopes)[:-1]  # of modules, the last entry being the operation's own name
        inner = path[-1] if path else ""
        try:
            marked = getattr(network.get_submodule(inner), "of_coordinates", False)
        except AttributeError:  # the exporter's name of something that is no module
            marked = False
        if marked:
            node.name = _COORDINATES + node.name


def _forget_origin(model: Any) -> None:
    """Remove what the exporter notes of each node's place in Python, which is as large as a small network."""
    for each in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del each.metadata_props[:]
        each.doc_string = ""
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]
            node.doc_string = ""


def _name_dimensions(model: Any, dynamic: Sequence[str]) -> None:
    """Call the open dimensions batch, height and width, where the tracer numbers them."""
    places = {"batch": 0, "height": 2, "width": 3}
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    names = {dimensions[places[name]].dim_param: name for name in dynamic if dimensions[places[name]].dim_param}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = re.sub(
                    r"[A-Za-z_]\w*", lambda found: names.get(found[0], found[0]), dimension.dim_param
                )


def _ordered_metadata(model: Any, entries: Mapping[str, str]) -> Any:
    del model.metadata_props[:]
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)
    return model


def _half(model: Any) -> Any:
    """16-bit weights and maps; images, outputs and statistics keep 32 bits."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    from switchnorm.deploy.runtimes.traced import quiet

    with quiet():
        return convert_float_to_float16(
            model,
            keep_io_types=True,
            disable_shape_infer=True,
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_PRECISE],
            node_block_list=[node.name for node in model.graph.node if node.name.startswith(_COORDINATES)],
        )


def _quantize(job: Job, path: Path) -> None:
    """Replace a file by one that computes in 8 bits, by ONNX Runtime's own tool."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from switchnorm.deploy.runtimes.traced import quiet

    prepared, done = path.with_suffix(".prepared.onnx"), path.with_suffix(".quantized.onnx")
    with quiet():
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(done),
            _Pictures(job.calibration or ()),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTIZED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    model = _ordered_metadata(onnx.load(str(done)), job.metadata())
    onnx.save_model(model, str(path))
    prepared.unlink()
    done.unlink()


class _Pictures:
    """What ONNX Runtime reads calibration from."""

    def __init__(self, pictures: Sequence[np.ndarray]) -> None:
        self._pictures = pictures
        self._rest: Iterator[np.ndarray] = iter(pictures)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input, None after the last."""
        found = next(self._rest, None)
        return None if found is None else {INPUT: found}

    def rewind(self) -> None:
        """Begin anew."""
        self._rest = iter(self._pictures)


def read(path: Path, device: str = "cpu") -> Runtime:
    """Open a file of ONNX.

    Args:
        path: of the file.
        device: "cpu", or "cuda" where the ONNX Runtime that is installed has it.

    Raises:
        InputError: no such file, or a device that this ONNX Runtime does not have.
    """
    import onnxruntime

    providers = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
    wanted = providers.get(device.partition(":")[0])
    if wanted is None or wanted[0] not in onnxruntime.get_available_providers():
        raise InputError(f"device {device!r} is none of this ONNX Runtime's; the nearest is 'cpu'")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; its warnings are about its own optimizations
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
    except Exception as error:  # its errors have no common class
        raise InputError(f"{path} is no file of ONNX that ONNX Runtime opens: {first_line(error)}") from error
    metadata = session.get_modelmeta().custom_metadata_map
    outputs = [each.name for each in session.get_outputs()]
    description, _ = described({**metadata, OUTPUTS: json.dumps(outputs)}, str(path))

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        found: Sequence[np.ndarray] = session.run(outputs, {INPUT: images})
        return found

    return FileRuntime(path, description, outputs, run, first_line)
