"""What layers with batch statistics normalize by outside of their own training: running statistics, or a batch's."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import has_batch_statistics, kind_of, norm_of
from switchnorm.layers.arguments import check_model, check_momentum
from switchnorm.layers.kinds import buffer_of
from switchnorm.surgery.alike import Likeness
from switchnorm.surgery.batch import batch_layers, check_support
from switchnorm.surgery.freeze import is_frozen
from switchnorm.surgery.importance import is_sparse
from switchnorm.surgery.kinds import batch_sync
from switchnorm.surgery.select import Choice, Selection


def freeze_statistics(model: nn.Module, include: Choice | None = None) -> None:
    """Let layers with running statistics use these in training too, until somebody calls `train()` on them.

    Scale and shift, and SN's importance, are trained all the same.

    Args:
        model: any model.
        include: which layers: a glob over their names, a sequence of globs, or a predicate of name and module; None
            for all.

    Raises:
        InputError: a pattern that matches no layer with running statistics.
    """
    check_model("freeze_statistics", model)
    for _, layer in chosen_tracking_layers(model, include):
        layer.training = False


def chosen_tracking_layers(model: nn.Module, include: Choice | None = None) -> list[tuple[str, nn.Module]]:
    """The layers with running statistics that a choice means, and their names; errors as of `freeze_statistics`."""
    named = [(name, layer) for name, layer in batch_layers(model) if _tracks(layer)]
    chosen = Selection(include, None, [name for name, _ in named], "layer with running statistics")
    return [(name, module) for name, module in named if chosen.refusal([name], module) is None]


def has_seen(layer: nn.Module) -> bool:
    """Whether a layer's running statistics are others than those that it begins with."""
    first = {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0}
    kept = ((buffer_of(layer, name), value) for name, value in first.items())
    return any(buffer is not None and bool((buffer != value).any()) for buffer, value in kept)


def evaluation_mode(model: nn.Module) -> None:
    """Put a model into evaluation mode, but for modules that give training another output, so that it can be trained.

    Such a module says so by an attribute `output_in_training` that is true: the decoders of this library's networks for
    segmentation and its torchvision ones do, whose deep supervision only training has. What is inside of it is in
    evaluation mode all the same.
    """
    check_model("evaluation_mode", model)
    for module in model.modules():
        module.training = bool(getattr(module, "output_in_training", False))


def set_momentum(model: nn.Module, momentum: float | None) -> int:
    """Set the momentum of all running statistics, whoever wrote their layers, in place.

    Args:
        model: any model.
        momentum: PyTorch's, the share of the new batch, in [0, 1]; None averages over all batches since the last reset.

    Returns:
        How many layers keep running statistics; 0 where the momentum has no effect.

    Raises:
        InputError: a momentum outside of its range, or a layer that keeps running statistics and has no `momentum`;
            before anything has changed.
    """
    check_model("set_momentum", model)
    momentum = check_momentum(momentum)
    layers = [(name, module) for name, module in model.named_modules() if _keeps_statistics(module)]
    for name, layer in layers:
        if not hasattr(layer, "momentum"):
            raise InputError(
                f"layer {name!r} cannot take momentum {momentum}: {type(layer).__name__} has running statistics and no "
                "attribute momentum; leave momentum out"
            )
    for _, layer in layers:
        layer.momentum = momentum
    return len(layers)


def tracking_layers(model: nn.Module) -> list[Any]:
    """The layers with batch statistics that keep running ones and are not frozen (see `freeze`), whoever wrote them."""
    return [layer for _, layer in batch_layers(model) if _tracks(layer) and not is_frozen(layer)]


def running_statistics(model: nn.Module) -> dict[str, Tensor]:
    """The running statistics of a model's layers, whoever wrote them, by their keys in its state dict.

    These are the `tracked_buffers` of floating point. A layer under several names has several keys for its tensors.
    """
    return {key: buffer for key, buffer in tracked_buffers(model).items() if buffer.is_floating_point()}


