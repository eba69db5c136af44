"""Weights as they were trained, with how the network is made again: for this library, to be run and trained on.

Not folded: a folded network is no longer one that `create_model` makes, has no choice to look at and cannot be trained
on, and to fold takes no longer than to read. The file is a checkpoint like those of `switchnorm convert` too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from switchnorm import __version__
from switchnorm.classes import Classes
from switchnorm.deploy.description import DIMENSIONS, KEY, Description
from switchnorm.deploy.runtime import described
from switchnorm.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from switchnorm.deploy.job import Job
    from switchnorm.deploy.runtimes.network import NetworkRuntime


def write(job: Job, path: Path) -> None:
    """Write the network of a job as it was before folding; raises as `prepared`."""
    content, _ = prepared(job.source, job.description)
    # Not by safetensors' own writer, whose files only their owner may read.
    path.write_bytes(content)


def prepared(network: nn.Module, description: Description) -> tuple[bytes, Description]:
    """A file with the weights of a network.

    Args:
        network: one that its name makes again, see `switchnorm.deploy.recognised.network_of`.
        description: of it; where it names no network, that is found out.

    Returns:
        The content of the file, and the description in it.

    Raises:
        InputError: a network that cannot be made again, with the reason, or that has anything but plain tensors.
    """
    from safetensors.torch import save

    from switchnorm.deploy.recognised import network_of

    entries = network_of(network, None if description.network is None else description.network["name"])
    description = replace(description, network=entries, folded=False, half=False, int8=False)
    description = replace(description, size=None, dynamic=DIMENSIONS)
    state = dense(network)
    return _ordered(save(state, metadata_of(network, state, description))), description


def _ordered(content: bytes) -> bytes:
    """A file whose metadata is in the order of its names: safetensors writes it in another one each time.

    The same network is then the same file, which the hub does not take twice. A file is the length of its header, in
    eight bytes, the header, in JSON that spaces fill up to a multiple of eight bytes, and the numbers.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def dense(network: nn.Module) -> dict[str, Tensor]:
    """The state of a network on the CPU, in tensors of their own.

    Raises:
        InputError: an entry that is no plain tensor of numbers.
    """
    import torch
    from torch import Tensor

    found = {}
    for key, value in network.state_dict().items():
        if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_quantized:
            raise InputError(f"{key} of the network is no plain tensor of numbers; save it dense and unquantized")
        found[key] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    return found


def metadata_of(network: nn.Module, state: Mapping[str, Tensor], description: Description) -> dict[str, str]:
    """What the file says of itself: the description, and what checkpoints that were converted say."""
    from switchnorm.surgery import importance
    from switchnorm.weights.metadata import Metadata
    from switchnorm.weights.recognise import norm_of

    name = None if description.network is None else description.network["name"]
    mixed = {each.statistics for each in importance(network)}
    statistics = mixed.pop() if len(mixed) == 1 else None
    classes = Classes(description.classes, description.colors) if description.classes else None
    known = Metadata(network=name, norm=norm_of(state), statistics=statistics, classes=classes, order=tuple(state))
    return {**known.write(__version__), KEY: description.to_json()}


def read(path: Path, device: str = "cpu") -> NetworkRuntime:
    """Open a file: make its network again, and give it the weights. No code is run that the file holds.

    Args:
        path: of the file.
        device: as torch calls it.

    Raises:
        InputError: no such file, a damaged one, one that this library did not write, or a network that cannot be made.
    """
    state, description = contents(path)
    return network_runtime(state, description, str(path), device)


def contents(path: Path) -> tuple[dict[str, Tensor], Description]:
    """The weights in a file, and the description of their network; raises as `read`."""
    from switchnorm.weights.formats import SAFETENSORS, read_content

    content = read_content(path)
    if content.format != SAFETENSORS:
        raise InputError(f"{path} is no safetensors file")
    metadata = content.metadata or {}
    if not metadata.get(KEY, "").startswith("{"):
        hint = f"`switchnorm predict PICTURE --weights {path} --model NAME` takes any weights"
        raise InputError(f"{path} holds weights alone, and does not say how pictures are shown to them; {hint}")
    description, _ = described(metadata, str(path))
    if description.network is None:
        raise InputError(f"{path} does not say which network its weights are of")
    return dict(content.value), description


def network_runtime(state: Mapping[str, Tensor], description: Description, source: str, device: str) -> NetworkRuntime:
    """The network of a description with weights, see `read`."""
    from switchnorm.deploy.rebuild import rebuilt
    from switchnorm.deploy.runtimes.network import NetworkRuntime
    from switchnorm.weights import load_state

    assert description.network is not None
    network = rebuilt(description.network, state, source)
    load_state(network, state, source)
    return NetworkRuntime(network, description, device)
