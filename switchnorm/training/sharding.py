"""Networks whose parameters, gradients and optimizer states are spread over processes (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from switchnorm.layers.norms.switch import whole
from switchnorm.optim.clipping import clip_gradients
from switchnorm.processes import world_size


def units(network: nn.Module) -> Iterator[nn.Module]:
    """The parts of a network that are gathered for their own forward and backward pass: the members of its sequences.

    A member that is a sequence itself is taken apart. Whatever is in none is gathered with the network.
    """
    for child in network.children():
        if isinstance(network, nn.Sequential) and not isinstance(child, nn.Sequential):
            if any(True for _ in child.parameters()):
                yield child
        else:
            yield from units(child)


class Sharded(DDPStrategy):
    """Every process keeps a share of each parameter, of its gradient and of what the optimizer knows of it.

    The network is made and loaded whole, on the CPU, and then spread. Checkpoints are those of one process: they are
    gathered tensor by tensor onto the CPU of each process, so that all find the same. Running statistics are each
    process's own.

    Lightning's own strategy for FSDP2 knows no float64, and wants tasks that spread themselves.
    """

    def configure_ddp(self) -> None:
        """Spread the network instead of wrapping it."""
        assert self.model is not None
        network: Any = self.model.model
        mesh = init_device_mesh(self.root_device.type, (world_size(),))
        for part in (*units(network), network):
            fully_shard(part, mesh=mesh)
            if mesh.device_type == "cpu":
                # Gloo of torch 2.8 takes an average for a sum, and says nothing.
                part.set_force_sum_reduction_for_comms(True)
        self.precision_plugin.clip_grad_by_norm = _clip  # type: ignore[method-assign]

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole state of the network; every process must call."""
        assert self.lightning_module is not None
        return {key: _gathered(value) for key, value in self.lightning_module.state_dict().items()}

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The whole state of an optimizer, as one process has it; every process must call."""
        found: dict[str, Any] = tree_map(_gathered, optimizer.state_dict())
        return found

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Let each optimizer have its share of what one process knew."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [each for group in optimizer.param_groups for each in group["params"]]
            shares = {
                number: {name: _share(value, parameters[number]) for name, value in entries.items()}
                for number, entries in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": shares})


class Gathered(pl.Callback):
    """Lets each process hold the whole network while it evaluates, where they have different numbers of batches."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather it."""
        for module in _spread(pl_module):
            module.set_reshard_after_forward(False)
            module.unshard()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Spread it again."""
        for module in _spread(pl_module):
            module.reshard()
            module.set_reshard_after_forward(True)


def _clip(optimizer: torch.optim.Optimizer, clip_val: float) -> None:
    clip_gradients((p for group in optimizer.param_groups for p in group["params"]), clip_val)


def _spread(module: nn.Module) -> list[Any]:
    return [each for each in module.modules() if isinstance(each, FSDPModule)]


def _gathered(value: Any) -> Any:
    return whole(value).detach().cpu() if isinstance(value, Tensor) else value


def _share(value: Any, parameter: Tensor) -> Any:
    """What a process keeps of something that an optimizer knows of each number of a parameter."""
    if not (isinstance(parameter, DTensor) and isinstance(value, Tensor) and value.shape == parameter.shape):
        return value
    there = value.to(parameter.device)
    return distribute_tensor(there, parameter.device_mesh, parameter.placements, src_data_rank=None)
