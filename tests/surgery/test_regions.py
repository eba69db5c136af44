"""Ghost batches in the heads of detectors: the regions of so many pictures, whoever pools them."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.hooks import RemovableHandle
from torchvision.ops import MultiScaleRoIAlign, RoIAlign

from switchnorm import InputError, ghost, importance, switch, sync
from switchnorm.layers.regions import Regions
from switchnorm.surgery.pools import POOLS
from switchnorm.surgery.regions import find_regions
from tests.surgery.detectors import SIDE, WIDTH, mask_rcnn, outputs, pictures
from tests.surgery.nets import small_net


class Heads(nn.Module):
    """A pool and layers behind it, that see the regions of given maps."""

    def __init__(self, pool: nn.Module, norm: Any = nn.BatchNorm2d) -> None:
        super().__init__()
        self.pool = pool
        self.conv, self.norm = nn.Conv2d(WIDTH, WIDTH, 3), norm(WIDTH)

    def forward(self, features: Any, boxes: Any) -> Tensor:
        y: Tensor = self.norm(self.conv(self.pool(features, boxes)))
        return y


class Levels(MultiScaleRoIAlign):
    """Called with a map instead of a dictionary of maps, and by keywords inside."""

    def forward(self, features: Tensor, boxes: list[Tensor]) -> Tensor:
        pooled: Tensor = super().forward({"0": features}, boxes, [(SIDE, SIDE)] * len(boxes))
        return pooled


class Renamed(RoIAlign):
    """Whose calls are not understood."""

    def forward(self, maps: Tensor, where: Any) -> Tensor:
        pooled: Tensor = super().forward(maps, where)
        return pooled


def boxes_of(counts: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = [torch.rand(count, 2, generator=generator, dtype=torch.float64) * 20 for count in counts]
    return [torch.cat((corner, corner + 20), 1) for corner in corners]


def as_rois(boxes: list[Tensor]) -> Tensor:
    return torch.cat([torch.cat((each.new_full((len(each), 1), i), each), 1) for i, each in enumerate(boxes)])


def maps(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, WIDTH, SIDE // 4, SIDE // 4, generator=generator, dtype=torch.float64)


def alone(heads: Heads, features: Tensor, boxes: list[Tensor], pictures: int) -> Tensor:
    """What heads without ghost batches make of each group of pictures."""
    found = []
    for at in range(0, len(boxes), pictures):
        own = boxes[at : at + pictures]
        found.append(copy.deepcopy(heads)(features[at : at + pictures], own))
    return torch.cat(found)


COUNTS = [(3, 2, 0, 4, 5), (0, 0, 4), (0, 0, 0), (2, 0, 0)]


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("norm", ["bn", "sn", "ibn"])
@pytest.mark.parametrize("pool", [Levels(["0"], 4, 2), RoIAlign(4, 0.25, 2)], ids=["levels", "one map"])
def test_a_group_is_the_regions_of_its_pictures(pool: nn.Module, norm: str, counts: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    plain = switch(Heads(copy.deepcopy(pool)), norm).double()
    boxes, features = boxes_of(counts), maps(len(counts))
    parted = ghost(copy.deepcopy(plain), 2)
    expected = alone(plain, features, boxes, 2)
    torch.testing.assert_close(parted(features, boxes), expected, rtol=0, atol=1e-12)
    if isinstance(pool, RoIAlign):
        torch.testing.assert_close(parted(features, as_rois(boxes)), expected, rtol=0, atol=1e-12)
    plain.eval()
    parted.load_state_dict(plain.state_dict())
    torch.testing.assert_close(parted.eval()(features, boxes), plain(features, boxes), rtol=0, atol=0)


def test_pictures_without_regions_at_the_end_are_counted() -> None:
    heads = ghost(Heads(RoIAlign(4, 0.25, 2)).double(), 1)
    heads(maps(4), as_rois(boxes_of((2, 3, 0, 0))))
    # Of four processes two would move their running statistics by a tenth.
    torch.testing.assert_close(heads.norm.running_var, 1 + 0.05 * (heads_var(heads) - 1), rtol=0, atol=1e-12)


def heads_var(heads: Heads) -> Tensor:
    found = []
    for at, own in enumerate(boxes_of((2, 3))):
        with torch.no_grad():
            x = heads.conv(heads.pool(maps(4)[at : at + 1], [own]))
        found.append(x.transpose(0, 1).flatten(1).var(1))
    return torch.stack(found).mean(0)


def test_regions_in_no_order_and_those_that_nobody_pooled_are_refused() -> None:
    heads = ghost(Heads(RoIAlign(4, 0.25, 2)).double(), 2)
    with pytest.raises(InputError, match="a layer sees 3, and none were pooled before; call the module that pools"):
        heads.norm(torch.randn(3, WIDTH, 2, 2, dtype=torch.float64))
    rois = as_rois(boxes_of((1, 2)))
    with pytest.raises(InputError, match=r"boxes \(K, 5\) in the order of pictures"):
        heads(maps(2), rois.flip(0))
    with pytest.raises(InputError, match="a layer sees 2, and those that were pooled last are 3"):
        heads.norm(torch.randn(2, WIDTH, 2, 2, dtype=torch.float64))
    # Evaluation asks nobody.
    heads.eval()(maps(2), rois.flip(0))


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize("norm", ["bn", "sn"])
def test_a_detector_takes_and_loses_ghost_batches(norm: str) -> None:
    model = switch(mask_rcnn(), norm)
    before = copy.deepcopy(model)
    ghost(ghost(model, 2), 3)
    heads = {name: m.ghost for name, m in model.named_modules() if isinstance(getattr(m, "ghost", None), Regions)}
    assert {name.split(".")[1] for name in heads} == {"box_head", "mask_head"}
    assert len({id(regions) for regions in heads.values()}) == 1
    assert hooks(model) == 2
    assert model.backbone.stem[1].ghost == 3
    assert "ghost=3 pictures" in str(model.roi_heads.box_head)
    batch = pictures(5, empty=(3, 4))
    seen: list[Tensor] = []
    handle = model.roi_heads.mask_head.register_forward_pre_hook(lambda _, args: seen.extend(args))
    grouped = outputs(model, *batch)
    handle.remove()
    assert heads["roi_heads.mask_head.0.1"].sizes(*seen) == (len(seen[0]), 0)
    assert len(seen[0]) >= 6

    ghost(model, None)
    assert hooks(model) == 0
    assert {getattr(m, "ghost", None) for m in model.modules()} == {None}
    model.load_state_dict(before.state_dict())
    again, expected = outputs(model, *batch), outputs(before, *batch)
    torch.testing.assert_close(again, expected, rtol=0, atol=0)
    assert not torch.allclose(grouped["classes"], expected["classes"])


def test_copies_and_pickles_go_by_their_own_regions() -> None:
    model = ghost(switch(mask_rcnn(), "sn"), 2)
    batch = pictures(3)
    state = copy.deepcopy(model.state_dict())
    expected = outputs(model, *batch)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(buffer, weights_only=False),
    ):
        assert other.roi_heads.box_head[0][1].ghost is other.roi_heads.mask_head[0][1].ghost
        assert other.roi_heads.box_head[0][1].ghost is not model.roi_heads.box_head[0][1].ghost
        other.load_state_dict(state)
        outputs(model, *pictures(1))  # the original sees other pictures, which is nothing to the copy
        torch.testing.assert_close(outputs(other, *batch), expected, rtol=0, atol=0)
        assert hooks(ghost(other, None)) == 0


def test_a_hook_in_another_process_replaces_none_that_a_pickle_brought(monkeypatch: pytest.MonkeyPatch) -> None:
    original = ghost(Heads(RoIAlign(4, 0.25, 2)).double(), 1)
    saved = pickle.dumps(original)
    monkeypatch.setattr(RemovableHandle, "next_id", next(iter(original.pool._forward_hooks)))  # as elsewhere
    heads = pickle.loads(saved)
    heads.pool.register_forward_hook(lambda *_: None)
    assert hooks(heads) == 2
    heads(maps(2), boxes_of((2, 3)))


def test_a_switch_keeps_ghost_batches_by_picture() -> None:
    model = switch(ghost(mask_rcnn(), 2), "sn")
    other = ghost(switch(mask_rcnn(), "sn"), 2)
    other.load_state_dict(model.state_dict())
    batch = pictures(3)
    torch.testing.assert_close(outputs(model, *batch), outputs(other, *batch), rtol=0, atol=0)
    with pytest.raises(InputError, match="it has ghost batches, which 'bcn' does not support"):
        switch(model, "bcn")
    switch(model, "gn", include="roi_heads.*")
    assert not any(isinstance(getattr(m, "ghost", None), Regions) for m in model.modules())
    outputs(model, *batch)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_heads_find_the_regions_of_their_pass(reentrant: bool) -> None:
    gradients = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        heads = ghost(Heads(RoIAlign(4, 0.25, 2)).double(), 1)
        conv, norm = heads.conv, heads.norm
        features = maps(3).requires_grad_()
        loss = torch.zeros((), dtype=torch.float64)
        # The second pass has as many regions less one, the third as many as the first, of the same pictures.
        for counts in ((1, 4, 2), (2, 1, 3), (1, 4, 2)):
            pooled = heads.pool(features, boxes_of(counts))
            run = nn.Sequential(conv, norm)
            y = checkpoint(run, pooled, use_reentrant=reentrant) if checkpointed else run(pooled)
            loss = loss + y.sin().sum()
        loss.backward()
        gradients.append([features.grad, *(p.grad for p in heads.parameters())])
        for parameter in heads.parameters():
            parameter.grad = None
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_checkpointed_heads_of_passes_that_cannot_be_told_apart_are_refused() -> None:
    heads = ghost(Heads(RoIAlign(4, 0.25, 2)).double(), 1)
    features = maps(2).requires_grad_()
    run = nn.Sequential(heads.conv, heads.norm)
    losses = []
    for counts in ((3, 2), (1, 4)):
        losses.append(checkpoint(run, heads.pool(features, boxes_of(counts)), use_reentrant=False).sin().sum())
    with pytest.raises(InputError, match="5 regions again, and 2 divisions of these among pictures are known"):
        (losses[0] + losses[1]).backward()
    # With the pooling inside all is known.
    loss = torch.zeros((), dtype=torch.float64)
    for counts in ((3, 2), (1, 4)):
        loss = loss + checkpoint(heads, features, boxes_of(counts), use_reentrant=False).sin().sum()
    loss.backward()
    assert features.grad is not None


def test_a_compiled_body_changes_nothing() -> None:
    torch.compiler.reset()
    model = ghost(switch(mask_rcnn(), "sn"), 2)
    other = copy.deepcopy(model)
    other.backbone.compile(backend="eager")
    batch = pictures(3)
    torch.testing.assert_close(outputs(model, *batch), outputs(other, *batch))


def test_heads_each_with_a_pool_go_by_their_own() -> None:
    model = nn.ModuleDict({"box": Heads(RoIAlign(4, 0.25, 2)), "mask": Heads(RoIAlign(5, 0.25, 2))}).double()
    found = find_regions(model)
    assert [(len(each.pools), each.layers) for each in found] == [(1, ("box.norm",)), (1, ("mask.norm",))]
    ghost(model, 1)
    assert model["box"].norm.ghost is not model["mask"].norm.ghost
    pooled = [model[name].pool(maps(2), boxes_of(counts)) for name, counts in (("box", (2, 3)), ("mask", (0, 1)))]
    for name, regions, sizes in zip(("box", "mask"), pooled, ((2, 3), (0, 1)), strict=True):
        model[name].norm(model[name].conv(regions))
        assert model[name].norm.ghost.sizes(regions) == sizes


def test_what_is_not_understood_is_refused_before_anything_changes() -> None:
    for pool in (Renamed(4, 0.25, 2), nn.Sequential(Renamed(4, 0.25, 2))):
        heads = Heads(pool)
        with pytest.raises(InputError, match=r"layer 'norm' sees regions .*MultiScaleRoIAlign or RoIAlign, switch it"):
            ghost(heads, 2)
        assert type(heads.norm) is nn.BatchNorm2d
        assert hooks(heads) == 0
    # Understood beside not understood.
    both = nn.ModuleList([Heads(RoIAlign(4, 0.25, 2)), Heads(Renamed(4, 0.25, 2))])
    with pytest.raises(InputError, match="sees regions of pictures"):
        ghost(both, 2)
    with pytest.raises(InputError, match=r"ghost takes how many samples a group has, got \(3, 2\)"):
        ghost(both, (3, 2))


def test_the_pools_that_are_known_are_torchvisions() -> None:
    for name, boxes in POOLS.items():
        kind = getattr(torchvision.ops, name.rpartition(".")[2])
        assert f"{kind.__module__}.{kind.__qualname__}" == name
        assert boxes in kind.forward.__code__.co_varnames


def test_models_without_regions_get_no_hooks() -> None:
    assert hooks(ghost(small_net(), 2)) == 0


def test_importance_and_synchronisation_of_a_detector() -> None:
    model = switch(mask_rcnn(), "sn")
    assert [row.layer for row in importance(model)][-4:] == [
        f"roi_heads.{part}_head.{i}.1" for part in ("box", "mask") for i in (0, 1)
    ]
    with pytest.raises(InputError, match="has ghost batches, which excludes sync; call ghost"):
        sync(ghost(model, 2))
    with pytest.raises(InputError, match="synchronises its statistics, which excludes ghost"):
        ghost(sync(ghost(model, None)), 2)
