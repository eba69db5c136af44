"""What the operations of a traced graph do to scale and shape, known by their names."""

from __future__ import annotations

from typing import Any

from torch import fx, nn
from torch.nn.modules import dropout, pooling

# Functions and methods f with f(a x + b) = a f(x) + f(b) or, for a > 0, f(a x) = a f(x), so that a normalization
# further on undoes the scale of a convolution before. In-place variants count too.
_HOMOGENEOUS = frozenset(
    str.split("""
    add iadd sub isub neg sum mean cat concat concatenate stack maximum minimum amax amin
    clone contiguous to type_as float double half bfloat16
    reshape reshape_as view view_as flatten unflatten squeeze unsqueeze permute transpose swapaxes movedim T mT
    getitem chunk split tensor_split unbind narrow select index_select expand expand_as repeat roll flip
    pad interpolate upsample pixel_shuffle pixel_unshuffle channel_shuffle unfold fold
    relu leaky_relu prelu rrelu
    max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d lp_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    dropout dropout1d dropout2d dropout3d stochastic_depth
    """)
)
# Homogeneous in one operand if the others do not depend on the network's input.
_PRODUCTS = frozenset(("mul", "imul", "multiply"))
_QUOTIENTS = frozenset(("div", "truediv", "itruediv", "divide"))
_HOMOGENEOUS_MODULES = (
    *(pooling._MaxPoolNd, pooling._AvgPoolNd, pooling._AdaptiveAvgPoolNd, pooling._AdaptiveMaxPoolNd),
    *(dropout._DropoutNd, nn.Identity, nn.Flatten),
)
# What computes every value of its output from the value at the same place, so that the shape stays.
_ELEMENTWISE = frozenset(
    str.split("""
    add iadd sub isub mul imul multiply div truediv itruediv divide neg abs pow square sqrt exp log clamp clip
    clone contiguous to type_as float double half bfloat16 detach
    relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish sigmoid tanh hardswish hardtanh hardsigmoid
    softplus softsign softshrink hardshrink tanhshrink logsigmoid threshold
    dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout stochastic_depth
    """)
)
#: What has a tensor's shape or type has none of its values.
WITHOUT_VALUES = frozenset(
    str.split("""
    shape ndim dtype device size dim numel new_empty new_zeros new_ones new_full
    empty_like zeros_like ones_like rand_like randn_like
    """)
)
#: Functions that normalize.
NORMALIZING = frozenset(
    str.split("""
    batch_norm instance_norm group_norm layer_norm rms_norm local_response_norm sync_batch_norm
    native_batch_norm native_group_norm native_layer_norm native_batch_norm_legit cudnn_batch_norm miopen_batch_norm
    fused_rms_norm batch_norm_with_update
    """)
)
_TORCH = ("torch", "torchvision", "_operator", "builtins", "math")


def operation(node: fx.Node) -> str:
    """The name of a node's function, method or attribute, without the underscores of in-place and internal variants.

    That of a function which is not torch's is in quotes, for its name says nothing.
    """
    if node.target is getattr:
        return str(node.args[1])
    if isinstance(node.target, str):
        return node.target.strip("_") if node.op == "call_method" else node.op
    name = str(getattr(node.target, "__name__", "")).partition(".")[0].strip("_")
    home = str(getattr(node.target, "__module__", None) or "torch").partition(".")[0]
    return name if home in _TORCH else repr(name)


def is_homogeneous(user: fx.Node, node: fx.Node, values: set[fx.Node], module: nn.Module | None) -> bool:
    """Whether `user` is linear or positively homogeneous in its operand `node`.

    Args:
        user: an operation.
        node: one of its operands.
        values: the nodes whose values depend on those of the network's input.
        module: what `user` calls, if that is a module.
    """
    if module is not None:
        cls = next((cls for cls in _HOMOGENEOUS_MODULES if isinstance(module, cls)), None)
        return cls is not None and type(module).__module__.startswith("torch.nn.")
    name = operation(user)
    if name in _PRODUCTS or name in _QUOTIENTS:
        alone = all(other is node or other not in values for other in user.all_input_nodes)
        numerator = name in _PRODUCTS or user.args[:1] == (node,)
        return alone and numerator and user.args.count(node) == 1
    return name in _HOMOGENEOUS


def is_elementwise(node: fx.Node) -> bool:
    """Whether an operation keeps the shape of its operands."""
    return operation(node) in _ELEMENTWISE


def makes_flat(node: fx.Node) -> bool:
    """Whether the result of an operation is (N, C), whatever it is given."""
    name, given = operation(node), (*node.args[1:], *node.kwargs.values())
    if name == "flatten":
        return given in ((1,), (1, -1))
    if name in ("view", "reshape"):
        sizes = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
        return len(sizes) == 2
    return name == "mean" and not _keeps(node) and _dims(node) in ([2, 3], [2, 3, 4])


def makes_single(node: fx.Node) -> bool:
    """Whether the result of an operation has maps of a single place, whatever it is given."""
    name = operation(node)
    if name.startswith(("adaptive_avg_pool", "adaptive_max_pool")):
        size = node.args[1] if len(node.args) > 1 else node.kwargs.get("output_size")
        return (
            list(size) == [1] * len(size) if isinstance(size, (tuple, list)) else size is not None and bool(size == 1)
        )
    return name in ("mean", "amax") and _keeps(node) and _dims(node) in ([2], [2, 3], [2, 3, 4])


def _keeps(node: fx.Node) -> bool:
    return bool(node.kwargs.get("keepdim", len(node.args) > 2 and node.args[2]))


def _dims(node: fx.Node) -> list[Any]:
    """The dimensions that a reduction goes over, those of maps counted from the front."""
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis"))
    dims = list(dims) if isinstance(dims, (tuple, list)) else [dims]
    if not all(isinstance(dim, int) for dim in dims):
        return []
    found = sorted(int(str(dim)) for dim in dims)
    # (-2, -1) of (N, C, H, W).
    return [dim + 2 + len(found) for dim in found] if found and found[0] == -len(found) else found
