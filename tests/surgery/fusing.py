"""A network whose forward pass a test gives, and how a fused network is compared with the one before."""

from __future__ import annotations

import torch
from torch import nn

from switchnorm import layers


class Net(nn.Module):
    """A normalization, a second one, and activations, put together by a function of the network and its inputs."""

    def __init__(self, body, norm=layers.BatchNorm2d) -> None:
        super().__init__()
        self.body = body
        self.norm, self.other = norm(4), norm(4)
        self.relu, self.relu_in_place, self.relu6 = nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6()
        self.identity = nn.Identity()
        self.scale = nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x, z):
        return self.body(self, x, z)


def inputs():
    return [torch.randn(3, 4, 5, 5, dtype=torch.float64, requires_grad=True) for _ in range(2)]


def randomized(net):
    for p in net.parameters():
        nn.init.normal_(p, 0.5)
    return net.double()


def run(net, given, seed=0):
    """Output, gradients of inputs and parameters, buffers, and the inputs afterwards."""
    torch.manual_seed(seed)
    leaves = [x.detach().clone().requires_grad_() for x in given]
    handed = [leaf * 1 for leaf in leaves]  # so that a network may write into them
    y = net(*handed)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    gradients = torch.autograd.grad(y, [*leaves, *net.parameters()], cotangent, allow_unused=True)
    return [y.detach(), *handed, *gradients, *(b.clone() for b in net.buffers())]


def assert_same(ours, theirs, given):
    for training in (True, False):
        torch.testing.assert_close(
            run(ours.train(training), given), run(theirs.train(training), given), rtol=1e-10, atol=1e-10
        )
