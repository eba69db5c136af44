"""Tensors as pickles of PyTorch describe them, each checked against the storage that it lies in."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from switchnorm.unpickling import CONTAINERS, Inert, Maker

# Tensors that share a storage take no memory of their own until somebody copies them.
_SHARED, _SHARED_LEAST = 16, 128 << 20
_MOST_DIMENSIONS = 64
# Of what a tensor with attributes is made of.
_MOST_PARTS = 16

_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
#: Types of storages, by the names that pickles have for them.
STORAGES: Mapping[str, torch.dtype] = {
    **{f"{module}.{name}": dtype for module in ("torch", "torch.cuda") for name, dtype in _STORAGES.items()},
    "torch.storage.UntypedStorage": torch.uint8,
}
#: Types of tensors, for the file of torch 0.1.
TENSORS = {name.replace("Storage", "Tensor"): dtype for name, dtype in STORAGES.items() if "Untyped" not in name}
_DTYPES = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}


class NoPlainTensor(Inert):
    """A tensor that is sparse, quantized, a subclass or without numbers: read for what is beside it, and not loaded."""


_NO_PLAIN_TENSORS = (
    "_rebuild_sparse_tensor",
    "_rebuild_sparse_csr_tensor",
    "_rebuild_nested_tensor",
    "_rebuild_qtensor",
    "_rebuild_meta_tensor_no_storage",
    "_rebuild_wrapper_subclass",
    "_rebuild_device_tensor_from_numpy",
    "_rebuild_device_tensor_from_cpu_tensor",
)
_QUANTIZED = {"QInt8Storage": torch.int8, "QUInt8Storage": torch.uint8, "QInt32Storage": torch.int32}
_SCHEMES = (
    *("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric"),
    "per_channel_affine_float_qparams",
)
# What training scripts save beside the weights: their arguments (timm's and torchvision's), or an accuracy that numpy
# computed, which is numpy's own number.
_NOT_NEEDED = (
    *("argparse.Namespace", "pathlib.PosixPath", "pathlib.WindowsPath", "datetime.datetime"),
    *("collections.defaultdict", "collections.deque", "builtins.list", "builtins.dict"),
    *("__builtin__.list", "__builtin__.dict"),
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{made}" for core in ("core", "_core") for made in ("scalar", "_reconstruct")),
    "torch.serialization._get_layout",
)
#: What every checkpoint may name.
VALUES: Mapping[str, Any] = {
    **CONTAINERS,
    **STORAGES,
    **_DTYPES,
    **{f"torch.{name}": dtype for name, dtype in _QUANTIZED.items()},
    **dict.fromkeys((f"torch.{scheme}" for scheme in _SCHEMES), None),
    **dict.fromkeys(_NOT_NEEDED, Maker(Inert)),
    "torch.Size": Maker(torch.Size),
    "torch.device": Maker(torch.device),
    "torch.Tensor": Tensor,
}


class Tensors:
    """What the pickle of a checkpoint may name, tensors among it.

    Args:
        size: of the file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._left = _SHARED * size + _SHARED_LEAST
        rebuilt: dict[str, Callable[..., Any]] = {
            "_rebuild_tensor": self.view,
            "_rebuild_tensor_v2": self._with_gradient,
            "_rebuild_tensor_v3": self._of_type,
            "_rebuild_parameter": _parameter,
            "_rebuild_parameter_with_state": _parameter,
            **dict.fromkeys(_NO_PLAIN_TENSORS, NoPlainTensor),
        }
        self._makers = {f"torch._utils.{name}": Maker(make) for name, make in rebuilt.items()}
        self.names: Mapping[str, Any] = {
            **VALUES,
            **self._makers,
            "torch._tensor._rebuild_from_type_v2": Maker(self._with_attributes),
            "torch.nn.parameter.Parameter": Maker(_parameter),
        }

    def view(self, flat: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        """A view that lies within `flat`, (N,), and is no larger; one number may stand for a few.

        Raises:
            pickle.UnpicklingError: it does not, or the views of the file together are much larger than the file.
        """
        if not isinstance(flat, Tensor) or flat.dim() != 1:
            raise pickle.UnpicklingError("a tensor lies in no storage")
        sizes = isinstance(size, tuple | list) and isinstance(stride, tuple | list) and len(size) == len(stride)
        if not sizes or len(size) > _MOST_DIMENSIONS:
            raise pickle.UnpicklingError("a tensor has no sizes and strides, or too many")
        if not all(type(n) is int and 0 <= n < 1 << 63 for n in (offset, *size, *stride)):
            raise pickle.UnpicklingError("a tensor has sizes that no tensor has")
        count = math.prod(size)
        if not count:
            if math.prod(n or 1 for n in size) >= 1 << 63:
                raise pickle.UnpicklingError("a tensor has sizes that no tensor has")
            return flat.new_empty(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if last >= flat.numel() or count > max(flat.numel(), 4096):
            raise pickle.UnpicklingError("a tensor is larger than its storage")
        self._left -= count * flat.element_size()
        if self._left < 0:
            raise pickle.UnpicklingError("its tensors share so much that copies of them would fill the memory")
        # as_strided counts its offset from the start of the storage; `flat` may begin later in it.
        return flat.as_strided(size, stride, flat.storage_offset() + offset)

    def _with_gradient(
        self,
        flat: Tensor,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        requires_grad: bool = False,
        hooks: Any = None,
        metadata: Any = None,
    ) -> Tensor:
        if metadata:
            raise pickle.UnpicklingError("a tensor is the conjugate or the negative of what is stored")
        return self.view(flat, offset, size, stride)

    def _of_type(
        self,
        flat: Tensor,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        requires_grad: bool,
        hooks: Any,
        dtype: torch.dtype,
        metadata: Any = None,
    ) -> Tensor:
        return self._with_gradient(flat.view(dtype), offset, size, stride, metadata=metadata)

    def _with_attributes(self, function: Any, kind: Any, parts: tuple[Any, ...], state: Any) -> Any:
        """A tensor without what Python code had attached to it."""
        if function not in self._makers.values() or len(parts) > _MOST_PARTS:
            raise pickle.UnpicklingError("it makes a tensor of something else")
        return function.make(*parts)


def _parameter(data: Any = None, *rest: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise pickle.UnpicklingError("a parameter is made of a tensor")
    return data
