"""Arguments are checked when a layer is made and when they are set later; what a file holds is taken."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import switchnorm
from switchnorm.errors import InputError
from switchnorm.layers import BatchNorm2d, GroupNorm, InstanceBatchNorm2d, Spec, SwitchNorm2d, norm_names

NAMES = norm_names()
WRONG: list[tuple[str, Any, str]] = [
    ("eps", 0, "eps 0 is no finite number above 0"),
    ("eps", -1.0, "eps -1.0 is no finite number above 0; PyTorch's is 1e-05"),
    ("eps", math.nan, "eps nan"),
    ("eps", math.inf, "eps inf"),
    ("eps", "1e-5", "eps '1e-5'"),
    ("eps", True, "eps True"),
    ("momentum", 2, "momentum 2 is outside .* the nearest valid number is 1"),
    ("momentum", -0.1, "momentum -0.1 is outside .* the nearest valid number is 0"),
    ("momentum", math.nan, "momentum nan is no number"),
    ("momentum", "0.1", "momentum '0.1' is no number"),
    ("momentum", True, "momentum True is no number"),
    ("ghost", 0, "ghost batches of 0 samples are impossible; the nearest valid size is 1"),
    ("ghost", 1.5, "ghost batches of 1.5 samples are impossible; the nearest valid size is 2"),
    ("ghost", True, "ghost batches of True samples"),
    ("ghost", "2", "ghost batches of '2' samples"),
    (
        "ghost",
        np.array([2, 3]),
        r"of sizes array\(\[2, 3\]\) are impossible; the nearest valid ones are \(2, 3\), in a tuple",
    ),
    ("ghost", torch.tensor([0, 3]), r"of sizes tensor\(\[0, 3\]\) are impossible; .* \(0, 3\), in a tuple"),
    ("ghost", np.array([2.5, 3]), r"of sizes array\(\[2.5, 3. \]\) are impossible; expected whole numbers, in a tuple"),
    ("ghost", torch.tensor(3), r"ghost batches of tensor\(3\) samples are impossible; the nearest valid size is 3"),
    ("ghost", torch.empty((), device="meta"), "ghost batches of tensor.* the nearest valid size is 1"),
    ("dtype", torch.int64, "dtype torch.int64 is no dtype of real numbers"),
    ("dtype", torch.complex64, "dtype torch.complex64"),
    ("dtype", "float32", "dtype 'float32'"),
    ("activation", 3, "activation 3 is unknown"),
    ("sync", "no", "sync 'no' is no process group; the nearest are True, for all processes, and False"),
    ("affine", "no", "affine must be true or false, got 'no'"),
    ("track_running_stats", "no", "track_running_stats must be true or false, got 'no'"),
]


@pytest.mark.parametrize(("option", "value", "message"), WRONG, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_wrong_arguments_are_refused_in_one_line(name: str, option: str, value: Any, message: str) -> None:
    norm = Spec.parse(name).registration
    if option not in norm.takes().names:
        return
    with pytest.raises(InputError, match=message) as error:
        norm.layer(4, **{option: value})
    assert "\n" not in str(error.value)
    if option in ("eps", "momentum", "ghost"):
        layer = norm.layer(4)
        before = getattr(layer, option)
        with pytest.raises(InputError, match=message):
            setattr(layer, option, value)
        assert getattr(layer, option) == before


@pytest.mark.parametrize("channels", [0, -1, 1.5, True, "4", None, math.nan])
@pytest.mark.parametrize("name", NAMES)
def test_channels_are_whole_numbers_from_1_on(name: str, channels: Any) -> None:
    with pytest.raises(InputError, match=r"channels are impossible; the nearest valid size is [12]$"):
        Spec.parse(name).layer(channels)


def test_groups_and_instance_channels() -> None:
    for groups in (0, 1.5, True, "2", -2):
        with pytest.raises(InputError, match="groups are impossible; the nearest valid size is"):
            GroupNorm(groups, 4)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="3 groups do not divide 4 channels; the nearest group counts are 2 or 4"):
        GroupNorm(3, 4)
    for spec in ("gn", "bcn"):
        with pytest.raises(InputError, match=r"1.5 groups are no whole number"):
            Spec.parse(spec).registration.layer(4, groups=1.5)
    for channels in (1.5, True, "2"):
        with pytest.raises(InputError, match="instance channels are impossible"):
            InstanceBatchNorm2d(4, instance_channels=channels)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers() -> None:
    layer = SwitchNorm2d(np.int64(4), eps=np.float32(1e-3), momentum=np.float64(0.5), ghost=np.int64(2))
    assert layer(torch.randn(4, 4, 3, 3)).shape == (4, 4, 3, 3)
    assert GroupNorm(np.int64(2), np.int64(4)).num_groups == 2


def test_positions_of_arguments_are_those_of_torch() -> None:
    assert repr(BatchNorm2d(3, 1e-3, 0.2, False, False, "cpu", torch.float64)) == repr(
        nn.BatchNorm2d(3, 1e-3, 0.2, False, False, "cpu", torch.float64)
    )
    assert GroupNorm(2, 4, 1e-3, True, "cpu", torch.float64).weight.dtype == torch.float64


def test_what_was_pickled_with_other_rules_is_loaded() -> None:
    layer = SwitchNorm2d(4)
    vars(layer)["eps"] = 0
    assert pickle.loads(pickle.dumps(layer)).eps == 0


def test_inputs_of_other_devices_and_kinds() -> None:
    with pytest.raises(InputError, match="an input on cpu meets parameters on meta"):
        SwitchNorm2d(4, device="meta")(torch.randn(2, 4, 3, 3))
    with pytest.raises(InputError, match=r"a residual must be a tensor of real numbers .* got int64"):
        SwitchNorm2d(4)(torch.randn(2, 4, 3, 3), torch.ones(2, 4, 3, 3, dtype=torch.long))
    with pytest.raises(InputError, match=r"an input must be a tensor of real numbers .* got NoneType"):
        BatchNorm2d(4)(None)


def test_models_and_normalizations_that_are_none() -> None:
    with pytest.raises(InputError, match=r"switch takes a torch\.nn\.Module, got NoneType"):
        switchnorm.switch(None, "sn")
    with pytest.raises(InputError, match="norm None is no name"):
        switchnorm.switch(nn.BatchNorm2d(3), None)
    with pytest.raises(InputError, match=r"ghost batches of 1\.5 samples"):
        switchnorm.ghost(nn.BatchNorm2d(3), 1.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SwitchNorm2d(8, {"instance", "layer"}), r"statistics \{.*\} is no list of names; one is \['instance'"),
        (lambda: SwitchNorm2d(8, iter(("layer", "batch"))), "statistics .* is no list of names"),
        (lambda: SwitchNorm2d(8, None), "statistics None is no list of names"),
        (lambda: SwitchNorm2d(8, [1, 2]), "statistic 1 is no name; choose from 'instance'"),
        (lambda: switchnorm.set_radius(nn.BatchNorm2d(8), "1"), "radius '1' is no number; those from 0 to 1 are valid"),
        (lambda: switchnorm.set_radius(nn.BatchNorm2d(8), torch.ones(2)), "radius tensor.* is no number"),
        (lambda: switchnorm.calibrate(nn.BatchNorm2d(8), torch.ones(2, 8, 3, 3)), r"got Tensor; give \[batch\]"),
        (lambda: switchnorm.calibrate(nn.BatchNorm2d(8), {"x": 1}), r"got dict; give \[batch\]"),
        (
            lambda: switchnorm.switch(nn.BatchNorm2d(8), "sn", include=lambda name: True),
            "include is called with a name",
        ),
        (lambda: switchnorm.load_published(None, "a.pth"), "load_published takes a torch.nn.Module, got NoneType"),
        (lambda: switchnorm.load_published(nn.BatchNorm2d(8), None), "checkpoint None is no path"),
        (lambda: switchnorm.export(nn.BatchNorm2d(8), None), "path None is no path; give the file's name as text"),
        (lambda: switchnorm.push(nn.BatchNorm2d(8), None), "name None is no text; a repository is called as org/name"),
        (lambda: switchnorm.push(nn.BatchNorm2d(8), "a/b", to=3), "to 3 is no path"),
    ],
)
def test_what_is_no_argument_at_all_is_refused_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
