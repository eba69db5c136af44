"""Detectors and networks of segmentation that are spread over processes (FSDP2), and networks of many kinds."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from switchnorm.models import create_model, list_models, task_of
from switchnorm.runs.folder import RunFolder
from switchnorm.training.evaluate import evaluate
from switchnorm.training.sharding import units
from tests.contracts.test_sweep import tensors
from tests.models.detection.pictures import objects, pictures
from tests.training import test_segmentation
from tests.training.objects import write_objects
from tests.training.test_detection import CONFIG
from tests.training.test_process_statistics import on_processes
from tests.training.test_resume import CLOCK
from tests.training.test_sharding import assert_trained_alike, checkpoint


def detection(folder: Path) -> Path:
    root = write_objects(folder / "objects", {"train": 8, "val": 3})
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "data": {**CONFIG["data"], "root": str(root)}}))
    return path


def masks(folder: Path) -> Path:
    """With a mask head, which some of the processes have no object for."""
    path = detection(folder)
    content = yaml.safe_load(path.read_text())
    content["model"]["name"] = "resnet18_fpn16+mask_4conv1fc"
    content["data"]["masks"] = True
    path.write_text(yaml.safe_dump(content))
    return path


#: What writes a recipe of two epochs, and a step in the middle of the second or, of two steps, at its end.
TASKS = {"detection": (detection, 3), "masks": (masks, 3), "segmentation": (test_segmentation.write_recipe, 4)}
NORMS = ("sn", "ssn", "bn", "bn+ws")
DAILY = {("detection", "sn"), ("segmentation", "ssn")}


@pytest.mark.parametrize(
    ("task", "norm"),
    [
        pytest.param(task, norm, marks=() if (task, norm) in DAILY else pytest.mark.sweep)
        for task in TASKS
        for norm in NORMS
    ],
)
def test_a_spread_network_trains_as_a_whole_one_and_goes_on_bit_for_bit(tmp_path, task, norm):
    write, step = TASKS[task]
    recipe, runs = write(tmp_path), tmp_path / "runs"
    flags = ("--norm", norm, "--precision", "64", "--samples-per-gpu", "null")
    spread = (*flags, "--train.strategy", "fsdp")
    cases = {"whole": flags, "spread": spread, "killed": (*spread, "--train.checkpoint_minutes", "0")}
    on_processes(runs, 2, recipe, cases, step)
    assert not RunFolder(runs / "killed").finished()
    on_processes(runs, 2, recipe, {"killed": cases["killed"]})
    assert_trained_alike(runs / "whole", runs / "spread")
    assert_measured_alike(runs / "whole", runs / "spread")
    assert_equal(runs / "spread", runs / "killed")
    # One process, which knows nothing of shares, opens the checkpoint, and finds what two found as they trained.
    run = RunFolder(runs / "spread")
    last = run.metrics()[-1]
    for name, value in evaluate(run, run.last).metrics.items():
        assert value == pytest.approx(float(last[name]), rel=1e-6), name


def assert_measured_alike(whole: Path, spread: Path) -> None:
    """The same metrics, but for the order of sums over processes."""
    for row, other in zip(RunFolder(whole).metrics(), RunFolder(spread).metrics(), strict=True):
        for name in row.keys() - {CLOCK}:
            assert float(other[name] or 0) == pytest.approx(float(row[name] or 0), rel=1e-6), name


def assert_equal(one: Path, other: Path) -> None:
    """The same bits."""
    mine, theirs = checkpoint(one), checkpoint(other)
    assert [key for key, value in mine["state_dict"].items() if not torch.equal(value, theirs["state_dict"][key])] == []
    states = [each["optimizer_states"][0]["state"] for each in (mine, theirs)]
    for number, entries in states[0].items():
        assert torch.equal(entries["momentum_buffer"], states[1][number]["momentum_buffer"]), number
    for row, same in zip(RunFolder(one).metrics(), RunFolder(other).metrics(), strict=True):
        assert {**row, CLOCK: ""} == {**same, CLOCK: ""}


@pytest.fixture
def mesh(tmp_path):
    """This process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


#: Small networks of many kinds; the daily ones are of those whose parts are called several times, or by others.
NETWORKS = {
    "resnet18_fpn16+retina": True,
    "resnet18+upernet_lite": True,
    "cifar_preresnet20": True,
    "resnetv2sn18": True,
    "resnet18_fpn16+fcos": False,
    "resnet18_fpn16+mask_4conv1fc": False,
    "lraspp_mobilenet_v3_large": False,
    "cifar_densenet100_12": False,
    "efficientnet_b0": False,
    "googlenet": False,
    "mobilenet_v3_small": False,
    "regnet_y_400mf": False,
    "shufflenet_v2_x0_5": False,
    "densenet121": False,
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if d else pytest.mark.sweep) for n, d in NETWORKS.items()])
def test_every_kind_of_network_has_the_gradients_of_the_whole_one(mesh, name):
    torch.manual_seed(0)
    whole = create_model(name, num_classes=3).double().train()
    spread = copy.deepcopy(whole)
    for part in (*units(spread), spread):
        fully_shard(part, mesh=mesh)
    for network in (whole, spread):
        torch.manual_seed(1)
        loss(network, task_of(name)).backward()
    for (key, mine), theirs in zip(whole.named_parameters(), spread.parameters(), strict=True):
        assert isinstance(theirs, DTensor), key
        assert (mine.grad is None) == (theirs.grad is None), key
        if mine.grad is not None:
            # What several levels of a pyramid pass through is summed in another order.
            torch.testing.assert_close(
                theirs.grad.full_tensor(), mine.grad, rtol=1e-8, atol=1e-10, msg=lambda said, key=key: f"{key}: {said}"
            )


def test_networks_of_each_task_are_among_them():
    assert {task_of(name) for name in NETWORKS} == {task_of(name) for name in list_models()}


def loss(network: nn.Module, task: str) -> torch.Tensor:
    """One for two pictures, that reaches all parameters which training reaches."""
    if task == "detection":
        images = [image.double() for image in pictures((96, 96), (96, 96))]
        targets = [objects((96, 96), count, 2, seed) for count, seed in ((2, 1), (1, 2))]
        targets = [{**each, "boxes": each["boxes"].double(), "size": torch.tensor([96, 96])} for each in targets]
        return torch.stack([*network(images, targets).values()]).sum()
    return sum((each**2).mean() for each in tensors(network(torch.randn(2, 3, 64, 64, dtype=torch.float64))))