def tracked_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Running statistics with their counters, by their keys in the model's state dict.

    These are the buffers of layers with batch statistics, whatever they are called, and of normalizations with a
    `running_mean`; but for SSN's radius, and what no state dict holds.
    """
    return {
        f"{prefix}.{name}".removeprefix("."): buffer
        for prefix, module in model.named_modules(remove_duplicate=False)
        if has_batch_statistics(module) or isinstance(buffer_of(module, "running_mean"), Tensor)
        for name, buffer in module.named_buffers(recurse=False)
        if name not in module._non_persistent_buffers_set and not (name == "radius" and is_sparse(module))
    }


def calibrate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    like: nn.Module | None = None,
) -> None:
    """Recompute the running statistics of all layers with batch statistics as the average over `batches`.

    Frozen parts stay as they are (see `freeze`).

    This is the "batch average" of the papers. Those layers run in training mode and all others in evaluation mode,
    without gradients; afterwards modes are as before, and after an error statistics too.

    With `like`, the network as it was before a switch, scale and shift of each normalization also become those after
    which its channels have the means and deviations that they have in the layer of the same name there, both in
    evaluation mode. Layers follow one another as they are called, so that later ones make up for what earlier ones
    could not. A few batches do, larger ones better.

    A detector is in evaluation mode but for these layers, so that its heads see proposals as in evaluation, more than
    training draws, and a mask head what is detected. Layers that see no samples at all keep their statistics, which is
    said (`CalibrationWarning`).

        before = copy.deepcopy(model)
        switchnorm.switch(model, "gn+ws")
        switchnorm.calibrate(model, batches, like=before)

    Args:
        model: any model; without `like`, one without running batch statistics stays as it is.
        batches: inputs, or tuples or lists that begin with them, as (pictures, targets), or dictionaries. Each counts
            the same.
        forward: called with the model and a batch; by default the model is called with the inputs, and with the targets
            where they are a list of dictionaries, which are moved to its device. Of a dictionary it gets by name what
            its forward pass has parameters for, as networks of transformers have, or else the whole.
        like: the model before the switch, with the same names of layers; it stays as it is.

    Raises:
        InputError: no module, no batch at all, a layer with batch statistics that does not support it, layers that do
            not pair with those of `like`, or statistics that are not finite; the model is as before then.
    """
    check_model("calibrate", model)
    if like is not None:
        check_model("calibrate", like, "like")
    if isinstance(batches, (Tensor, Mapping, str)) or not isinstance(batches, Iterable):
        # A batch can be iterated over too, sample by sample.
        nearest = "[batch]" if isinstance(batches, (Tensor, Mapping)) else "a list"
        kind = type(batches).__name__
        raise InputError(f"calibrate takes batches that can be iterated over, got {kind}; give {nearest}")
    check_support(model, "calibrate")
    layers = tracking_layers(model)
    likeness = None if like is None else Likeness(model, like)
    written = [] if likeness is None else likeness.tensors()
    if not layers and not written:
        return
    batches = iter(batches)
    try:
        first = next(batches)
    except StopIteration:
        raise InputError("calibrate needs at least one batch, got none; the statistics are as before") from None
    run = forward or _call
    before = _copies(layers)
    with (
        _restored_after_an_error(layers, written),
        _averaging(model, layers),
        _nothing_counted_as_nothing(layers),
        torch.no_grad(),
        nullcontext(run) if likeness is None else likeness.forward(run) as run,
    ):
        _forget(layers)
        for number, batch in enumerate(chain((first,), batches), 1):
            run(model, batch)
            _check_finite(model, layers, number)
    _keep_unseen(model, layers, before)


class CalibrationWarning(UserWarning):
    """Layers whose running statistics are not calibrated, since they saw no samples."""


def _check_finite(model: nn.Module, layers: list[Any], batch: int) -> None:
    """Raise `InputError` where statistics that are calibrated are not finite after a batch, counted from 1."""
    ours = {id(buffer) for layer in layers for buffer in layer.buffers(recurse=False)}
    for name, buffer in running_statistics(model).items():
        if id(buffer) in ours and not buffer.is_meta and not buffer.isfinite().all():
            raise InputError(
                f"calibrate: {name!r} is not finite after batch {batch}; look at its inputs, or at the weights before "
                "this layer; the statistics are as before"
            )


def _keep_unseen(model: nn.Module, layers: list[Any], before: list[tuple[Tensor, Tensor]]) -> None:
    """Restore the running statistics of layers that have seen nothing since they forgot all, and say it."""
    copies = dict(before)
    unseen = []
    for name, layer in batch_layers(model):
        counter = buffer_of(layer, "num_batches_tracked") if layer in layers else None
        if counter is not None and not counter.is_meta and int(counter) == 0:
            unseen.append(name)
            _restore([(buffer, copies[buffer]) for buffer in layer.buffers(recurse=False)])
    if unseen:
        number = "1 layer" if len(unseen) == 1 else f"{len(unseen)} layers"
        warnings.warn(
            f"calibrate: {number} saw no samples, {unseen[0]!r} among them; running statistics there stay as they were",
            CalibrationWarning,
            stacklevel=3,
        )


@contextmanager
def _nothing_counted_as_nothing(layers: list[Any]) -> Iterator[None]:
    """Let a batch without samples not count where other libraries' layers count it, whose average then lacks one."""

    def uncounted(layer: nn.Module, args: tuple[Any, ...], _: Any) -> None:
        counter = buffer_of(layer, "num_batches_tracked")
        if args and isinstance(args[0], Tensor) and args[0].numel() == 0 and counter is not None:
            counter.sub_(1)

    foreign = [layer for layer in layers if norm_of(layer) is None and batch_sync(layer) is False]
    hooks = [layer.register_forward_hook(uncounted) for layer in foreign]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Let layers with batch statistics normalize by those of each batch that they see, within this context.

    Everything else is in evaluation mode, frozen parts too (see `freeze`). Ghost batches hold. Afterwards modes and
    running statistics are as before.

    Args:
        model: any model; one without batch statistics stays as it is.

    Raises:
        InputError: a layer with batch statistics that does not support calibration, which this is over one batch.
    """
    check_model("batch_statistics", model)
    check_support(model, "calibrate")
    layers = [layer for _, layer in batch_layers(model) if not is_frozen(layer)]
    before = _copies(layers)
    with _averaging(model, layers):
        # Layers such as "bcn" normalize by their running statistics in training too: the average over this batch alone.
        hooks = [layer.register_forward_pre_hook(lambda layer, _: _forget([layer])) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            _restore(before)


def _tracks(layer: nn.Module) -> bool:
    """Whether a layer with a batch statistic has running ones, which others than ours may call as they like."""
    if hasattr(layer, "running_mean"):
        return layer.running_mean is not None
    return next(layer.buffers(recurse=False), None) is not None


def _keeps_statistics(layer: nn.Module) -> bool:
    """Whether training moves running statistics of a layer; torch's Instance Normalization may keep some too."""
    kind = kind_of(layer)
    if kind is not None and kind.frozen:
        return False
    return isinstance(buffer_of(layer, "running_mean"), Tensor) or (has_batch_statistics(layer) and _tracks(layer))


