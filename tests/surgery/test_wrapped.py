"""Models that others have wrapped or cut, and what must come after a switch."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torchvision
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torchvision.ops import roi_align

from switchnorm.errors import InputError
from switchnorm.surgery import ghost, plan_switch, switch
from tests.surgery.nets import small_net


@pytest.fixture
def alone(tmp_path):
    """A process group of this process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class DeepSpeedEngine(nn.Module):
    """Of another library, which is known by its name."""

    def __init__(self, module) -> None:
        super().__init__()
        self.module = module


WRAPPERS = {
    "DDP": DistributedDataParallel,
    "FSDP": lambda net: FullyShardedDataParallel(net, device_id=torch.device("cpu")),
    "fully_shard": lambda net: fully_shard(net, mesh=dist.device_mesh.init_device_mesh("cpu", (1,))),
    "DeepSpeed": DeepSpeedEngine,
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_model_or_part_is_refused_before_anything_changes(name, alone):
    wrapped = WRAPPERS[name](small_net())
    for model, what in ((wrapped, "the model"), (nn.Sequential(wrapped), "part '0' of the model")):
        before = list(model.modules())
        with pytest.raises(InputError, match=f"{what} is wrapped by {name}.*switch the model before it is wrapped"):
            switch(model, "sn")
        assert list(model.modules()) == before


def test_what_stays_outside_of_the_wrapper_may_change(alone):
    net = nn.Sequential(DistributedDataParallel(small_net()), nn.BatchNorm1d(5))
    assert [change.names for change in plan_switch(net, "sn", include="1").changes] == [("1",)]
    done = DistributedDataParallel(switch(small_net(), "sn"))
    assert plan_switch(done, "sn").changes == []


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_wrappers_that_look_at_the_model_anew_may_be_switched_inside(wrap):
    torch.compiler.reset()
    net = small_net().eval()
    wrapped = wrap(net)
    x = torch.randn(4, 3, 8, 8)
    wrapped(x)
    switch(wrapped, "gn")
    torch.testing.assert_close(wrapped(x), net(x))
    assert [type(m).__name__ for m in net if "Norm" in type(m).__name__] == ["GroupNorm", "GroupNorm"]


@pytest.mark.parametrize("spec", ["sn", "ssn+ws", "gn", "bn", "bcn", "ibn", nn.BatchNorm2d])
@pytest.mark.parametrize(
    "make",
    [
        small_net,
        lambda: small_net(nn.InstanceNorm2d),
        lambda: small_net(torchvision.ops.FrozenBatchNorm2d),
        lambda: switch(small_net(), "sn"),
        lambda: nn.BatchNorm2d(4),
        lambda: nn.ModuleList([norm := nn.BatchNorm2d(4), norm]),
    ],
)
def test_new_parameters_are_those_that_an_optimizer_does_not_know(make, spec):
    net = make()
    before = {id(parameter) for parameter in net.parameters()}
    plan = plan_switch(net, spec)
    names = plan.new_parameters
    after = plan.apply()
    assert set(names) == {name for name, parameter in after.named_parameters() if id(parameter) not in before}
    assert plan.new_parameters == names
    assert ("make the optimizer after the switch" in str(plan)) is bool(names)


def test_a_switch_gives_layers_of_regions_no_ghost_batches():
    detector = torchvision.models.detection.fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None)
    before = list(detector.modules())
    message = r"layer 'roi_heads.box_head.0.1' sees regions .*; leave ghost out and call ghost\(model, samples\) after"
    with pytest.raises(InputError, match=message):
        switch(detector, "sn", ghost=2)
    assert list(detector.modules()) == before
    ghost(detector, 2)
    assert detector.backbone.body.bn1.ghost == 2
    assert detector.rpn.head.conv[0][0].bias is not None  # no norm, so nothing to group
    assert repr(detector.roi_heads.box_head[0][1].ghost) == "2 pictures"


def test_heads_that_see_pictures_take_ghost_batches():
    detector = torchvision.models.detection.retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, norm_layer=nn.BatchNorm2d
    )
    ghost(detector, 2)
    assert detector.backbone.body.bn1.ghost == 2
    cut = torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, norm_layer=nn.BatchNorm2d
    )
    ghost(cut, 2)


class Detector(nn.Module):
    """One of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.pool = self.pooler()

    def pooler(self):
        return nn.Identity()

    def forward(self, x, boxes):
        x = self.norm(self.conv(x))
        return self.head(self.cut(x, boxes))


class Operator(Detector):
    def cut(self, x, boxes):
        return torch.ops.torchvision.roi_align(x, boxes, 1.0, 3, 3, 2, False)


class Function(Detector):
    def cut(self, x, boxes):
        return roi_align(x, boxes, 3)


class Branch(Detector):
    """Tracing ends before the cut."""

    def cut(self, x, boxes):
        return torchvision.ops.ps_roi_pool(x, boxes, 3) if x.sum() > 0 else x


def helper(x, boxes):
    return roi_align(x, boxes, 3)


class Helped(Detector):
    def cut(self, x, boxes):
        return helper(x, boxes)


class PoolerLast(Detector):
    def pooler(self):
        return torchvision.ops.MultiScaleRoIAlign(["0"], 3, 2)

    def cut(self, x, boxes):
        return self.pool({"0": x}, boxes, [x.shape[-2:]])


class Extractor(nn.Module):
    """Cuts, and has no layers itself."""

    def forward(self, x, boxes):
        return roi_align(x, boxes, 3) if x.sum() > 0 else x


class Inside(Detector):
    def pooler(self):
        return nn.Sequential(Extractor())[0]

    def cut(self, x, boxes):
        return self.pool(x, boxes)


def test_layers_before_a_pool_see_pictures():
    net = ghost(PoolerLast(), 2)
    assert (net.norm.ghost, repr(net.head.ghost)) == (2, "2 pictures")
    with pytest.raises(InputError, match=r"layer 'head' sees regions .* call ghost\(model, samples\) after the switch"):
        switch(PoolerLast(), "sn", ghost=2)


@pytest.mark.parametrize("make", [Operator, Function, Branch, Helped, Inside])
def test_regions_are_never_grouped_whoever_cuts_them(make):
    for act in (lambda net: ghost(net, 2), lambda net: switch(net, "sn", ghost=2)):
        net = make()
        with pytest.raises(InputError, match="layer 'head' sees regions"):
            act(net)
        assert type(net.head) is nn.BatchNorm2d
    assert switch(make(), "sn", include="norm", ghost=2).norm.ghost == 2
    ghost(switch(make(), "gn", include="head"), 2)


def test_a_detector_that_no_graph_shows_is_refused_as_a_whole():
    class Loop(Detector):
        def forward(self, images, boxes):
            x = torch.cat([self.norm(self.conv(image[None])) for image in images])
            return self.head(roi_align(x, boxes, 3))

    with pytest.raises(InputError, match=r"'norm' sees .* or may see .*ghost\(model.backbone, 2\)"):
        ghost(Loop(), 2)
