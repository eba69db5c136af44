"""The table of published checkpoints: complete, consistent, and the one in the documentation."""

import re
from pathlib import Path

import pytest
import torch

from switchnorm.errors import InputError
from switchnorm.models import create_model, list_models
from switchnorm.weights import PUBLISHED, published

PAGE = Path(__file__).parents[2] / "docs/checkpoints.md"
CLASSIFIERS, DETECTORS = ([c for c in PUBLISHED if (c.box_ap is None) == are] for are in (True, False))
SUMS = {
    32: "5c9fb111577b040e62461db51ffce69b",
    16: "d7085632529a9b1945a28a4d3bf4cacb",
    8: "af85a39920644421fc48e216aba6ff0e",
    4: "949d4bd54a7c63a3371b941eb4d3ea69",
    2: "dadb0f1a0c49c31aedd6cb83d4996a03",
}


def test_every_published_checkpoint_is_there():
    by_norm = {norm: [c for c in CLASSIFIERS if c.norm == norm] for norm in ("sn", "ssn", "gn+ws")}
    assert sorted(c.network for c in by_norm["sn"]) == (
        ["resnetv1sn101"] + ["resnetv1sn50"] * 4 + ["resnetv2sn101", "resnetv2sn50"]
    )
    assert sorted(c.geometry for c in by_norm["sn"] if c.network == "resnetv1sn50") == [
        (8, 1),
        (8, 4),
        (8, 32),
        (8, 32),
    ]
    assert {c.geometry: c.md5 for c in by_norm["ssn"]} == {(8, samples): md5 for samples, md5 in SUMS.items()}
    assert [c.network for c in by_norm["gn+ws"]] == ["l_resnet50", "l_resnet101", "l_resnext50", "l_resnext101"]
    assert sum(map(len, by_norm.values())) == len(CLASSIFIERS) == 16
    assert {c.name: (c.network, c.geometry, c.box_ap, c.mask_ap) for c in DETECTORS} == {
        "faster_resnet50_c4_sn": ("resnet50_c4+faster", (8, 2), 0.3807, None),
        "faster_resnet50_fpn_sn": ("resnet50_fpn+faster_2fc", (8, 2), 0.3910, None),
        "faster_resnet50_fpn_sn_8x1": ("resnet50_fpn+faster_2fc", (8, 2), 0.3899, None),
        "mask_resnet50_fpn_sn_8x1": ("resnet50_fpn+mask_4conv1fc", (8, 2), 0.4101, 0.3612),
    }


def test_names_files_and_sums_tell_checkpoints_apart():
    for values in (
        [c.name for c in PUBLISHED],
        [c.file for c in PUBLISHED if c.file],
        [c.md5 for c in PUBLISHED if c.md5],
    ):
        assert len(set(values)) == len(values)
    assert all(re.fullmatch(r"[0-9a-f]{32}", c.md5) for c in PUBLISHED if c.md5)


def test_networks_are_in_the_registry():
    assert {c.network for c in PUBLISHED} <= set(list_models())


def test_those_of_one_sample_per_gpu_go_without_the_batch_statistic():
    """The detectors are trained at two pictures, but begin with a classifier of one."""
    assert [c.name for c in CLASSIFIERS if not c.using_bn] == ["resnetv1sn50-8x1"]
    assert [c.name for c in DETECTORS if not c.using_bn] == ["faster_resnet50_fpn_sn_8x1", "mask_resnet50_fpn_sn_8x1"]
    assert published("resnetv1sn50-8x1").statistics == ("instance", "layer")
    assert published("resnetv1ssn50-8x2").statistics == ("instance", "layer", "batch")
    assert published("l_resnet50").statistics is None


def test_accuracies_are_fractions():
    assert all(0.7 < c.top1 < 0.8 and 0.92 < c.top5 < 0.97 for c in CLASSIFIERS)


def test_detectors_compute_as_published():
    assert all(c.options["boxes"] == "published" for c in DETECTORS)
    assert [c.name for c in DETECTORS if c.options.get("published_eval")] == ["faster_resnet50_fpn_sn"]
    for checkpoint in DETECTORS:
        with torch.device("meta"):
            create_model(checkpoint.network, norm=checkpoint.norm, **checkpoint.options)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(InputError, match="did you mean 'resnetv1ssn50-8x2'"):
        published("resnetv1ssn50-8x22")


def test_the_page_has_the_same_table():
    tables = [[cell.strip().strip("`") for cell in row.split("|")[1:-1]] for row in PAGE.read_text().splitlines()]
    rows = [row for row in tables if len(row) == 8 and row[0] not in ("name", "---")]
    assert rows == [
        [
            c.name,
            c.network,
            str(c.geometry or "any"),
            ", ".join(c.statistics or ()),
            f"{100 * c.top1:.2f}",
            f"{100 * c.top5:.2f}",
            c.file or "",
            c.md5 or "",
        ]
        for c in CLASSIFIERS
    ]
    detectors = [row for row in tables if len(row) == 7 and row[0].startswith(("faster_", "mask_"))]
    assert detectors == [
        [
            c.name,
            c.network,
            str(c.geometry),
            ", ".join(c.statistics or ()),
            f"{100 * c.box_ap:.2f}",
            "" if c.mask_ap is None else f"{100 * c.mask_ap:.2f}",
            c.file,
        ]
        for c in DETECTORS
    ]
    assert all(c.source in PAGE.read_text() for c in PUBLISHED)