def _call(model: nn.Module, batch: Any) -> None:
    if isinstance(batch, Mapping):
        return _call_by_names(model, batch)
    listed = isinstance(batch, (tuple, list))
    inputs = (*batch[:1], *_targets(*batch[1:])) if listed else (batch,)
    if not inputs or isinstance(inputs[0], str):
        raise InputError(f"calibrate: {batch!r:.60} is no batch; expected a tensor, or a tuple that begins with one")
    try:
        inspect.signature(model.forward).bind(*inputs)
    except TypeError as error:
        raise _misfit(model, "inputs and targets", "model(*batch)") from error
    model(*_moved(inputs, _device_of(model)))


def _device_of(model: nn.Module) -> torch.device | None:
    return next((tensor.device for tensor in chain(model.buffers(), model.parameters())), None)


def _call_by_names(model: nn.Module, batch: Mapping[Any, Any]) -> None:
    """Call a model with those entries of a batch that its forward pass has parameters for; with all where none is."""
    moved = {name: _moved(each, _device_of(model)) for name, each in batch.items()}
    taken = inspect.signature(model.forward).parameters
    every = any(each.kind is each.VAR_KEYWORD for each in taken.values())
    named = {name: each for name, each in moved.items() if every or name in taken}
    try:
        if named:
            model(**named)
        else:
            model(moved)
    except (TypeError, AttributeError, KeyError) as error:
        raise _misfit(model, f"the entries {', '.join(map(repr, batch))}", "model(batch[...])") from error


def _misfit(model: nn.Module, given: str, call: str) -> InputError:
    forward = f"{type(model).__name__}.forward({', '.join(inspect.signature(model.forward).parameters)})"
    return InputError(f"calibrate: a batch of {given} does not fit {forward}; give forward=lambda model, batch: {call}")


def _targets(targets: Any = None, *_: Any) -> tuple[Any, ...]:
    """What comes after the pictures where it is a detector's targets, a list of dictionaries; nothing otherwise."""
    listed = isinstance(targets, (tuple, list)) and len(targets) > 0
    return (targets,) if listed and all(isinstance(target, dict) for target in targets) else ()


def _moved(value: Any, device: torch.device | None) -> Any:
    """Tensors, also those in lists, tuples and dictionaries, on a device; everything else as it is."""
    if isinstance(value, Tensor):
        return value.to(device)
    if type(value) in (list, tuple):
        return type(value)(_moved(each, device) for each in value)
    return {key: _moved(each, device) for key, each in value.items()} if type(value) is dict else value


@contextmanager
def _averaging(model: nn.Module, layers: list[Any]) -> Iterator[None]:
    """Let `layers` train and average over what they see, and everything else evaluate; then modes are as before."""
    modes = [(module, module.training) for module in model.modules()]
    momenta = [layer.momentum for layer in layers]
    try:
        for module, _ in modes:
            module.training = False
        for layer in layers:
            layer.training, layer.momentum = True, None
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _forget(layers: list[Any]) -> None:
    for layer in layers:
        layer.reset_running_stats()


@contextmanager
def _restored_after_an_error(layers: list[Any], others: Sequence[Tensor] = ()) -> Iterator[None]:
    before = _copies(layers) + [(tensor, tensor.clone()) for tensor in others]
    try:
        yield
    except BaseException:
        _restore(before)
        raise


def _copies(layers: list[Any]) -> list[tuple[Tensor, Tensor]]:
    """The buffers of `layers`, counters included, and copies of them."""
    return [(buffer, buffer.clone()) for layer in layers for buffer in layer.buffers(recurse=False)]


def _restore(copies: list[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for buffer, value in copies:
            buffer.copy_(value)
