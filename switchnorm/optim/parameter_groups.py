"""Parameter groups for any optimizer: which parameters decay, and at which share of the learning rate they learn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers.arguments import check_model
from switchnorm.optim.logits import logits_of
from switchnorm.optim.numbers import check_number
from switchnorm.surgery.importance import is_sparse, mixing_layers
from switchnorm.surgery.kinds import is_norm

#: What a parameter is: one of several dimensions that belongs to no normalization; a bias, or a scale or shift; a logit
#: of SN; a logit of SSN.
Kind: TypeAlias = Literal["weight", "vector", "switchable", "sparse"]


def parameter_groups(
    model: nn.Module,
    *,
    lr: float | Tensor,
    weight_decay: float = 0.0,
    decay_norms: bool = True,
    decay_logits: bool = False,
    sparse_lr_factor: float = 0.1,
    bias_lr_factor: float = 1.0,
) -> list[dict[str, Any]]:
    """Every trainable parameter once, in groups for `torch.optim.SGD`, `AdamW` or any other optimizer.

    As in SSN's published training, logits do not decay and those of SSN learn at a tenth of the rate. A group holds
    "params", "lr" and "weight_decay" alone. Logits of SN, then logits of SSN come last, each in a group of their own;
    all others are in one, or in several where some do not decay or biases learn at another rate. The order is that of
    the model's parameters, always the same for the same model.

    Args:
        model: the network, after `switch`: an optimizer does not learn of layers that come later.
        lr: the learning rate; a tensor where the optimizer takes one.
        weight_decay: of all parameters that decay.
        decay_norms: whether biases, and scales and shifts of normalizations, decay.
        decay_logits: whether logits of SN decay, as in SN's published training; those of SSN never do.
        sparse_lr_factor: the share of the learning rate that logits of SSN get.
        bias_lr_factor: multiplies the learning rate of biases and of the normalizations' shift; 2 in Detectron's
            training, and so in SN's published one of detectors.

    Raises:
        InputError: no module, one without trainable parameters or with lazy ones, or a negative number or none.
    """
    check_model("parameter_groups", model)
    for name, value in (
        ("lr", lr),
        ("weight_decay", weight_decay),
        ("sparse_lr_factor", sparse_lr_factor),
        ("bias_lr_factor", bias_lr_factor),
    ):
        if not check_number(name, value) >= 0:
            raise InputError(f"{name} must be at least 0, got {value}")
    groups = grouped(
        (
            parameter,
            kind,
            int(bias),
            rule_of(
                kind, lr * bias_lr_factor if bias else lr, weight_decay, decay_norms, decay_logits, sparse_lr_factor
            ),
        )
        for name, parameter, kind in trainable(model)
        for bias in (bias_lr_factor != 1 and is_bias(name, kind),)
    )
    if not groups:
        raise InputError("no parameter of the model requires a gradient; requires_grad_(True) makes one trainable")
    return groups


def trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, Kind]]:
    """The trainable parameters of a model, each once under its first name, and what they are."""
    kinds: dict[int, Kind] = {id(p): "vector" for m in model.modules() if is_norm(m) for p in m.parameters()}
    for _, layer in mixing_layers(model):
        kind: Kind = "sparse" if is_sparse(layer) else "switchable"
        kinds |= {id(p): kind for logits in logits_of(layer) for p in logits.parameters()}
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.UninitializedParameter):
            raise InputError(f"parameter {name!r} is lazy and not initialised; run a batch first")
        if parameter.requires_grad:
            yield name, parameter, kinds.get(id(parameter), "weight" if parameter.dim() > 1 else "vector")


def is_bias(name: str, kind: Kind) -> bool:
    """Whether a parameter of that name is a bias, or the shift of a normalization."""
    return kind == "vector" and name.rpartition(".")[2].endswith("bias")


def rule_of(
    kind: Kind,
    lr: float | Tensor,
    weight_decay: float,
    decay_norms: bool,
    decay_logits: bool,
    sparse_lr_factor: float,
) -> dict[str, Any]:
    """How a parameter of that kind is trained; the arguments are those of `parameter_groups`."""
    decays = {"weight": True, "vector": decay_norms, "switchable": decay_logits, "sparse": False}[kind]
    rate = lr * sparse_lr_factor if kind == "sparse" else lr
    return {"lr": rate, "weight_decay": weight_decay if decays else 0.0}


def grouped(assigned: Iterable[tuple[nn.Parameter, Kind, int, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Groups of the parameters that are trained alike, logits last.

    Args:
        assigned: parameters, each with its kind, a place that orders groups of one kind, and the entries of its group.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for parameter, kind, place, rule in assigned:
        # All rates of a kind and place are one number, which may be a tensor and then has no order.
        key = (_ORDER[kind], place, rule["weight_decay"])
        groups.setdefault(key, {"params": [], **rule})["params"].append(parameter)
    return [group for _, group in sorted(groups.items(), key=lambda item: item[0][:2])]


_ORDER: dict[Kind, int] = {"weight": 0, "vector": 0, "switchable": 1, "sparse": 2}
